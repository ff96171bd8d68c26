//! The boot as data: which stages, what each needs, and what each mounts. Pure.
//!
//! ```text
//! modules:block ──► root ──┬──► volume:/a ──► volume:/a/b ──┐
//!                          ├──► identity (after a volume    │
//!                          │     over one of its files) ────┼──► program
//! modules:vsock ───────────┴──► agent ──────────────────────┤
//! modules:net ────► network ────────────────────────────────┴──► headers
//! ```
//!
//! In systemd mode `units` stands in the agent's place, and `program` hands PID 1 over.
//!
//! A stage is left out when there is nothing for it to do. Order comes from the needs alone: the driver starts each
//! stage the moment its needs are done, or, in serial mode, the first one whose needs are. Stages that load modules go one
//! after another, so of them the one that stands first here goes first.

mod modules;
mod mounts;
#[cfg(test)]
mod tests;

use firstlight_protocol::boot_spec::{BootSpec, Mode, RootSource, RootUpper, Volume};
use firstlight_protocol::module_manifest::ModuleManifest;

pub(crate) use modules::{Transports, block_driver};
pub(crate) use mounts::{Mount, NEW_ROOT, OLD_ROOT_DIRECTORIES, Place, What};

/// Paths that the `identity` stage writes in the root.
pub(crate) const IDENTITY_FILES: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// The boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The stages. Each one's needs stand before it.
    pub(crate) stages: Vec<Stage>,
}

impl Plan {
    /// The name of a stage.
    pub(crate) fn name(&self, stage: usize) -> String {
        self.stages.get(stage).map(|stage| stage.name.clone()).unwrap_or_default()
    }

    /// The needs of a stage that no other of its needs has to wait for in turn: what a reader has to be told.
    pub(crate) fn direct_needs(&self, stage: usize) -> Vec<usize> {
        let needs = |stage: usize| self.stages.get(stage).map_or(&[][..], |stage| &stage.needs);
        let mut implied = Vec::new();
        // Needs stand before what needs them, so one pass backwards meets all of them.
        for earlier in (0..stage).rev() {
            if needs(stage).contains(&earlier) || implied.contains(&earlier) {
                implied.extend(needs(earlier));
            }
        }
        needs(stage).iter().filter(|need| !implied.contains(need)).copied().collect()
    }
}

/// One unit of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stage {
    /// Its name in sentinels.
    pub(crate) name: String,
    /// What it does.
    pub(crate) work: Work,
    /// The stages that have to be done before, as indices into the plan.
    pub(crate) needs: Vec<usize>,
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    /// Load kernel modules, in this order.
    Modules {
        /// Their names.
        names: Vec<String>,
        /// Whether the event stream can be opened afterwards.
        vsock: bool,
    },
    /// Load kernel modules, in this order, that the program can do without.
    LateModules(Vec<String>),
    /// Mount the root and switch to it.
    Root(Vec<Mount>),
    /// Mount a volume.
    Volume {
        /// Its mounts.
        mounts: Vec<Mount>,
        /// Whether the boot fails without it.
        required: bool,
    },
    /// Bring up loopback and the interfaces of the spec.
    Network,
    /// Set the host name and write [`IDENTITY_FILES`].
    Identity,
    /// Start the agent and wait until it listens.
    Agent,
    /// Leave systemd all that it starts in our place.
    Units,
    /// Start the program, or hand PID 1 over to it.
    Program,
    /// Start the headers worker.
    Headers,
}

impl Work {
    /// Whether the work is the kernel's taking in of modules.
    pub(crate) fn loads_modules(&self) -> bool {
        match self {
            Work::Modules { .. } | Work::LateModules(_) => true,
            Work::Root(_)
            | Work::Volume { .. }
            | Work::Network
            | Work::Identity
            | Work::Agent
            | Work::Units
            | Work::Program
            | Work::Headers => false,
        }
    }

    /// Whether the work may have to wait for a device or a disk, or keeps a processor for long.
    pub(crate) fn takes_time(&self, spec: &BootSpec) -> bool {
        let root_on_disk = match (&spec.root.source, &spec.root.upper) {
            (RootSource::Disk(_), _) | (_, RootUpper::Disk(_)) => true,
            (RootSource::Initramfs(_), RootUpper::Tmpfs | RootUpper::Direct | RootUpper::ReadOnly) => false,
        };
        match self {
            Work::Modules { .. } | Work::LateModules(_) | Work::Volume { .. } => true,
            Work::Root(_) | Work::Units => root_on_disk,
            // A volume may lie over the files it writes.
            Work::Identity => root_on_disk || !spec.volumes.is_empty(),
            Work::Network => !spec.network.interfaces.is_empty(),
            Work::Agent | Work::Program | Work::Headers => false,
        }
    }
}

