//! What the monitor asks the agent for, besides the program's output.

use firstlight_protocol::hex::Secret;
use firstlight_protocol::message::events::EventsRequest;
use firstlight_protocol::message::shutdown::ShutdownRequest;
use firstlight_protocol::sentinel::Scanner;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use super::events::{Identity, authentic};
use super::input::Input;
use crate::agent::transport::Address;
use crate::agent::{Connection, Error};
use crate::vm::record::Source;

/// How long the agent may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where the boot's agent is, and what it asks for.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) address: Address,
    pub(super) token: Secret,
}

/// Asks for the boot's events from `from_seq` on and passes them on. They are of use to a monitor that has lost its own;
/// when the agent cannot be asked, init's event stream says them too.
pub(super) async fn recall(agent: Agent, from_seq: u64, identity: Identity, inputs: mpsc::Sender<Input>) {
    let deadline = Instant::now() + DEADLINE;
    let ask = async {
        let mut connection = Connection::open(&agent.address, &agent.token, deadline).await?;
        connection.request(&EventsRequest { from_seq }, deadline).await
    };
    let answer: Result<_, Error> = ask.await;
    let Ok(events) = answer else { return };
    let mut scanner = Scanner::new(identity.key);
    for sentinel in authentic(&mut scanner, &events.lines, identity.boot) {
        let _ = inputs.send(Input::Heard { sentinel, source: Source::Agent }).await;
    }
}

/// Asks the agent to end the VM in order. When it cannot, the stop's deadline passes.
pub(super) async fn shut_down(agent: Agent, grace_ms: u32) {
    let deadline = Instant::now() + DEADLINE;
    if let Ok(mut connection) = Connection::open(&agent.address, &agent.token, deadline).await {
        let _ = connection.request(&ShutdownRequest { grace_ms: Some(grace_ms) }, deadline).await;
    }
}
