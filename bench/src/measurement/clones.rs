//! Private clones of a template: from their VMM's start, and from the word that lets one go on that was made ahead and paused.
//!
//! The VMM's start, the agent's first answer and what the guest is told then are times of the VM's own journal. How long a guest takes to
//! answer once it goes on is seen from here: its monitor is asked to resume it, and says that it runs when its agent has answered.

use std::path::Path;
use std::time::{Duration, Instant};

use firstlight_host_ctl::clock::Stamp;
use firstlight_host_ctl::monitor::client::{Connection, Update};
use firstlight_host_ctl::monitor::wire::Request;
use firstlight_host_ctl::vm::{Entry, Journal, Record, VmDir};
use firstlight_protocol::lifecycle::State;
use firstlight_tests::Lab;
use tokio::runtime::Runtime;

use super::{Context, ratio_of};
use crate::contest::{Contender, Outcome, Unit, hold, run, timed_command};
use crate::report::{Check, Figure, Section, Target};

/// Clones for each repetition of a boot: they take a tenth of a second.
const CLONES: usize = 3;

const TEMPLATE: &str = "template";
const SNAPSHOT: &str = "ready";

/// A clone that is measured, and removed then.
const ONE: &str = "clone";

/// The clone that waits.
const WAITING: &str = "ahead";

const CLONE: &str = "private clone: VMM's start to the agent's first answer";
const TOLD: &str = "private clone: VMM's start to a guest that knows who it is";
const COPY: &str = "restore with a memory of its own: VMM's start to the agent's first answer";
const AHEAD: &str = "clone made ahead and paused: resume to the agent's answer";
const COMMAND: &str = "host-ctl restore --private";
const BOOT: &str = "host-ctl run -d of the same VM: a boot";

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let lab = &context.lab;
    make_template(lab).unwrap_or_else(|why| panic!("no template: {why}"));
    let ahead = Ahead::make(lab);
    let contenders = vec![
        Contender::new(CLONE, || until(lab, &["--private"], first_answer)),
        Contender::new(TOLD, || until(lab, &["--private"], |restored| Some(restored.at))),
        Contender::new(COPY, || until(lab, &[], first_answer)),
        Contender::with(AHEAD, &ahead, Ahead::resume),
        Contender::new(COMMAND, || restored(lab, &["--private"], |_| Ok(()))),
        Contender::new(BOOT, || boot(lab)),
    ];
    let figures = hold(contenders, context.runs * CLONES, Unit::Milliseconds);
    [TEMPLATE, WAITING].iter().for_each(|name| lab.vm(name).remove());
    let median =
        |what: &str| figures.iter().find(|figure| figure.what == what).map_or(f64::NAN, Figure::median);
    let checks = vec![
        Check::new(
            "clone, VMM's start to the agent's first answer, in ms",
            median(CLONE),
            Target::AtMost(100.0),
        ),
        Check::new(
            "clone made ahead, resume to the agent's answer, in ms",
            median(AHEAD),
            Target::AtMost(20.0),
        ),
        ratio_of(&figures, BOOT, COMMAND, Target::AtLeast(1.0)),
    ];
    Section {
        name: "clones",
        title: "Private clones",
        text: "VMs of 256 MiB with the built-in root, behind serial ports. The agent's first answer is that to \
               the host's greeting, a random number; a clone knows who it is when it has set its clock, random numbers, names and addresses. One that was made ahead knows that \
               already, was paused then, and answers when it has set its clock."
            .to_owned(),
        figures,
        checks,
    }
}

fn make_template(lab: &Lab) -> Result<(), String> {
    let vm = ["run", "-d", "--name", TEMPLATE, "--snapshot", "--transport", "serial", "--memory", "256M"];
    run(&mut lab.command(&[&vm[..], &["--", "sleep", "100000"]].concat()))?;
    run(&mut lab.command(&["snapshot", TEMPLATE, SNAPSHOT])).map(drop)
}

/// `host-ctl restore` with `flags`: how long it took. `look` sees the VM's directory before the VM is removed.
fn restored(lab: &Lab, flags: &[&str], look: impl FnOnce(&Path) -> Result<(), String>) -> Outcome {
    let took = timed_command(&mut lab.command(&[&["restore", SNAPSHOT, "--name", ONE][..], flags].concat()))?;
    let vm = lab.vm(ONE);
    let looked = look(&vm.dir());
    vm.remove();
    looked.map(|()| took)
}

/// The time from the start of a copy's VMM to what `end` finds in the record of its being told who it is.
fn until(lab: &Lab, flags: &[&str], end: fn(&Record) -> Option<Stamp>) -> Outcome {
    let mut took = None;
    restored(lab, flags, |dir| {
        let records: Vec<Record> = Journal::read(&dir.join("journal")).map_err(|error| error.to_string())?;
        let start = records.iter().find(|record| matches!(record.entry, Entry::VmmStarted { .. }));
        let told = records.iter().find(|record| matches!(record.entry, Entry::Restored { .. }));
        let end = told.and_then(end);
        took = start.zip(end).map(|(start, end)| Duration::from_secs_f64(end.ms_since(&start.at) / 1e3));
        Ok(())
    })?;
    took.ok_or_else(|| "the journal does not say when".to_owned())
}

fn first_answer(told: &Record) -> Option<Stamp> {
    if let Entry::Restored { answered, .. } = &told.entry { *answered } else { None }
}

/// `run -d` up to Running.
fn boot(lab: &Lab) -> Outcome {
    let vm = ["run", "-d", "--name", ONE, "--snapshot", "--transport", "serial", "--memory", "256M"];
    let took = timed_command(&mut lab.command(&[&vm[..], &["--", "sleep", "100000"]].concat()))?;
    lab.vm(ONE).remove();
    Ok(took)
}

/// A clone that stands still, and its monitor at the other end of a connection.
struct Ahead {
    runtime: Runtime,
    vm: VmDir,
}

impl Ahead {
    fn make(lab: &Lab) -> Result<Ahead, String> {
        run(&mut lab.command(&["restore", SNAPSHOT, "--private", "--name", WAITING]))?;
        run(&mut lab.command(&["pause", WAITING]))?;
        let vm = VmDir::open(&lab.vm(WAITING).dir()).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Ahead { runtime: runtime.map_err(|error| error.to_string())?, vm })
    }

    /// Lets it go on and waits until it says that it does; then it is paused again.
    fn resume(&self) -> Outcome {
        self.runtime.block_on(async {
            let mut monitor = Connection::open(&self.vm).await.map_err(|error| error.to_string())?;
            monitor.subscribe().await.map_err(|error| error.to_string())?;
            let begun = Instant::now();
            ask(&mut monitor, &Request::Resume, &State::Running).await?;
            let took = begun.elapsed();
            ask(&mut monitor, &Request::Pause, &State::Paused).await?;
            Ok(took)
        })
    }
}

async fn ask(monitor: &mut Connection, request: &Request, state: &State) -> Result<(), String> {
    monitor.request(request).await.map_err(|error| error.to_string())?;
    while monitor.view().state != *state {
        if monitor.next().await.map_err(|error| error.to_string())? == Update::End {
            return Err("the clone ended".to_owned());
        }
    }
    Ok(())
}
