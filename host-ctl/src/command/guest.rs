//! What every command does that asks something of a guest's agent.

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::agent::{Agent, Ask as _, Connection, Unary};
use firstlight_host_ctl::monitor::client;
use firstlight_host_ctl::operation::Operation;
use firstlight_host_ctl::vm::{Store, VmDir};
use firstlight_protocol::message::file::Place;
use tokio::time::Instant;

use super::explain::{agent_failure, require_for};
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

/// A running VM, and a connection to its agent for a stream.
pub(super) struct Guest {
    /// Its name.
    pub(super) name: String,
    /// The connection.
    pub(super) connection: Connection,
}

impl Guest {
    /// Reaches the agent of a VM whose state allows the command `command`.
    pub(super) async fn reach(context: &Context, name: &str, command: &str) -> Result<Guest, Failure> {
        let vm = running(context, name, command).await?;
        Ok(Guest { name: vm.spec().name.clone(), connection: connect(&vm).await? })
    }
}

/// A VM whose state allows the command `command`, which needs its agent.
pub(super) async fn running(context: &Context, name: &str, command: &str) -> Result<VmDir, Failure> {
    let vm = Store::open(&context.state_dir)?.resolve(name)?;
    client::ensure(&vm).await?;
    require_for(command, Operation::Exec, &vm.view()?)?;
    Ok(vm)
}

/// A running VM's agent, for what has one answer. All of a command's requests share one connection to each VM.
#[derive(Clone)]
pub(super) struct Requests {
    name: String,
    agent: Agent,
}

impl Requests {
    /// The agent of a VM whose state allows the command `command`.
    pub(super) async fn to(context: &Context, vm: &VmDir, command: &str) -> Result<Requests, Failure> {
        client::ensure(vm).await?;
        require_for(command, Operation::Exec, &vm.view()?)?;
        let name = vm.spec().name.clone();
        match context.agents()?.of(vm)? {
            Some(agent) => Ok(Requests { name, agent }),
            None => Err(no_way(&name)),
        }
    }

    /// The same, by the VM's name.
    pub(super) async fn to_name(context: &Context, name: &str, command: &str) -> Result<Requests, Failure> {
        let vm = Store::open(&context.state_dir)?.resolve(name)?;
        Requests::to(context, &vm, command).await
    }

    /// The VM's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The agent.
    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Asks for something that has one answer.
    pub(super) async fn ask<R: Unary + Sync>(&self, request: &R) -> Result<R::Answer, Failure> {
        let answer = self.agent.request(request, Instant::now() + ANSWER_TIMEOUT).await;
        answer.map_err(|error| agent_failure(&error, &self.name))
    }
}

/// Connects to the agent of a VM that runs.
pub(super) async fn connect(vm: &VmDir) -> Result<Connection, Failure> {
    let name = &vm.spec().name;
    let Some((address, token)) = vm.agent()? else {
        return Err(no_way(name));
    };
    let opened = Connection::open(&address, &token, Instant::now() + CONNECT_TIMEOUT).await;
    opened.map_err(|error| agent_failure(&error, name))
}

fn no_way(vm: &str) -> Failure {
    Failure::new(Code::Unreachable, format!("{vm} has no way to its agent")).of_vm(vm)
}
