//! Holding the guest still for a save, and telling a copy who it is.
//!
//! ```text
//!  prepare: hold the gate ─► drain ─► disconnect ─► sync ─► freeze ─► (saved here) ─► thaw
//!                 └── watchdog: thaw and open the gate by itself
//!  restore: generation, clock, entropy, thaw, host name, machine id, network, environment, token ─► open the gate
//! ```

mod freeze;
mod identity;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::output::Position;
use firstlight_protocol::message::snapshot::{
    SnapshotPrepareRequest, SnapshotPrepared, SnapshotRestoreRequest, SnapshotRestored, SnapshotThawed, Step,
    StepDone,
};
use tokio::task::{AbortHandle, spawn_blocking};

use crate::agent::Agent;
use crate::deframer::Frame;
use crate::gate::Session;
use crate::session::SessionError;
use crate::wire::Connection;
use crate::{clock, failure, journal};

pub use freeze::FrozenFile;

const OPERATION: &str = "snapshot";

/// How long a connection may take to notice that it was shut down.
const DISCONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// What the agent keeps for a guest that is held still.
#[derive(Debug)]
pub struct Hold {
    frozen: FrozenFile,
    watchdog: Mutex<Option<AbortHandle>>,
    /// Held by whoever freezes or thaws, so that neither overtakes the other: a guest that is thawed first and frozen
    /// then would stay so for ever.
    turn: tokio::sync::Mutex<()>,
}

/// Whether a session goes on after a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Then {
    /// It does.
    GoOn,
    /// It was let in by a token that counts no more.
    Close,
}

/// Whether a request is one of this module's, which alone are served while the gate is held.
#[must_use]
pub fn is_of_snapshots(kind: Kind) -> bool {
    matches!(kind, Kind::SnapshotPrepareRequest | Kind::SnapshotThawRequest | Kind::SnapshotRestoreRequest)
}

