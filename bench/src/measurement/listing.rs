//! `ps -a` with ten, a hundred and a thousand recorded VMs.

use std::path::{Path, PathBuf};

use firstlight_tests::{Lab, Vm};

use super::{Context, ratio_of};
use crate::contest::{Contender, Unit, hold, run, timed};
use crate::report::{Section, Target};

/// Rounds for each repetition of a boot: a listing takes milliseconds.
const ROUNDS: usize = 3;

/// How many VMs there are, and what the figure is called.
const SIZES: [(usize, &str); 3] =
    [(10, "ps -a of 10 VMs"), (100, "ps -a of 100 VMs"), (1_000, "ps -a of 1,000 VMs")];

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let lab = &context.lab;
    let vm = lab.start("recorded", &["--", "sleep", "100000"]);
    vm.stop();
    let contender = |(count, what): (usize, &str)| {
        let state = state_of(lab, &vm, count);
        Contender::new(what, move || timed(|| list(lab, &state, count)))
    };
    let figures = hold(SIZES.map(contender).into(), context.runs * ROUNDS, Unit::Milliseconds);
    vm.remove();
    let [(_, ten), (_, hundred), (_, thousand)] = SIZES;
    // Ten times as many VMs.
    let linear = Target::AtMost(10.0);
    let checks =
        vec![ratio_of(&figures, hundred, ten, linear), ratio_of(&figures, thousand, hundred, linear)];
    Section {
        name: "listing",
        title: "Many VMs",
        text: "`ps -a` in state directories with the record of one VM that ran and was stopped, so many times over.".to_owned(),
        figures,
        checks,
    }
}

/// Lists the VMs of a state directory, which are so many.
fn list(lab: &Lab, state: &Path, count: usize) -> Result<(), String> {
    let listed = run(lab.command(&["ps", "-a", "-q"]).env("FIRSTLIGHT_STATE_DIR", state))?.lines().count();
    if listed == count { Ok(()) } else { Err(format!("ps lists {listed} of {count} VMs")) }
}

/// A state directory with `count` copies of the record of `vm`.
fn state_of(lab: &Lab, vm: &Vm<'_>, count: usize) -> PathBuf {
    let state = lab.path(&format!("state-{count}"));
    let id = vm.inspect()["id"].as_str().unwrap().to_owned();
    let spec = read(&vm.dir().join("vm.json"));
    let journal = read(&vm.dir().join("journal"));
    for index in 0..count {
        let name = format!("copy-{index}");
        let dir = state.join("vms").join(&name);
        let spec = spec.replace(&id, &format!("{index:012x}")).replace(&quoted(vm.name()), &quoted(&name));
        let made = std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::write(dir.join("vm.json"), spec))
            .and_then(|()| std::fs::write(dir.join("journal"), &journal));
        made.unwrap_or_else(|error| panic!("cannot fill {}: {error}", dir.display()));
    }
    state
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}
