//! `run [FLAGS] -- CMD ARG...`

pub(super) mod background;
mod end;
mod foreground;
mod notify;
mod options;
mod resolve;
mod started;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use firstlight_host_ctl::vm::{Draft, Store, VmSpec};

use crate::cli::resolved::Context;
use crate::cli::value::duration;
use crate::interrupt::Interrupts;
use crate::output::{self, Failure};

pub(super) use end::before_running;
pub(super) use options::VmOptions;
pub(super) use resolve::{network as network_of, prefer_savable, spec as resolve_spec};
pub(super) use started::{Started, Unstarted};

/// Boot a VM and run a program in it
///
/// In the foreground the program's output is this command's, and so is its exit code: 128 plus the signal that ended it,
/// 126 if it cannot be invoked, 127 if it is not there, 125 if host-ctl itself failed. The first Ctrl-C is passed on, the
/// second ends the VM. Without a command the VM idles until it is stopped.
#[derive(Debug, Args)]
#[command(after_help = "Example: host-ctl run --rm -- echo hi")]
pub(crate) struct Run {
    /// The VM's name [default: vm- and the beginning of its id]
    #[arg(long)]
    name: Option<String>,

    /// Return as soon as the VM is up, and print its name
    #[arg(short, long)]
    detach: bool,

    /// Remove the VM when it has ended
    #[arg(long)]
    rm: bool,

    /// What -d waits for
    #[arg(long, value_enum, default_value_t = Until::Running)]
    wait: Until,

    /// Fail, and end the VM, if that takes longer
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "60s")]
    timeout: Duration,

    /// Print the VM's spec and start nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    vm: VmOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Until {
    /// The program runs and the agent listens
    Running,
    /// The VMM runs
    Initializing,
    /// Nothing
    None,
}

impl Run {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = Store::open(&context.state_dir)?;
        if self.dry_run {
            let (spec, _draft) = self.spec(&store)?;
            output::json(&spec)?;
            return Ok(ExitCode::SUCCESS);
        }
        // From here on a signal ends the VM, and not us before we could.
        let interrupts = Interrupts::listen()?;
        let (spec, draft) = self.spec(&store)?;
        let vm = draft.commit(&spec)?;
        let vm = started::Unstarted::new(&store, vm);
        if self.detach {
            background::run(vm, self.wait, self.timeout, interrupts, context).await
        } else {
            foreground::run(vm, self.timeout, self.rm, interrupts, context).await
        }
    }

    fn spec(&self, store: &Store) -> Result<(VmSpec, Draft), Failure> {
        let (mut spec, draft) = resolve_spec(&self.vm, self.name.as_deref(), store)?;
        // A foreground run removes its VM itself, once it has written out what the program said.
        spec.rm_on_exit = self.rm && self.detach;
        Ok((spec, draft))
    }
}
