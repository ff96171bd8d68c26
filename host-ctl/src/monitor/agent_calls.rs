//! What the monitor asks the agent for, besides the program's output.

use firstlight_protocol::boot_spec::BootSpec;
use firstlight_protocol::hex::Secret;
use firstlight_protocol::message::clock::ClockRequest;
use firstlight_protocol::message::events::EventsRequest;
use firstlight_protocol::message::hello::Refusal;
use firstlight_protocol::message::shutdown::ShutdownRequest;
use firstlight_protocol::sentinel::Scanner;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use super::events::{Identity, authentic};
use super::input::{Input, Told};
use super::port::Greeted;
use super::restore;
use super::road::Road;
use crate::agent::transport::Address;
use crate::agent::{Connection, Error, ThawRequest, Unary};
use crate::backoff::{Attempt, jitter, retry};
use crate::clock::Stamp;
use crate::snapshot::saved::TimedStep;
use crate::vm::record::{SaveFailure, Source};

/// How long the agent may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long one attempt to reach a guest that has just got its vsock may take.
const ATTEMPT: Duration = Duration::from_millis(250);

/// How long a guest that goes on may take to set its clock, before it counts as running with a wrong one.
const CLOCK_DEADLINE: Duration = Duration::from_secs(2);

/// How long a copy may take to be told who it is, on a busy host under emulation.
const RESTORE_DEADLINE: Duration = Duration::from_secs(30);

/// Where the boot's agent is, and what it asks for.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) address: Address,
    pub(super) token: Secret,
    /// To be travelled before the address is dialled.
    pub(super) road: Road,
    /// When it was first heard over its port, if it has one.
    pub(super) greeted: Greeted,
}

/// Asks for the boot's events from `from_seq` on and passes them on. They are of use to a monitor that has lost its own;
/// when the agent cannot be asked, init's event stream says them too.
pub(super) async fn recall(agent: Agent, from_seq: u64, identity: Identity, inputs: mpsc::Sender<Input>) {
    let deadline = Instant::now() + DEADLINE;
    let ask = async {
        agent.road.travel().await;
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

/// Lets a guest that was held still for a save go on. When it cannot be asked, its watchdog does the same.
pub(super) async fn thaw(agent: Agent) {
    agent.road.travel().await;
    let deadline = Instant::now() + DEADLINE;
    let thawed =
        retry(deadline, jitter, async || match ask(&agent.address, &agent.token, ThawRequest).await {
            Ok(_) => Attempt::Done(()),
            Err(_) => Attempt::NotYet(()),
        });
    if thawed.await.is_ok() {
        set_clock(agent).await;
    }
}

/// Tells a guest that stood still what time it is. An agent that was saved by an earlier version knows no such question, and
/// the clock of its guest stays behind.
pub(super) async fn set_clock(agent: Agent) {
    agent.road.travel().await;
    let deadline = Instant::now() + CLOCK_DEADLINE;
    let set = async {
        let mut connection = Connection::open(&agent.address, &agent.token, deadline).await?;
        // Made only now, because it holds the time.
        connection.request(&ClockRequest { wall_ns: Stamp::now().wall_ns }, deadline).await
    };
    let _: Result<(), Error> = set.await;
}

/// Lets a guest go on whose save another monitor did not live to end, and says so.
pub(super) async fn end_save(agent: Agent, failure: SaveFailure, inputs: mpsc::Sender<Input>) {
    thaw(agent).await;
    let _ = inputs.send(Input::Saved(Err(failure))).await;
}

/// Tells a copy who it is, until it has heard.
pub(super) async fn restore(agent: Agent, now: BootSpec, before: BootSpec, inputs: mpsc::Sender<Input>) {
    agent.road.travel().await;
    let deadline = Instant::now() + RESTORE_DEADLINE;
    let told = retry(deadline, jitter, async || match try_restore(&agent, &now, &before).await {
        Ok(told) => Attempt::Done(Ok(told)),
        Err(Error::Agent(error)) => Attempt::Done(Err(error.to_string())),
        Err(error) => Attempt::NotYet(error.to_string()),
    });
    let told = told.await.unwrap_or_else(Err);
    let _ = inputs.send(Input::Restored(told)).await;
}

async fn try_restore(agent: &Agent, now: &BootSpec, before: &BootSpec) -> Result<Told, Error> {
    let old = before.agent.as_ref().map_or(&agent.token, |agent| &agent.token);
    match Connection::open(&agent.address, old, Instant::now() + ATTEMPT).await {
        Ok(mut connection) => {
            let answered = agent.greeted.get().copied().unwrap_or_else(Stamp::now);
            // Made only now, because it holds the time.
            let made = restore::request(now, before).map_err(Error::Lost)?;
            let Some(request) = made else { return Ok(Told { answered, steps: Vec::new() }) };
            let restored = connection.request(&request, Instant::now() + DEADLINE).await?;
            Ok(Told { answered, steps: restored.steps.iter().map(TimedStep::from).collect() })
        }
        // It has heard, and only its answer was lost.
        Err(Error::Refused(Refusal::WrongToken)) => {
            let deadline = Instant::now() + ATTEMPT;
            let opened = Connection::open(&agent.address, &agent.token, deadline).await;
            opened.map(|_| Told { answered: Stamp::now(), steps: Vec::new() })
        }
        Err(error) => Err(error),
    }
}

/// One attempt: a vsock that was just plugged in drops what comes before the guest is ready for it.
async fn ask<R: Unary>(address: &Address, token: &Secret, request: R) -> Result<R::Answer, Error> {
    let mut connection = Connection::open(address, token, Instant::now() + ATTEMPT).await?;
    connection.request(&request, Instant::now() + DEADLINE).await
}

/// Asks the agent to end the VM in order. When it cannot, the stop's deadline passes.
pub(super) async fn shut_down(agent: Agent, grace_ms: u32) {
    agent.road.travel().await;
    let deadline = Instant::now() + DEADLINE;
    if let Ok(mut connection) = Connection::open(&agent.address, &agent.token, deadline).await {
        let _ = connection.request(&ShutdownRequest { grace_ms: Some(grace_ms) }, deadline).await;
    }
}
