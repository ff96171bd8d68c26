//! `kill [-s SIGNAL] NAME...`

use clap::Args;
use firstlight_host_ctl::monitor::client::Connection;
use firstlight_host_ctl::monitor::wire::Request;
use firstlight_host_ctl::operation::Operation;
use firstlight_host_ctl::vm::VmDir;

use super::explain::require;
use super::several::Targets;
use super::stop::end;
use crate::cli::resolved::Context;
use crate::cli::value::signal;
use crate::output::Failure;

/// End VMs by force, or send a signal to their programs
#[derive(Debug, Args)]
pub(crate) struct Kill {
    #[command(flatten)]
    targets: Targets,

    /// Send this signal to the program instead of ending the VM, by name or number
    #[arg(short, long, value_parser = signal::parse)]
    signal: Option<u8>,
}

impl Kill {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let signal = self.signal;
        let each = move |_, vm: VmDir| async move {
            match signal {
                Some(number) => send(&vm, number).await,
                None => end(&vm, Operation::Kill, &Request::Kill).await,
            }
        };
        self.targets.each(context, each).await
    }
}

async fn send(vm: &VmDir, number: u8) -> Result<(), Failure> {
    let mut connection = Connection::open(vm).await?;
    connection.subscribe().await?;
    require(Operation::Signal, &connection.view())?;
    Ok(connection.request(&Request::Signal { number }).await?)
}