/// Plans the boot that `spec` asks for, with the modules of `manifest`, on a machine with these transports.
pub(crate) fn plan(spec: &BootSpec, manifest: &ModuleManifest, transports: Transports) -> Plan {
    let mode = spec.program.mode;
    let mut stages = Stages::default();
    let modules = modules::chains(spec, transports);
    let mut load = |name: &str, wanted: &[&str], vsock| {
        let names = manifest.load_order(wanted);
        (!names.is_empty()).then(|| stages.add(name.to_owned(), Work::Modules { names, vsock }, vec![]))
    };
    let block = load("modules:block", &modules.block, false);
    // Modules are loaded one stage after another, and the agent's start is the longest of what waits for them.
    let vsock = load("modules:vsock", &modules.vsock, true);
    let net = load("modules:net", &modules.net, false);
    load("modules:extra", &modules.extra, false);

    let root = stages.add("root".into(), Work::Root(mounts::root(&spec.root, mode)), some(&[block]));
    let volumes = stages.add_volumes(root, &spec.volumes);
    stages.add("network".into(), Work::Network, some(&[net]));
    let shadowing =
        volumes.iter().filter(|(target, _)| IDENTITY_FILES.iter().any(|file| is_under(file, target)));
    let needs = shadowing.map(|(_, stage)| *stage).chain([root]).collect();
    stages.add("identity".into(), Work::Identity, needs);
    match mode {
        Mode::Exec if spec.agent.is_some() => {
            stages.add("agent".into(), Work::Agent, some(&[Some(root), vsock]));
        }
        Mode::Exec => {}
        Mode::Systemd => {
            stages.add("units".into(), Work::Units, vec![root]);
        }
    }
    let late = |stages: &mut Stages, needs| {
        let names = manifest.load_order(&modules.late);
        (!names.is_empty()).then(|| stages.add("modules:late".into(), Work::LateModules(names), needs))
    };
    if mode == Mode::Systemd {
        // There is no later: nothing of init's is left once systemd runs.
        late(&mut stages, vec![]);
    }
    // The launch barrier.
    let everything = (0..stages.0.len()).collect();
    let program = stages.add("program".into(), Work::Program, everything);
    if spec.headers.is_some() && mode == Mode::Exec {
        // Behind the barrier: even the start of a process and the probing of a disk cost time, and the program's is not
        // to be spent on it.
        let late = late(&mut stages, vec![program]);
        stages.add("headers".into(), Work::Headers, some(&[Some(program), late]));
    }
    Plan { stages: stages.0 }
}

fn some(needs: &[Option<usize>]) -> Vec<usize> {
    needs.iter().flatten().copied().collect()
}

#[derive(Default)]
struct Stages(Vec<Stage>);

impl Stages {
    fn add(&mut self, name: String, work: Work, needs: Vec<usize>) -> usize {
        self.0.push(Stage { name, work, needs });
        self.0.len() - 1
    }

    /// Adds the volumes, parents before what is mounted inside them; gives their targets and stages.
    fn add_volumes(&mut self, root: usize, volumes: &[Volume]) -> Vec<(String, usize)> {
        let mut by_depth: Vec<(String, usize)> =
            volumes.iter().map(|volume| normal(&volume.target)).zip(0..).collect();
        // Two volumes on one target keep the order of the spec, and the later one covers the earlier. A stable sort
        // would say so without the index, and is 10 KB of code.
        by_depth.sort_unstable_by_key(|(target, index)| (target.matches('/').count(), *index));
        let mut added: Vec<(String, usize)> = Vec::with_capacity(volumes.len());
        for (target, index) in by_depth {
            let Some(volume) = volumes.get(index) else { continue };
            let parents =
                added.iter().filter(|(parent, _)| is_under(&target, parent)).map(|(_, stage)| *stage);
            let needs = parents.chain([root]).collect();
            let mounts = mounts::volume(index, volume, &target);
            let work = Work::Volume { mounts, required: volume.required };
            let stage = self.add(format!("volume:{target}"), work, needs);
            added.push((target, stage));
        }
        added
    }
}

/// The path without doubled, trailing and `.` components.
fn normal(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.fold(String::new(), |path, part| path + "/" + part)
}

/// Whether `path` is `parent` or inside it; both normal.
fn is_under(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
