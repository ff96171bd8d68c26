//! The last line of defence: a PID 1 that dies panics the kernel, so a fault in it powers off instead.

use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signals a process gets for its own faults; `SIGABRT` is what a failed allocation ends in.
const FAULTS: [Signal; 5] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT];

/// Powers off when this process faults. To be called once, by PID 1, before threads are started.
///
/// # Errors
/// Those of `sigaction(2)`.
pub(crate) fn power_off_on_crash() -> nix::Result<()> {
    // The standard library has given every thread an alternate stack, for stack overflows of its own reporting.
    let action = SigAction::new(SigHandler::Handler(crashed), SaFlags::SA_ONSTACK, SigSet::all());
    for signal in FAULTS {
        // SAFETY: the handler calls nothing but async-signal-safe functions and never returns.
        unsafe { sigaction(signal, &action) }?;
    }
    let mut faults = SigSet::empty();
    faults.extend(FAULTS);
    faults.thread_unblock()
}

extern "C" fn crashed(signal: libc::c_int) {
    let mut text = *b"guest-init: killed by its own fault, signal 00; powering off\n";
    let digit = |number: libc::c_int| u8::try_from(number % 10).map_or(b'?', |digit| b'0' + digit);
    // The place of the two zeroes in the text.
    text[44] = digit(signal / 10);
    text[45] = digit(signal);
    // SAFETY: the pointer and the length are those of a live array. Nothing is left to do about a failure.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    // SAFETY: sync takes nothing and is async-signal-safe.
    unsafe { libc::sync() };
    let _ = reboot(RebootMode::RB_POWER_OFF);
    loop {
        // SAFETY: pause takes nothing. Returning would run into the same fault again.
        unsafe { libc::pause() };
    }
}
