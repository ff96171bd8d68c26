//! From power-on to the program's first instruction, and what each thing that was taken out of it had cost: the same
//! boot with that one thing put back.

use firstlight_host_ctl::driver::MachineConfig;
use firstlight_host_ctl::vm::VmSpec;
use firstlight_host_ctl::vm::spec::Machine;
use firstlight_protocol::boot_spec::StageOrder;

use super::Context;
use super::boot_path::{directory, float};
use crate::machine::marks::Marks;
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
    Variant {
        what: "with the disks in reverse order",
        vm: |_, _| (),
        machine: |machine, _| machine.disks.reverse(),
    },
    Variant {
        what: "with the drivers of another transport",
        vm: |vm, _| vm.boot.modules = vec!["virtio_pci".to_owned()],
        machine: UNCHANGED,
    },
    Variant { what: "with q35 for a machine", vm: |vm, _| vm.machine = Machine::Q35, machine: UNCHANGED },
    Variant {
        what: "with stages one by one",
        vm: |vm, _| vm.boot.stages = StageOrder::Serial,
        machine: UNCHANGED,
    },
];

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let mut boots: Vec<Vec<Marks>> = vec![Vec::new(); VARIANTS.len()];
    for _ in 0..context.runs {
        for (variant, boots) in VARIANTS.iter().zip(&mut boots) {
            boots.push(boot(context, variant, Look::Clock));
        }
    }
    let each = |boots: &[Marks], figure: fn(&Marks) -> f64| boots.iter().map(figure).collect::<Vec<f64>>();
    let timed = VARIANTS.iter().zip(&boots);
    let mut figures: Vec<Figure> =
        timed.map(|(variant, boots)| Figure::new(variant.what, "ms", each(boots, whole_ms))).collect();
    if let Some(boots) = boots.first() {
        figures.push(Figure::new("as it is: QEMU's own start", "ms", each(boots, Marks::vmm_ms)));
        figures.push(Figure::new("as it is: the kernel, up to init", "ms", each(boots, Marks::kernel_ms)));
        figures.push(Figure::new("as it is: init, up to the program", "ms", each(boots, Marks::boot_ms)));
    }
    for variant in VARIANTS {
        let marks = boot(context, variant, Look::Instructions);
        figures.push(Figure::new(variant.what, "instructions", vec![float(marks.program.instructions)]));
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

/// From power-on to the program, in ms.
fn whole_ms(marks: &Marks) -> f64 {
    marks.vmm_ms() + marks.kernel_ms() + marks.boot_ms()
}

fn boot(context: &Context, variant: &Variant, look: Look) -> Marks {
    let dir = directory();
    let mut vm = SCENE.spec(&context.assets, &context.disks, dir.path());
    (variant.vm)(&mut vm, dir.path());
    let amend = |machine: &mut MachineConfig| (variant.machine)(machine, &vm);
    let boot = Boot { amend_machine: &amend, ..Boot::new(&vm, dir.path(), look) };
    context.bench.boot(&boot)
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
