//! Many small files into the guest.

use std::path::{Path, PathBuf};

use super::{Context, ratio_of};
use crate::contest::{Contender, Unit, hold, timed};
use crate::guest::{NAME, PLACE, host_ctl_into, into};
use crate::report::{Figure, Section, Target};

/// Bytes of each.
const BYTES: usize = 1024;

/// How many there are for all, and how many for ours alone.
const FEW: usize = 1_000;
const MANY: usize = 10_000;

/// Rounds, at most: some of the others take ten seconds for each.
const ROUNDS: usize = 3;

/// Files of one directory, so that there are directories to make as well.
const OF_DIRECTORY: usize = 100;

const CP: &str = "1,000 files: host-ctl cp";
const SYNC: &str = "1,000 files: host-ctl sync";
const SCP: &str = "1,000 files: scp -r";
const RSYNC: &str = "1,000 files: rsync -a";
const QEMU_GA: &str = "1,000 files: qemu-guest-agent, guest-file-*";

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let (guest, lab) = (context.guest(), &context.lab);
    let rounds = context.runs.min(ROUNDS);
    let (few, many) = (lab.path("few"), lab.path("many"));
    make_files(&few, FEW);
    make_files(&many, MANY);
    let mut contenders = ours(context, &few, [CP, SYNC]);
    contenders.extend([
        Contender::with(SCP, &guest.ssh, |ssh| into(lab, || ssh.scp_in(&few, PLACE))),
        Contender::with(RSYNC, &guest.ssh, |ssh| into(lab, || ssh.rsync_in(&few, PLACE))),
        Contender::with(QEMU_GA, &guest.qemu_ga, |agent| {
            let write = |index| agent.write(&format!("{PLACE}/{index}"), BYTES);
            into(lab, || timed(|| (0..FEW).try_for_each(write)))
        }),
    ]);
    let mut figures: Vec<Figure> = hold(contenders, rounds, Unit::Files(FEW));
    let checks = vec![
        ratio_of(&figures, CP, SCP, Target::AtLeast(1.0)),
        ratio_of(&figures, SYNC, RSYNC, Target::AtLeast(1.0)),
        ratio_of(&figures, CP, QEMU_GA, Target::AtLeast(1.0)),
    ];
    let names = ["10,000 files: host-ctl cp", "10,000 files: host-ctl sync"];
    figures.extend(hold(ours(context, &many, names), rounds, Unit::Files(MANY)));
    Section {
        name: "small-files",
        title: "Files of 1 KiB",
        text: "A hundred to a directory, into the memory of one Debian guest. qemu-guest-agent makes no directories; its files \
               are all in one."
            .to_owned(),
        figures,
        checks,
    }
}

/// `cp` and `sync` of a directory.
fn ours<'a>(context: &'a Context, dir: &Path, [cp, sync]: [&str; 2]) -> Vec<Contender<'a>> {
    let lab = &context.lab;
    let contender = |what: &str, command: &'static str, source: PathBuf| {
        let target = format!("{NAME}:{PLACE}/{command}");
        Contender::new(what, move || host_ctl_into(lab, &[command, &source.to_string_lossy(), &target]))
    };
    vec![contender(cp, "cp", dir.to_path_buf()), contender(sync, "sync", dir.to_path_buf())]
}

fn make_files(dir: &Path, count: usize) {
    for index in 0..count {
        let parent = dir.join((index / OF_DIRECTORY).to_string());
        let made = std::fs::create_dir_all(&parent)
            .and_then(|()| std::fs::write(parent.join(index.to_string()), vec![b'x'; BYTES]));
        made.unwrap_or_else(|error| panic!("cannot fill {}: {error}", parent.display()));
    }
}
