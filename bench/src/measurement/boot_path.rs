//! From init's first instruction to the program's: guest-init against the floor, the graph against one stage after
//! another, and the least boot there is against the least init there is.

use firstlight_host_ctl::vm::spec::{Assets, NetworkSpec, RootSpec};
use firstlight_host_ctl::vm::{VmId, VmSpec};
use firstlight_protocol::agent_config::AgentConfig;
use firstlight_protocol::boot_spec::{Program, RootUpper, StageOrder, Transport};
use firstlight_protocol::hex::BootId;
use firstlight_protocol::port;

use super::Context;
use crate::machine::marks::Marks;
use crate::machine::scene::{PROGRAM, Scene};
use crate::machine::tools::{FloorBoot, load_order};
use crate::machine::{Boot, Look, token};
use crate::report::{Check, Figure, Section, Target};

/// Boots of which the least count is taken. Waiting for disks, which answer when they answer, only ever adds to a
/// count, and that by a few parts in a thousand.
const COUNTED: usize = 3;

/// Rounds of boots for each repetition: half a second a boot, and on a machine that others use too one takes up to twice as
/// long as the next, which the median of a few does not even out.
const BOOTS: usize = 6;

/// Boots of the pair whose ratio is the closest to its target, for each of the others.
const CLOSEST: usize = 4;

/// The boot path on one processor, with one volume.
const ONE: Scene = Scene { cpus: 1, volumes: 1, stages: StageOrder::Graph };

/// The one in which much can be done at once.
const TWO: Scene = Scene { cpus: 2, volumes: 4, stages: StageOrder::Graph };

/// Kernel modules of the floor's boots.
const MODULES: [&str; 5] =
    ["virtio_mmio", "virtio_blk", "overlay", "virtio_net", "vmw_vsock_virtio_transport"];

/// Instructions from init's first to the program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Counts {
    /// guest-init's, with disks, network, agent.
    pub(crate) boot: u64,
    /// The floor's, for the same boot.
    pub(crate) floor: u64,
    /// guest-init's, without any of them.
    pub(crate) diskless: u64,
    /// Those of an init that mounts three file systems and becomes the program.
    pub(crate) minimal: u64,
}

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let counts = counts(context);
    let [mut init, mut floor] = [Vec::new(), Vec::new()];
    let [mut kept_init, mut kept_floor] = [Vec::new(), Vec::new()];
    let [mut graph, mut serial, mut sequence] = [Vec::new(), Vec::new(), Vec::new()];
    let floored = [ONE, TWO].map(|scene| with_init(context, &floor_of(context, scene)));
    for _ in 0..context.runs * BOOTS {
        // Their ratio is the closest to its target, and is asked more often.
        for _ in 0..CLOSEST {
            floor.push(boot(context, ONE, &floored[0], Look::Clock));
            init.push(boot(context, ONE, &context.assets, Look::Clock));
        }
        kept_floor.push(boot(context, ONE, &floored[0], Look::ClockOnOneProcessor).boot_ms());
        kept_init.push(boot(context, ONE, &context.assets, Look::ClockOnOneProcessor).boot_ms());
        sequence.push(boot(context, TWO, &floored[1], Look::Clock).boot_ms());
        graph.push(boot(context, TWO, &context.assets, Look::Clock).boot_ms());
        let one_by_one = Scene { stages: StageOrder::Serial, ..TWO };
        serial.push(boot(context, one_by_one, &context.assets, Look::Clock).boot_ms());
    }
    let each = |boots: &[Marks], figure: fn(&Marks) -> f64| boots.iter().map(figure).collect::<Vec<f64>>();
    let times = [
        ("guest-init, 1 vCPU, 1 volume", each(&init, Marks::boot_ms)),
        ("the floor, 1 vCPU, 1 volume", each(&floor, Marks::boot_ms)),
        ("guest-init, 2 vCPUs, 4 volumes", graph),
        ("the same with --stages serial", serial),
        ("the floor, 2 vCPUs, 4 volumes", sequence),
        ("guest-init, 1 vCPU, QEMU on one processor", kept_init),
        ("the floor, 1 vCPU, QEMU on one processor", kept_floor),
        ("guest-init, 1 vCPU, QEMU's processor time", each(&init, Marks::boot_processor_ms)),
        ("the floor, 1 vCPU, QEMU's processor time", each(&floor, Marks::boot_processor_ms)),
    ];
    let translated = |boots: &[Marks]| each(boots, |marks| float(marks.boot_translated()));
    let translations = [
        ("guest-init, 1 vCPU, what QEMU translated", translated(&init)),
        ("the floor, 1 vCPU, what QEMU translated", translated(&floor)),
    ];
    let times = times.map(|(what, samples)| Figure::new(what, "ms", samples));
    let [init, floor, graph, serial, sequence, kept_init, kept_floor] =
        [0, 1, 2, 3, 4, 5, 6].map(|index: usize| times[index].median());
    let checks = vec![
        Check::new("time of guest-init to the floor's, 1 vCPU", init / floor, Target::AtMost(1.15)),
        Check::new("the same with QEMU on one processor", kept_init / kept_floor, Target::AtMost(1.15)),
        Check::new(
            "instructions of guest-init to the floor's",
            ratio(counts.boot, counts.floor),
            Target::AtMost(1.3),
        ),
        Check::new("graph to serial, 2 vCPUs", graph / serial, Target::AtMost(0.85)),
        Check::new("graph to the floor, 2 vCPUs", graph / sequence, Target::AtMost(1.0)),
        Check::new(
            "instructions without disks to the least init's",
            ratio(counts.diskless, counts.minimal),
            Target::AtMost(3.0),
        ),
    ];
    let mut figures: Vec<Figure> = times.into();
    figures.extend(translations.map(|(what, samples)| Figure::new(what, "instructions", samples)));
    figures.extend(counted(counts));
    Section {
        name: "boot-path",
        title: "From init's first instruction to the program's",
        text: "An overlay of ext4 on ext4, static network, ext4 volumes, the agent with its ready gate, the program; \
               the floor is `bench/c/floor.c`, which makes the same system calls in sequence without checks or \
               reports. Times are interleaved runs; instructions are the least of three counted boots. An emulator's time is \
               mostly that of translating code that runs for the first time, so what it translated is there too."
            .to_owned(),
        figures,
        checks,
    }
}