impl Hold {
    /// Thaws what an agent that was killed has left frozen, as `path` says.
    #[must_use]
    pub fn recover(path: PathBuf) -> Hold {
        let frozen = FrozenFile::new(path);
        if let Err(error) = frozen.thaw() {
            journal::say(&format_args!("thaw what an earlier agent froze: {error}"));
        }
        Hold { frozen, watchdog: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    fn set_watchdog(&self, watchdog: Option<AbortHandle>) {
        let mut slot = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = std::mem::replace(&mut *slot, watchdog) {
            before.abort();
        }
    }
}

/// Serves one of this module's requests.
///
/// # Errors
/// [`SessionError`] when the answer cannot be sent.
pub async fn run(
    agent: &Arc<Agent>,
    connection: &mut Connection,
    session: &Session<'_>,
    frame: &Frame,
) -> Result<Then, SessionError> {
    let answer = match agent.hold.as_ref() {
        None => Err(failure::invalid(OPERATION, "this agent was not started by the init of a VM")),
        Some(hold) => serve(agent, hold, session, frame).await?,
    };
    let (kind, payload) = match answer {
        Ok(answer) => answer,
        Err(error) => (Kind::Error, codec::encode(&error)?),
    };
    let sent = connection.writer.send(kind, frame.header.id, &payload).await;
    if let (Err(_), Kind::SnapshotPrepared, Some(hold)) = (&sent, kind, &agent.hold) {
        // Whoever wanted to save the guest has gone, and will not thaw it.
        release(agent, hold).await;
    }
    sent?;
    Ok(if kind == Kind::SnapshotRestored { Then::Close } else { Then::GoOn })
}

type Answer = Result<(Kind, Vec<u8>), AgentError>;

async fn serve(
    agent: &Arc<Agent>,
    hold: &Arc<Hold>,
    session: &Session<'_>,
    frame: &Frame,
) -> Result<Answer, SessionError> {
    Ok(if frame.header.kind == Kind::SnapshotPrepareRequest {
        match prepare(agent, hold, session, &codec::decode(&frame.payload)?).await {
            Ok(prepared) => Ok((Kind::SnapshotPrepared, codec::encode(&prepared)?)),
            Err(error) => Err(error),
        }
    } else if frame.header.kind == Kind::SnapshotRestoreRequest {
        match restore(agent, hold, codec::decode(&frame.payload)?).await {
            Ok(restored) => Ok((Kind::SnapshotRestored, codec::encode(&restored)?)),
            Err(error) => Err(error),
        }
    } else {
        let steps = release(agent, hold).await;
        Ok((Kind::SnapshotThawed, codec::encode(&SnapshotThawed { steps })?))
    })
}

/// What was done, and how long each part took.
#[derive(Debug, Default)]
struct Steps(Vec<StepDone>);

impl Steps {
    fn run<T>(&mut self, step: Step, work: impl FnOnce() -> Result<T, AgentError>) -> Result<T, AgentError> {
        let start = Instant::now();
        let done = work()?;
        self.done(step, start);
        Ok(done)
    }

    fn done(&mut self, step: Step, start: Instant) {
        let duration_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.push(StepDone { step, duration_ns });
    }
}

async fn prepare(
    agent: &Arc<Agent>,
    hold: &Arc<Hold>,
    session: &Session<'_>,
    request: &SnapshotPrepareRequest,
) -> Result<SnapshotPrepared, AgentError> {
    let _turn = hold.turn.lock().await;
    agent.gate.hold().map_err(|_| failure::busy(OPERATION, "the guest is held for another snapshot"))?;
    // Before anything is frozen: whatever becomes of us and the host, the guest goes on.
    let patience = Duration::from_millis(request.watchdog_ms.into());
    hold.set_watchdog(Some(watch(agent, hold, patience)));
    let steps = match hold_still(agent, hold, session, request).await {
        Ok(steps) => steps,
        Err(error) => {
            hold.set_watchdog(None);
            thaw_and_open(agent, hold).await;
            return Err(error);
        }
    };
    let output = agent.output.as_ref().map_or(Position::default(), |output| output.watch().borrow().end());
    Ok(SnapshotPrepared { steps, output })
}

async fn hold_still(
    agent: &Agent,
    hold: &Arc<Hold>,
    session: &Session<'_>,
    request: &SnapshotPrepareRequest,
) -> Result<Vec<StepDone>, AgentError> {
    let mut steps = Steps::default();
    let start = Instant::now();
    if !agent.gate.drain(Duration::from_millis(request.drain_ms.into())).await {
        let waited = format!("requests were still under way after {} ms", request.drain_ms);
        return Err(failure::busy(OPERATION, waited));
    }
    steps.done(Step::Drain, start);
    let start = Instant::now();
    if !agent.gate.disconnect_others(session, DISCONNECT_DEADLINE).await {
        return Err(failure::busy(OPERATION, "a connection did not end"));
    }
    steps.done(Step::Disconnect, start);
    let hold = Arc::clone(hold);
    on_thread(move || {
        steps.run(Step::Sync, || {
            nix::unistd::sync();
            Ok(())
        })?;
        steps.run(Step::Freeze, || hold.frozen.freeze())?;
        Ok(steps.0)
    })
    .await
}

/// Thaws the guest and lets everybody in when nobody else has within `patience`.
fn watch(agent: &Arc<Agent>, hold: &Arc<Hold>, patience: Duration) -> AbortHandle {
    let (agent, hold) = (Arc::clone(agent), Arc::clone(hold));
    let watchdog = async move {
        tokio::time::sleep(patience).await;
        let _turn = hold.turn.lock().await;
        journal::say(&format_args!("nobody thawed the guest within {} ms", patience.as_millis()));
        thaw_and_open(&agent, &hold).await;
    };
    tokio::spawn(watchdog).abort_handle()
}

/// Ends the hold; nothing is done when there is none.
async fn release(agent: &Agent, hold: &Arc<Hold>) -> Vec<StepDone> {
    let _turn = hold.turn.lock().await;
    hold.set_watchdog(None);
    if agent.gate.is_held() { thaw_and_open(agent, hold).await } else { Vec::new() }
}

/// Ends the hold, for whoever has the turn.
async fn thaw_and_open(agent: &Agent, hold: &Arc<Hold>) -> Vec<StepDone> {
    let hold = Arc::clone(hold);
    let thawed = on_thread(move || {
        let mut steps = Steps::default();
        steps.run(Step::Thaw, || hold.frozen.thaw())?;
        Ok(steps.0)
    });
    let steps = thawed.await.unwrap_or_else(|error| {
        journal::say(&format_args!("thaw: {error}"));
        Vec::new()
    });
    agent.gate.open();
    steps
}

async fn restore(
    agent: &Arc<Agent>,
    hold: &Arc<Hold>,
    request: SnapshotRestoreRequest,
) -> Result<SnapshotRestored, AgentError> {
    let _turn = hold.turn.lock().await;
    if !agent.gate.is_held() {
        return Err(failure::invalid(
            OPERATION,
            "this guest is no copy: it was not held still for a snapshot",
        ));
    }
    hold.set_watchdog(None);
    let (applied, hold) = (Arc::clone(agent), Arc::clone(hold));
    let steps = on_thread(move || apply(&applied, &hold, request)).await?;
    agent.gate.open();
    Ok(SnapshotRestored { steps })
}

/// The steps of a restore, in order.
fn apply(agent: &Agent, hold: &Hold, request: SnapshotRestoreRequest) -> Result<Vec<StepDone>, AgentError> {
    let mut steps = Steps::default();
    let mut incarnation = agent.incarnation();
    steps.run(Step::Generation, || {
        incarnation.boot_id = request.boot_id;
        Ok(())
    })?;
    steps.run(Step::Clock, || clock::set(request.wall_ns))?;
    steps.run(Step::Entropy, || identity::add_entropy(&request.entropy))?;
    steps.run(Step::Thaw, || hold.frozen.thaw())?;
    steps.run(Step::Hostname, || request.hostname.as_deref().map_or(Ok(()), identity::set_hostname))?;
    steps.run(Step::MachineId, || identity::set_machine_id(request.machine_id))?;
    steps.run(Step::Network, || identity::set_network(&request.interfaces, &request.nameservers))?;
    steps.run(Step::Environment, || {
        incarnation.environment = request.environment;
        agent.processes.set_environment(incarnation.environment.clone());
        Ok(())
    })?;
    steps.run(Step::Token, || {
        incarnation.token = request.token;
        agent.become_incarnation(incarnation)
    })?;
    Ok(steps.0)
}

/// Runs what waits for disks and the kernel where nobody waits for it.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AgentError> + Send + 'static,
) -> Result<T, AgentError> {
    let failed = |_| failure::invalid(OPERATION, "the agent is ending");
    spawn_blocking(work).await.map_err(failed)?
}
