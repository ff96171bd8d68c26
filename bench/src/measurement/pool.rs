//! A pool of VMs: filled, asked for a VM that is ready, and given one back.
//!
//! One who releases a VM and asks for another at once, of a pool of one, waits for its reset: that is how a reset is timed, on
//! the clock of whoever wants the VM. What it is held against is a pool whose VMs cannot be saved, and are destroyed and
//! booted instead.

use std::time::{Duration, Instant};

use firstlight_host_ctl::pool::client::ask;
use firstlight_host_ctl::pool::place::PoolPlace;
use firstlight_host_ctl::pool::wire::{Answer, Request};
use firstlight_tests::Lab;
use firstlight_tests::pool::Served;
use tokio::runtime::Runtime;

use super::{Context, ratio_of};
use crate::contest::{Contender, Outcome, Unit, hold, timed_command};
use crate::report::{Check, Figure, Section, Target};

/// VMs that a pool is filled with.
const FILLED: usize = 5;

/// Times that a pool is filled in each way, at most: it takes seconds.
const FILLS: usize = 3;

/// Acquires of a VM that is ready for each repetition of a boot: one in a hundred of 200 is looked at.
const ACQUIRES: usize = 40;

/// Between two looks at a pool that is being filled.
const LOOK: Duration = Duration::from_millis(5);

/// How long a VM may take to be there.
const LIMIT: Duration = Duration::from_secs(180);

const PARALLEL: &str = "filling a pool with 5 VMs, 5 at a time";
const ONE_BY_ONE: &str = "filling a pool with 5 VMs, one by one";
const WARM: &str = "acquire of a VM that is ready";
const RESTORED: &str = "acquire of a VM to be restored first";
const BOOT: &str = "host-ctl run -d of the same VM: a boot";
const RESET: &str = "release until the VM is reset and acquired again";
const RECREATE: &str = "release until the VM is destroyed, booted anew and acquired";

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let lab = &context.lab;
    let mut figures = fill(lab, context.runs.min(FILLS));
    let pools = [
        Asked::serve(lab, "reset", 1, &["--max", "1"]),
        Asked::serve(lab, "recreate", 1, &["--max", "1", "--machine", "microvm"]),
        // Each VM has one holder, and none is made ahead.
        Asked::serve(lab, "empty", 0, &["--max", "1", "--max-uses", "1"]),
    ];
    // The first VM of a pool is booted and saved.
    pools.iter().for_each(|pool| pool.acquired().map(drop).unwrap_or_else(|why| panic!("{why}")));
    let [reset, recreate, empty] = &pools;
    let contenders = vec![
        Contender::new(RESTORED, || empty.acquired()),
        Contender::new(BOOT, || boot(lab)),
        Contender::new(RESET, || reset.released_and_acquired()),
        Contender::new(RECREATE, || recreate.released_and_acquired()),
    ];
    figures.extend(hold(contenders, context.runs, Unit::Milliseconds));
    let warm =
        hold(vec![Contender::new(WARM, || reset.acquired())], context.runs * ACQUIRES, Unit::Milliseconds);
    figures.extend(warm);
    pools.into_iter().for_each(|pool| pool.served.end());
    let found = |what: &str| figures.iter().find(|figure| figure.what == what);
    let value = |what: &str, of: fn(&Figure) -> f64| found(what).map_or(f64::NAN, of);
    let checks = vec![
        Check::new(
            "acquire of a VM that is ready, p99 in ms",
            value(WARM, |it| it.percentile(99)),
            Target::AtMost(100.0),
        ),
        Check::new("reset in ms", value(RESET, Figure::median), Target::AtMost(1000.0)),
        ratio_of(&figures, RECREATE, RESET, Target::AtLeast(1.0)),
        ratio_of(&figures, BOOT, RESTORED, Target::AtLeast(1.0)),
        ratio_of(&figures, ONE_BY_ONE, PARALLEL, Target::AtLeast(1.0)),
    ];
    Section {
        name: "pool",
        title: "A pool of VMs",
        text: "VMs of 256 MiB with the built-in root. Acquires are the library's, over the pool's socket, and include the round \
               trip to the VM's agent that comes before each grant. The VM that is destroyed and booted anew is a `microvm`, \
               which boots faster than the `q35` that is reset."
            .to_owned(),
        figures,
        checks,
    }
}