fn counted(counts: Counts) -> [Figure; 4] {
    let rows = [
        ("guest-init, 1 vCPU, 1 volume", counts.boot),
        ("the floor, 1 vCPU, 1 volume", counts.floor),
        ("guest-init without disks, network and agent", counts.diskless),
        ("an init that mounts three file systems", counts.minimal),
    ];
    rows.map(|(what, count)| Figure::new(what, "instructions", vec![float(count)]))
}

/// Counts the boots that have a floor.
pub(crate) fn counts(context: &Context) -> Counts {
    let least = |count: &dyn Fn() -> u64| (0..COUNTED).map(|_| count()).min().unwrap_or(0);
    let floored = with_init(context, &floor_of(context, ONE));
    let minimal = with_init(context, &context.tools.minimal(&in_initramfs()));
    Counts {
        boot: least(&|| boot(context, ONE, &context.assets, Look::Instructions).boot_instructions()),
        floor: least(&|| boot(context, ONE, &floored, Look::Instructions).boot_instructions()),
        // These wait for no disk and agree within a part in a hundred.
        diskless: diskless(context, &context.assets).boot_instructions(),
        minimal: diskless(context, &minimal).boot_instructions(),
    }
}

/// Boots `scene` with the init of `assets`.
pub(super) fn boot(context: &Context, scene: Scene, assets: &Assets, look: Look) -> Marks {
    let dir = directory();
    let vm = scene.spec(assets, &context.disks, dir.path());
    context.bench.boot(&Boot::new(&vm, dir.path(), look))
}

/// A temporary directory for a VM.
pub(super) fn directory() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("firstlight-bench-").tempdir();
    dir.unwrap_or_else(|error| panic!("cannot make a temporary directory: {error}"))
}

/// Boots a VM that has its root in the initramfs, and neither disks, network nor agent.
fn diskless(context: &Context, assets: &Assets) -> Marks {
    let dir = directory();
    let id = VmId::random().unwrap_or_else(|error| panic!("no random bytes: {error}"));
    let mut vm = VmSpec::new("bench", id, assets.clone(), Program::new(vec![PROGRAM.to_owned()]));
    vm.root = RootSpec::Builtin;
    vm.network = NetworkSpec::None;
    vm.skip_guest_agent = true;
    vm.boot.event_stream = false;
    let mut boot = Boot::new(&vm, dir.path(), Look::Instructions);
    let root = context.disks.root();
    boot.root = Some(&root);
    boot.amend_spec = &|spec| spec.root.upper = RootUpper::Direct;
    context.bench.boot(&boot)
}

fn in_initramfs() -> String {
    format!("{}{PROGRAM}", firstlight_initramfs::archive::ROOT_PATH)
}

/// The floor for `scene`.
fn floor_of(context: &Context, scene: Scene) -> std::path::PathBuf {
    let boot = FloorBoot {
        modules: load_order(&context.assets.modules, &MODULES),
        volumes: (0..scene.volumes).map(Scene::target).collect(),
        network: true,
    };
    let config = AgentConfig {
        boot_id: BootId([0x5a; 4]),
        token: token(),
        port: port::AGENT,
        transport: Transport::Vsock,
        program_output: None,
    };
    let config = serde_json::to_string(&config).unwrap_or_else(|error| panic!("{error}"));
    // The floor puts the descriptors in their place when it knows their numbers.
    let config = config.replace("\"program_output\":null}", "");
    context.tools.floor(&boot, &config, PROGRAM)
}

fn with_init(context: &Context, init: &std::path::Path) -> Assets {
    Assets { guest_init: init.to_owned(), ..context.assets.clone() }
}

fn ratio(a: u64, b: u64) -> f64 {
    float(a) / float(b)
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
