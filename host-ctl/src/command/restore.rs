//! `restore SNAP [--name N]`

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::pool::vms::LABEL;
use firstlight_host_ctl::snapshot::{self, Identity, Memory, Snapshots};
use firstlight_host_ctl::vm::id::hostname;
use firstlight_host_ctl::vm::{Store, VmId};

use super::run::{Unstarted, Until, background, network_of};
use crate::cli::resolved::Context;
use crate::cli::value::duration;
use crate::cli::value::environment::{self, Variable};
use crate::cli::value::network::{self, Net};
use crate::interrupt::Interrupts;
use crate::output::Failure;

/// Make a VM that goes on where a snapshot was taken
///
/// Any number of VMs may come from one snapshot. Each has a name, a machine id, network addresses and random numbers of
/// its own, and the right time. What runs in it goes on; what is exec'd later sees the variables given here.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The snapshot
    #[arg(value_name = "SNAP")]
    snapshot: String,

    /// The VM's name [default: vm- and the beginning of its id]
    #[arg(long)]
    name: Option<String>,

    /// Set a variable for later execs, or pass yours on: NAME=value or NAME; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = environment::parse)]
    env: Vec<Variable>,

    /// As for run [default: the snapshot's kind, with an address of its own]
    #[arg(long, value_parser = network::parse)]
    net: Option<Net>,

    /// Let it see the snapshot's memory itself, and keep what it changes: it starts at once, takes only the memory that it
    /// changes, and cannot be saved. The snapshot has to be of a VM that was run with --transport serial
    #[arg(long)]
    private: bool,

    /// Load it and hold it still; it is told who it is when it is resumed
    #[arg(long)]
    paused: bool,

    /// Fail, and end the VM, if it is not running by then
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "60s")]
    timeout: Duration,
}

impl Restore {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = Store::open(&context.state_dir)?;
        let interrupts = Interrupts::listen()?;
        let snapshot = Snapshots::open(&store)?.find(&self.snapshot)?;
        let id = VmId::random().map_err(|error| Failure::failed(format!("no random bytes: {error}")))?;
        let name = self.name.clone().unwrap_or_else(|| format!("vm-{}", &id.to_string()[..6]));
        let environment = environment::resolve(&self.env, |name| std::env::var(name).ok());
        let identity = Identity {
            hostname: hostname(&name),
            network: self.net.as_ref().map(|net| network_of(net, id)).transpose()?,
            environment: environment.into_iter().collect(),
            // A copy of a pool's VM is not the pool's.
            labels: snapshot
                .manifest()
                .spec
                .labels
                .clone()
                .into_iter()
                .filter(|(key, _)| key != LABEL)
                .collect(),
            memory: if self.private { Memory::Mapped } else { Memory::Copied },
            paused: self.paused,
            name,
            id,
        };
        let vm = snapshot::make(&store, &snapshot, identity).await?;
        let vm = Unstarted::new(&store, vm);
        // A VM that is to be paused is so once its VMM runs.
        let until = if self.paused { Until::Initializing } else { Until::Running };
        background::run(vm, until, self.timeout, interrupts, context).await
    }
}