/// The times until a new pool has all its VMs ready.
fn fill(lab: &Lab, rounds: usize) -> Vec<Figure> {
    let filled = |parallel: &str| {
        let begun = Instant::now();
        let pool = Asked::serve(lab, "fill", FILLED, &["--max", "5", "--parallel", parallel]);
        let took = pool.wait_calm().map(|()| begun.elapsed());
        pool.served.end();
        took
    };
    let contenders =
        vec![Contender::new(PARALLEL, || filled("5")), Contender::new(ONE_BY_ONE, || filled("1"))];
    hold(contenders, rounds, Unit::Milliseconds)
}

/// `run -d` up to Running.
fn boot(lab: &Lab) -> Outcome {
    let run = ["run", "-d", "--name", "cold", "--snapshot", "--memory", "256M", "--", "sleep", "100000"];
    let took = timed_command(&mut lab.command(&run))?;
    lab.vm("cold").remove();
    Ok(took)
}

/// A pool, and a way to ask it without a process.
struct Asked<'lab> {
    served: Served<'lab>,
    place: PoolPlace,
    /// VMs it keeps ready.
    min: usize,
    runtime: Runtime,
}

impl<'lab> Asked<'lab> {
    fn serve(lab: &'lab Lab, name: &'static str, min: usize, flags: &[&str]) -> Asked<'lab> {
        let kept = min.to_string();
        let flags = [&["--min", &kept, "--memory", "256M"], flags].concat();
        let served = Served::start(lab, name, &flags);
        let place = PoolPlace::of(&lab.state_dir(), name).unwrap_or_else(|error| panic!("{error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Asked { served, place, min, runtime: runtime.unwrap_or_else(|error| panic!("no runtime: {error}")) }
    }

    fn ask(&self, request: &Request) -> Result<Answer, String> {
        let answer = self.runtime.block_on(ask(&self.place, request, Some(LIMIT)));
        answer.map_err(|error| error.to_string())
    }

    fn acquire(&self) -> Result<String, String> {
        let wait_ms = u64::try_from(LIMIT.as_millis()).unwrap_or(u64::MAX);
        let answer = self.ask(&Request::Acquire { wait_ms, ttl_ms: wait_ms })?;
        let Answer::Granted { vm, .. } = answer else {
            return Err(format!("the pool answered {answer:?}"));
        };
        Ok(vm)
    }

    fn release(&self, vm: String) -> Result<(), String> {
        self.ask(&Request::Release { vm, lease: None }).map(drop)
    }

    /// Waits until the pool has the VMs it is to keep ready, and nothing to do.
    fn wait_calm(&self) -> Result<(), String> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            let Answer::Status(report) = self.ask(&Request::Status)? else {
                return Err("the pool has no status".to_owned());
            };
            let ready = report.status.phases.get("ready").copied().unwrap_or_default();
            if ready == self.min && report.status.members.len() == self.min {
                return Ok(());
            }
            self.runtime.block_on(async { tokio::time::sleep(LOOK).await });
        }
        Err(format!("the pool has no {} VMs ready after {LIMIT:?}", self.min))
    }

    /// From the question to the VM, of a pool that has nothing else to do. It is given back.
    fn acquired(&self) -> Outcome {
        let begun = Instant::now();
        let vm = self.acquire()?;
        let took = begun.elapsed();
        self.release(vm)?;
        self.wait_calm()?;
        Ok(took)
    }

    /// From the release of a VM until one is had again.
    fn released_and_acquired(&self) -> Outcome {
        let vm = self.acquire()?;
        let begun = Instant::now();
        self.release(vm)?;
        let vm = self.acquire()?;
        let took = begun.elapsed();
        self.release(vm)?;
        self.wait_calm()?;
        Ok(took)
    }
}
