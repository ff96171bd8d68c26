//! From power-on to the program's first instruction, and what each thing that was taken out of it had cost: the same
//! boot with that one thing put back.

use firstlight_host_ctl::driver::MachineConfig;
use firstlight_host_ctl::vm::VmSpec;
use firstlight_host_ctl::vm::spec::Machine;
use firstlight_protocol::boot_spec::StageOrder;

use super::Context;
use super::boot_path::{directory, float};
use crate::machine::scene::Scene;
use crate::machine::{Boot, Look};
use crate::report::{Figure, Section};

const SCENE: Scene = Scene { cpus: 1, volumes: 1, stages: StageOrder::Graph };

/// One thing put back.
struct Variant {
    what: &'static str,
    vm: fn(&mut VmSpec, &std::path::Path),
    machine: fn(&mut MachineConfig, &VmSpec),
}

const UNCHANGED: fn(&mut MachineConfig, &VmSpec) = |_, _| ();

const VARIANTS: &[Variant] = &[
    Variant { what: "as it is", vm: |_, _| (), machine: UNCHANGED },
    Variant {
        what: "with the kernel's tests of its ciphers",
        vm: |_, _| (),
        machine: |machine, _| without(machine, "cryptomgr.notests=1"),
    },
    Variant { what: "with signed modules", vm: hide_kernel_config, machine: UNCHANGED },
    Variant {
        what: "with the kernel unpacking itself",
        vm: |_, _| (),
        machine: |machine, vm| machine.kernel.clone_from(&vm.assets.kernel),
    },
    Variant {
        what: "with kernel messages on the console",
        vm: |_, _| (),
        machine: |machine, _| without(machine, "quiet loglevel=3"),
    },
    Variant { what: "with 1024 MiB of memory", vm: |vm, _| vm.memory_mib = 1024, machine: UNCHANGED },
    Variant { what: "with q35 for a machine", vm: |vm, _| vm.machine = Machine::Q35, machine: UNCHANGED },
    Variant {
        what: "with stages one by one",
        vm: |vm, _| vm.boot.stages = StageOrder::Serial,
        machine: UNCHANGED,
    },
];

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let mut figures = Vec::new();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); VARIANTS.len()];
    for _ in 0..context.runs {
        for (variant, samples) in VARIANTS.iter().zip(&mut times) {
            samples.push(boot(context, variant, Look::Clock).0);
        }
    }
    for (variant, samples) in VARIANTS.iter().zip(times) {
        figures.push(Figure::new(variant.what, "ms", samples));
    }
    for variant in VARIANTS {
        let instructions = boot(context, variant, Look::Instructions).1;
        figures.push(Figure::new(variant.what, "instructions", vec![instructions]));
    }
    Section {
        name: "power-on",
        title: "From power-on to the program's first instruction",
        text: "The boot of the section above on one vCPU, and with one thing at a time as it was before it was taken \
               out, or otherwise than by default."
            .to_owned(),
        figures,
        checks: Vec::new(),
    }
}

/// Milliseconds and instructions from power-on to the program.
fn boot(context: &Context, variant: &Variant, look: Look) -> (f64, f64) {
    let dir = directory();
    let mut vm = SCENE.spec(&context.assets, &context.disks, dir.path());
    (variant.vm)(&mut vm, dir.path());
    let amend = |machine: &mut MachineConfig| (variant.machine)(machine, &vm);
    let boot = Boot { amend_machine: &amend, ..Boot::new(&vm, dir.path(), look) };
    let marks = context.bench.boot(&boot);
    (marks.kernel_ms() + marks.boot_ms(), float(marks.program.instructions))
}

fn without(machine: &mut MachineConfig, words: &str) {
    let line = machine.command_line.replace(words, "");
    assert_ne!(line, machine.command_line, "the command line has no {words}");
    machine.command_line = line;
}

/// A kernel of which nothing is known gets its modules as they are.
fn hide_kernel_config(vm: &mut VmSpec, dir: &std::path::Path) {
    let alone = dir.join("vmlinuz");
    std::os::unix::fs::symlink(&vm.assets.kernel, &alone)
        .unwrap_or_else(|error| panic!("cannot make {}: {error}", alone.display()));
    vm.assets.kernel = alone;
}
