//! The stages of the boot. Each takes what the plan decided and does it, by system calls alone.
//!
//! `agent`, `program` and `headers` only prepare what the supervisor then starts: processes belong to one thread, the one that
//! reaps them.

pub(crate) mod agent;
pub(crate) mod cgroup;
pub(crate) mod devices;
pub(crate) mod early;
pub(crate) mod headers;
pub(crate) mod identity;
pub(crate) mod in_root;
pub(crate) mod modules;
pub(crate) mod mounts;
pub(crate) mod network;
pub(crate) mod networkd;
pub(crate) mod program;
pub(crate) mod root;
pub(crate) mod units;
pub(crate) mod volumes;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use firstlight_protocol::boot_spec::BootSpec;

use crate::error::Fault;
use crate::plan::Work;
use crate::wait::Flag;
use devices::Devices;
use modules::Loader;

/// What every stage may use. The working directory and the root of the process change under the feet of those that
/// run beside the `root` stage, so whatever they open is opened from a descriptor in here.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) spec: BootSpec,
    /// What the spec was read from.
    pub(crate) document: Vec<u8>,
    /// The root of the initramfs, which no path reaches once the root is switched.
    pub(crate) initramfs: Arc<OwnedFd>,
    pub(crate) loader: Loader,
    pub(crate) devices: Devices,
    /// Raised when the boot is called off. Never lowered.
    pub(crate) cancelled: Arc<Flag>,
    /// Raised when there is something for the supervisor.
    pub(crate) wake: Arc<Flag>,
}

/// How a stage ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Done {
    /// Why it did nothing, or not all of it.
    pub(crate) skipped: Option<String>,
}

/// Does the work of a stage that runs on a thread of the driver's.
///
/// # Errors
/// What went wrong, as the FATAL sentinel will say it.
pub(crate) fn perform(work: &Work, context: &Context) -> Result<Done, Fault> {
    match work {
        Work::Modules { names, .. } => Ok(context.loader.load(names).map(|()| Done::default())?),
        // Who needs them says so in its own way; the program does not.
        Work::LateModules(names) => {
            Ok(Done { skipped: context.loader.load(names).err().map(|error| Fault::from(error).to_string()) })
        }
        Work::Root(mounts) => Ok(root::switch(mounts, context).map(|()| Done::default())?),
        Work::Volume { mounts, required } => Ok(volumes::mount(mounts, *required, context)?),
        Work::Network => Ok(network::configure(context).map(|()| Done::default())?),
        Work::Identity => Ok(identity::establish(&context.spec)?),
        Work::Units => Ok(units::leave(context).map(|()| Done::default())?),
        // The supervisor's.
        Work::Agent | Work::Program | Work::Headers => Ok(Done::default()),
    }
}
