//! What every command does that asks something of a guest's agent.

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::agent::{Client, Connection, Unary};
use firstlight_host_ctl::monitor::client;
use firstlight_host_ctl::operation::Operation;
use firstlight_host_ctl::vm::{Store, VmDir};
use firstlight_protocol::message::file::Place;
use tokio::time::Instant;

use super::explain::{agent_failure, require, require_for};
use crate::cli::resolved::Context;
use crate::output::{Code, Failure};

/// How long a Running VM's agent may take to answer. It listens already, so only a stuck or overloaded guest needs it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one operation on files may take. Only removing a large tree takes more than moments.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(10);

/// Where paths of a guest begin.
#[derive(Debug, Args)]
pub(super) struct InRoot {
    /// Take guest paths, links and `..` too, as if this directory of the guest were its root
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: String,
}

impl InRoot {
    /// A path inside the root.
    pub(super) fn place(&self, path: Vec<u8>) -> Place {
        Place { root: self.root.clone().into_bytes(), path }
    }
}

/// A running VM, and a connection to its agent.
pub(super) struct Guest {
    /// Its name.
    pub(super) name: String,
    /// The connection.
    pub(super) connection: Connection,
}

impl Guest {
    /// Reaches the agent of a VM whose state allows that.
    pub(super) async fn reach(context: &Context, name: &str) -> Result<Guest, Failure> {
        let vm = running(context, name).await?;
        Ok(Guest { name: vm.spec().name.clone(), connection: connect(&vm).await? })
    }

    /// Asks for something that has one answer.
    pub(super) async fn ask<R: Unary>(&mut self, request: &R) -> Result<R::Answer, Failure> {
        let answer = self.connection.request(request, Instant::now() + ANSWER_TIMEOUT).await;
        answer.map_err(|error| agent_failure(&error, &self.name))
    }
}

/// A VM whose state allows to reach its agent.
pub(super) async fn running(context: &Context, name: &str) -> Result<VmDir, Failure> {
    let vm = Store::open(&context.state_dir)?.resolve(name)?;
    client::ensure(&vm).await?;
    require(Operation::Exec, &vm.view()?)?;
    Ok(vm)
}

/// A client for the requests of the command `command`, which needs a running VM with an agent.
pub(super) async fn requests(vm: &VmDir, command: &str) -> Result<Client, Failure> {
    client::ensure(vm).await?;
    require_for(command, Operation::Exec, &vm.view()?)?;
    Ok(Client::new(connect(vm).await?))
}

/// Connects to the agent of a VM that runs.
pub(super) async fn connect(vm: &VmDir) -> Result<Connection, Failure> {
    let name = &vm.spec().name;
    let Some((address, token)) = vm.agent()? else {
        return Err(Failure::new(Code::Unreachable, format!("{name} has no way to its agent")).of_vm(name));
    };
    let opened = Connection::open(&address, &token, Instant::now() + CONNECT_TIMEOUT).await;
    opened.map_err(|error| agent_failure(&error, name))
}
