//! The end of the VM: processes, then file systems, then power. Each step has a deadline, and a thread stands by that
//! powers off when all of them together do not come to an end.

mod file_systems;
mod processes;

use std::os::fd::OwnedFd;
use std::time::Duration;

use firstlight_protocol::sentinel::Event;
use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};

use crate::error::Fault;
use crate::report::Reporter;
use crate::supervise::Remains;
use crate::sys;
use crate::wait::{Deadline, poll};

/// How long the whole teardown may take. Writing back a large and slow disk takes most of it; a file system whose disk
/// does not answer would take for ever.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(90);

/// Ends everything and powers off.
pub(crate) fn run(remains: &Remains, initramfs: &OwnedFd, reporter: &Reporter) -> ! {
    // A boot that was stopped before it was told of is told of first: what follows may take long.
    let _ = reporter.tell();
    stand_by(reporter.clone());
    processes::end_all(remains);
    file_systems::unmount_all(initramfs);
    reporter.emit(Event::PowerOff);
    reporter.flush();
    power_off()
}

/// Ends what systemd has left of the VM below `old_root`, and powers off. Its processes are gone.
pub(crate) fn end_below(old_root: &str, reporter: &Reporter) -> ! {
    stand_by(reporter.clone());
    file_systems::unmount_below(old_root);
    reporter.emit(Event::PowerOff);
    reporter.flush();
    power_off()
}

/// Powers off when the teardown does not.
fn stand_by(reporter: Reporter) {
    let watch = move || {
        // Nothing to wait for but the time.
        let _ = poll(&mut [], Some(Deadline::after(TEARDOWN_TIMEOUT)));
        let error = format!("the teardown did not end within {} s", TEARDOWN_TIMEOUT.as_secs());
        reporter.fatal("teardown", &Fault { errno: Some(Errno::ETIMEDOUT), path: None, error });
        reporter.flush();
        power_off()
    };
    // Without the thread there is no such bound; the steps' own still hold.
    let _ = sys::spawn(watch);
}

/// A panic is a bug, and a PID 1 that ends by one panics the kernel; it ends as every other failure does instead.
pub(crate) fn end_on_panic(reporter: Reporter) {
    std::panic::set_hook(Box::new(move |panic| {
        reporter.emergency("panic", &panic.to_string());
        power_off()
    }));
}

/// Powers the machine off, whatever state it is in. Never returns, since PID 1 must not.
pub(crate) fn power_off() -> ! {
    loop {
        // It returns only when it is refused, to a process that is not root in the first namespace.
        let _ = reboot(RebootMode::RB_POWER_OFF);
        let _ = poll(&mut [], Some(Deadline::after(Duration::from_secs(1))));
    }
}
