//! Connections carried between host and guest, for as long as a process of the host wants them.
//!
//! ```text
//!  Outward   a listener of the host ── each connection ──► dial the agent ─ connect ──► a socket of the guest
//!  Inward    a listener of the guest ─ ticket ─► connect here, dial the agent ─ take ─► that connection
//!  Follow    the guest's list of ports ─ plan ─► Outward, one a port
//! ```
//!
//! Everything ends when it is dropped: listeners close, unix sockets' files go, carried connections are reset.

mod follow;
mod inward;
mod outward;
mod plan;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::hex::Secret;
use firstlight_protocol::message::forward::Address;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::agent::forward::CarryError;
use crate::agent::transport;
use crate::agent::{self, Connection};
use crate::backoff::{self, Attempt};

pub use follow::Follow;
pub use inward::Inward;
pub use outward::Outward;

/// Connections carried at one time. More wait in a kernel's backlog; the agent serves other clients besides us.
pub const MAX_CONNECTIONS: usize = 128;

/// How long an agent may be away. Its init starts a killed one again within moments.
const AGENT_DEADLINE: Duration = Duration::from_secs(10);

/// How long the agent may take for one request: its own connects end a little earlier, with their errno.
const REQUEST_DEADLINE: Duration = Duration::from_secs(15);

/// A unix socket on the host is for its owner.
const SOCKET_MODE: u32 = 0o600;

/// How long to let go of a listener when there is no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Which side listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The host listens, and connections go into the guest.
    Outward,
    /// The guest listens, and connections come to the host.
    Inward,
}

/// From one address on one side to one on the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which side listens.
    pub direction: Direction,
    /// Where it listens.
    pub from: Address,
    /// Where the other side connects to.
    pub to: Address,
}

/// What the user is told.
#[derive(Debug)]
pub enum Event {
    /// Connections on this route are carried from now on.
    Opened(Route),
    /// They are not any more: nobody listens at its end.
    Closed(Route),
    /// A port of the guest is not carried.
    Unopened(ListenError),
    /// One connection was not carried, or broke.
    Failed(Route, Failure),
}

/// Why a connection was not carried.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The other side could not be reached, or broke.
    #[error(transparent)]
    Agent(#[from] agent::Error),
    /// Nothing could be connected to on the host.
    #[error("connect {address}: {source}")]
    Connect {
        /// Where to.
        address: Address,
        /// Why not.
        source: io::Error,
    },
}

/// The host cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: {source}")]
pub struct ListenError {
    /// Where.
    pub address: Address,
    /// Why not.
    pub source: io::Error,
}

/// What all routes to one VM share.
#[derive(Debug, Clone)]
pub struct Forwarder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: transport::Address,
    token: Secret,
    places: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
}

impl Forwarder {
    /// Routes to the agent at `address`. What happens on them goes to `events`, which somebody has to read.
    #[must_use]
    pub fn new(address: transport::Address, token: Secret, events: mpsc::Sender<Event>) -> Forwarder {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Forwarder(Arc::new(Shared { address, token, places, events }))
    }

    /// A place for one more connection.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed; if it were, one connection more would do no harm.
        Arc::clone(&self.0.places).acquire_owned().await.ok()
    }

    /// A connection to the agent, waiting for one that is just being started again.
    async fn dial(&self) -> Result<Connection, agent::Error> {
        let deadline = Instant::now() + AGENT_DEADLINE;
        backoff::retry(deadline, backoff::jitter, || async {
            match Connection::open(&self.0.address, &self.0.token, deadline).await {
                Err(error) if is_away(&error) => Attempt::NotYet(error),
                opened => Attempt::Done(opened),
            }
        })
        .await?
    }

    async fn tell(&self, event: Event) {
        // It fails only when nobody is left to be told.
        let _ = self.0.events.send(event).await;
    }

    /// Tells of a connection that broke, unless it was this side's own peer that went away: whoever that is knows.
    async fn conclude(&self, route: &Route, carried: Result<(), CarryError>) {
        match carried {
            Ok(()) | Err(CarryError::Socket(_)) => {}
            Err(CarryError::Agent(error)) => self.tell(Event::Failed(route.clone(), error.into())).await,
        }
    }
}

/// Whether an agent may answer a moment later.
fn is_away(error: &agent::Error) -> bool {
    match error {
        agent::Error::Unreachable { .. } | agent::Error::Lost(_) => true,
        agent::Error::Refused(_)
        | agent::Error::Protocol(_)
        | agent::Error::Agent(_)
        | agent::Error::Timeout(_)
        | agent::Error::TooLarge(_)
        | agent::Error::Pool(_) => false,
    }
}
