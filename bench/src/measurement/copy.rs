//! One large file into the guest and out of it, beside the same number of bytes over bare vsock from memory to memory.

use std::path::Path;

use super::{Context, ratio_of};
use crate::contest::{Contender, Outcome, Unit, hold, timed, timed_command};
use crate::guest::{NAME, PLACE, host_ctl_into, into};
use crate::report::{Section, Target};

/// Bytes that are copied.
const BYTES: usize = 64 << 20;

/// Rounds for each repetition: a copy takes half a second, or up to twice as long when the machine is busy, which the median
/// of a few does not even out. Those who take ten seconds for each end sooner.
const ROUNDS: usize = 2;

/// The file, in the guest and in the directory that is copied from here.
const IN_GUEST: &str = "/large";
const FILE: &str = "file";

/// How much of bare vsock's throughput a copy is to have.
const SHARE: Target = Target::AtLeast(0.8);

const BARE_IN: &str = "in: bare vsock";
const BARE_OUT: &str = "out: bare vsock";
const CP_IN: &str = "in: host-ctl cp";
const CP_OUT: &str = "out: host-ctl cp";
const SYNC_IN: &str = "in: host-ctl sync";
const SCP_IN: &str = "in: scp";
const SCP_OUT: &str = "out: scp";
const RSYNC_IN: &str = "in: rsync";
const RSYNC_OUT: &str = "out: rsync";
const QEMU_GA_IN: &str = "in: qemu-guest-agent, guest-file-write";

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let dir = context.lab.path("large");
    make_files(context, &dir);
    let mut contenders = into_the_guest(context, &dir);
    contenders.extend(out_of_the_guest(context));
    let figures = hold(contenders, context.runs * ROUNDS, Unit::Megabytes(BYTES));
    let checks = vec![
        ratio_of(&figures, CP_IN, BARE_IN, SHARE),
        ratio_of(&figures, CP_OUT, BARE_OUT, SHARE),
        ratio_of(&figures, SYNC_IN, BARE_IN, Target::Open),
        ratio_of(&figures, CP_IN, SCP_IN, Target::AtLeast(1.0)),
        ratio_of(&figures, CP_OUT, SCP_OUT, Target::AtLeast(1.0)),
        ratio_of(&figures, SYNC_IN, RSYNC_IN, Target::AtLeast(1.0)),
        ratio_of(&figures, CP_IN, QEMU_GA_IN, Target::AtLeast(1.0)),
    ];
    Section {
        name: "copy",
        title: "A file of 64 MiB",
        text: "Into the memory of one Debian guest, and out of it. Bare vsock moves as many bytes from memory to memory, with \
               nothing of ours on it."
            .to_owned(),
        figures,
        checks,
    }
}

fn make_files(context: &Context, dir: &Path) {
    let made = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(dir.join(FILE), vec![b'x'; BYTES]));
    made.unwrap_or_else(|error| panic!("cannot fill {}: {error}", dir.display()));
    let _ = context.in_guest(&format!("head -c {BYTES} /dev/zero >{IN_GUEST}"));
}

fn into_the_guest<'a>(context: &'a Context, dir: &Path) -> Vec<Contender<'a>> {
    let (guest, lab) = (context.guest(), &context.lab);
    let library = &guest.library;
    let file = || dir.join(FILE);
    let (cp, sync, scp, rsync) = (file(), dir.to_path_buf(), file(), file());
    let target = format!("{NAME}:{PLACE}");
    let sync_target = format!("{NAME}:{PLACE}/sync");
    vec![
        Contender::new(BARE_IN, || library.timed(library.bare_in(BYTES))),
        Contender::new(CP_IN, move || host_ctl_into(lab, &["cp", &cp.to_string_lossy(), &target])),
        Contender::new(SYNC_IN, move || host_ctl_into(lab, &["sync", &sync.to_string_lossy(), &sync_target])),
        Contender::with(SCP_IN, &guest.ssh, move |ssh| into(lab, || ssh.scp_in(&scp, PLACE))),
        Contender::with(RSYNC_IN, &guest.ssh, move |ssh| into(lab, || ssh.rsync_in(&rsync, PLACE))),
        Contender::with(QEMU_GA_IN, &guest.qemu_ga, move |agent| {
            into(lab, || timed(|| agent.write(&format!("{PLACE}/{FILE}"), BYTES)))
        }),
    ]
}

fn out_of_the_guest(context: &Context) -> Vec<Contender<'_>> {
    let (guest, lab) = (context.guest(), &context.lab);
    let library = &guest.library;
    let source = format!("{NAME}:{IN_GUEST}");
    vec![
        Contender::new(BARE_OUT, || library.timed(library.bare_out(BYTES))),
        Contender::new(CP_OUT, move || {
            out_to(&lab.path("cp"), |to| {
                timed_command(&mut lab.command(&["cp", &source, &to.to_string_lossy()]))
            })
        }),
        Contender::with(SCP_OUT, &guest.ssh, |ssh| out_to(&lab.path("scp"), |to| ssh.scp_out(IN_GUEST, to))),
        Contender::with(RSYNC_OUT, &guest.ssh, |ssh| {
            out_to(&lab.path("rsync"), |to| ssh.rsync_out(IN_GUEST, to))
        }),
    ]
}

/// Makes an attempt to copy to a path where nothing is, and takes what came away again.
fn out_to(path: &Path, attempt: impl FnOnce(&Path) -> Outcome) -> Outcome {
    let outcome = attempt(path);
    let removed = std::fs::remove_file(path);
    let took = outcome?;
    removed.map(|()| took).map_err(|error| format!("{} did not come: {error}", path.display()))
}
