//! How long a short question to the agent takes: on a guest that idles, and while four copies run, two each way.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use firstlight_host_ctl::agent::{Ask as _, Client, Ping, Unary};
use firstlight_protocol::message::file::{FileStatRequest, Place};
use firstlight_tests::Lab;
use tokio::time::Instant as Deadline;

use super::Context;
use crate::contest::run;
use crate::guest::{LIMIT, NAME};
use crate::report::{Check, Figure, Section, Target};

/// Questions of each kind.
const QUESTIONS: usize = 500;

/// Bytes of each copy. The guest holds up to five of them in memory: a file that is replaced is there until the new one is
/// whole.
const COPIED: usize = 32 << 20;

/// Where the guest has what is copied out of it.
const SOURCE: &str = "/copied";

/// Prints resident kB of the agent, which is the parent of what it executes.
const RESIDENT: &str = "sed -n 's/^Rss:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$PPID/smaps_rollup";

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let client = context.guest().library.client().unwrap_or_else(|why| panic!("no agent: {why}"));
    let mut figures = questions(context, &client, "idle");
    let (busy, resident) =
        while_copying(context, || (questions(context, &client, "4 copies"), resident(context)));
    let worst = busy.iter().map(|figure| figure.percentile(99)).fold(0.0, f64::max);
    figures.extend(busy);
    let late: Vec<Figure> = figures
        .iter()
        .map(|figure| {
            Figure::new(format!("99th percentile: {}", figure.what), figure.unit, vec![figure.percentile(99)])
        })
        .collect();
    figures.extend(late);
    figures.push(Figure::new("agent with 4 copies, resident", "MiB", vec![resident]));
    Section {
        name: "control",
        title: "Short questions to the agent",
        text: "Over one connection of their own, one after the other: on a guest that idles, and while four copies of 32 MiB \
               run again and again, two each way. The median is the 50th percentile."
            .to_owned(),
        figures,
        checks: vec![Check::new("99th percentile with 4 copies, ms", worst, Target::AtMost(20.0))],
    }
}

fn questions(context: &Context, client: &Client, when: &str) -> Vec<Figure> {
    let (mut pings, mut stats) = (Vec::new(), Vec::new());
    for _ in 0..QUESTIONS {
        pings.push(milliseconds(context, client, &Ping(b"?".to_vec())));
        let request = FileStatRequest { place: Place::new("/etc/passwd"), follow: false };
        stats.push(milliseconds(context, client, &request));
    }
    vec![Figure::new(format!("ping, {when}"), "ms", pings), Figure::new(format!("stat, {when}"), "ms", stats)]
}

fn milliseconds<R: Unary + Sync>(context: &Context, client: &Client, request: &R) -> f64 {
    let library = &context.guest().library;
    let begun = Instant::now();
    let answer = library.wait(async {
        client.request(request, Deadline::now() + LIMIT).await.map_err(|error| error.to_string())
    });
    let took = begun.elapsed();
    answer.unwrap_or_else(|why| panic!("the agent did not answer: {why}"));
    took.as_secs_f64() * 1e3
}

/// Does some work while copies run, each by a thread that starts it again and again.
fn while_copying<T>(context: &Context, work: impl FnOnce() -> T) -> T {
    let lab = &context.lab;
    let _ = context.in_guest(&format!("head -c {COPIED} /dev/zero >{SOURCE}"));
    let here = lab.path("copied");
    std::fs::write(&here, vec![b'x'; COPIED])
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", here.display()));
    let (over, (copied, first)) = (AtomicBool::new(false), channel());
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (over, copied, here) = (&over, copied.clone(), &here);
            scope.spawn(move || copy_again_and_again(lab, number, here, over, &copied));
        }
        let _at_end = AtEnd(&over);
        // Whoever has copied once is about to copy again.
        for _ in 0..4 {
            first.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("a copy took over {LIMIT:?}: {error}"));
        }
        work()
    })
}

/// Tells the copies to end, also when a question fails: otherwise nobody would end waiting for them.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Copies into the guest or out of it, by turns of the number, and says when it has copied once.
fn copy_again_and_again(lab: &Lab, number: usize, here: &Path, over: &AtomicBool, copied: &Sender<()>) {
    let back = lab.path(&format!("copied-back-{number}"));
    let (here, back) = (here.to_string_lossy(), back.to_string_lossy());
    let (into, out_of) = (format!("{NAME}:/copied-{number}"), format!("{NAME}:{SOURCE}"));
    let arguments = if number.is_multiple_of(2) { ["cp", &here, &into] } else { ["cp", &out_of, &back] };
    let copy = || {
        run(&mut lab.command(&arguments))
            .unwrap_or_else(|why| panic!("a copy failed while others ran: {why}"))
    };
    let _ = copy();
    // Nobody hears of it where another one has failed.
    let _ = copied.send(());
    while !over.load(Ordering::Relaxed) {
        let _ = copy();
    }
}

/// What the agent holds of the guest's memory, in MiB.
fn resident(context: &Context) -> f64 {
    let kilobytes = context.in_guest(RESIDENT);
    kilobytes.trim().parse::<f64>().unwrap_or_else(|_| panic!("the guest said {kilobytes:?}")) / 1024.0
}
