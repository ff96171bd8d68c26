//! The agents of many VMs, each over a connection that is shared and kept for a while.
//!
//! ```text
//!  VmDir ──► Key (id, generation) and Endpoint ──► Agent ── request ──► connection_pool ──► Client ──► frames
//! ```
//!
//! This is how a library user asks things that have one answer, and how every such command does. What streams takes a
//! [`Connection`] for itself.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use firstlight_protocol::hex::Secret;
use tokio::time::Instant;

use super::client::Client;
use super::connection::Connection;
use super::connection_pool::{
    DIAL_LIMIT, Dialer, Drained, Generation, Key, Poison, Pool, Settings, UseError,
};
use super::error::Error;
use super::transport::Address;
use super::unary::Unary;
use crate::vm::VmDir;
use crate::vm::vm_dir::VmDirError;

/// How long a caller waits for a connection, if its own deadline is not earlier. A Running VM's agent listens already, so
/// only a stuck or overloaded guest needs it.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How often a request that has not been sent yet is given another connection, because the agent had ended the one it got.
const FRESH_CONNECTIONS: usize = 2;

/// Whoever carries requests to an agent and its answers back.
pub trait Ask {
    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// [`Error::Agent`] when the agent answers with an error, [`Error::Timeout`] at the deadline.
    fn request<R: Unary + Sync>(
        &self,
        request: &R,
        deadline: Instant,
    ) -> impl Future<Output = Result<R::Answer, Error>> + Send;
}

/// The agents of a host's VMs. Cloning it gives the same connections once more.
#[derive(Clone)]
pub struct Agents {
    pool: Arc<Pool<AgentDialer>>,
    endpoints: Arc<Endpoints>,
}

/// The agent of one boot of one VM. Holding it holds no connection: each request takes the one that there is.
#[derive(Clone)]
pub struct Agent {
    agents: Agents,
    key: Key,
    endpoint: Arc<Endpoint>,
}

/// Where an agent is, and what it asks for.
#[derive(Debug)]
struct Endpoint {
    address: Address,
    token: Secret,
}

/// The endpoints of the agents that somebody holds; a dial knows no more than a key.
type Endpoints = Mutex<BTreeMap<Key, Weak<Endpoint>>>;

impl Agents {
    /// No connection yet. Must be called within a tokio runtime, in which its tasks run.
    #[must_use]
    pub fn new(settings: Settings) -> Agents {
        let endpoints = Arc::<Endpoints>::default();
        let pool = Arc::new(Pool::new(AgentDialer { endpoints: Arc::clone(&endpoints) }, settings));
        Agents { pool, endpoints }
    }

    /// The agent of the VM's latest boot; `None` when the VM was never started, has no vsock, or runs without an agent. That
    /// there is a boot later than another poisons the connections to the other.
    ///
    /// # Errors
    /// [`VmDirError`].
    pub fn of(&self, vm: &VmDir) -> Result<Option<Agent>, VmDirError> {
        let fold = vm.fold()?;
        let key = Key::new(vm.spec().id.to_string(), Generation(u64::from(fold.boots())));
        Ok(vm.agent_of(&fold)?.map(|(address, token)| self.at(key, address, token)))
    }

    /// The agent at `address`, for whoever keeps no [`VmDir`].
    #[must_use]
    pub fn at(&self, key: Key, address: Address, token: Secret) -> Agent {
        let mut endpoints = lock(&self.endpoints);
        endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        let held = endpoints.get(&key).and_then(Weak::upgrade);
        let endpoint = held.unwrap_or_else(|| Arc::new(Endpoint { address, token }));
        endpoints.insert(key.clone(), Arc::downgrade(&endpoint));
        drop(endpoints);
        self.pool.supersede(&key);
        Agent { agents: self.clone(), key, endpoint }
    }

    /// Lets requests under way finish until `deadline`, closes all connections and takes no request any more. Afterwards
    /// there is neither a descriptor nor a task of it.
    pub async fn close(&self, deadline: Instant) -> Drained {
        self.pool.close(deadline).await
    }
}

impl Agent {
    /// Which boot of which VM it serves.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }
}

impl Ask for Agent {
    /// As of [`Client`], and [`Error::Pool`] when there is no connection to be had.
    async fn request<R: Unary + Sync>(&self, request: &R, deadline: Instant) -> Result<R::Answer, Error> {
        let mut left = FRESH_CONNECTIONS;
        loop {
            let connected = deadline.min(Instant::now() + CONNECT_LIMIT);
            let handle = self.agents.pool.acquire(&self.key, connected).await?;
            let answer = handle.perform(|client| async move {
                if client.is_open() { client.request(request, deadline).await.map(Some) } else { Ok(None) }
            });
            match answer.await {
                Ok(Some(answer)) => return Ok(answer),
                // It ended while nobody used it, so nothing was sent and nothing is done twice.
                Ok(None) if left > 0 => handle.poison(Poison::Transport),
                Ok(None) => return Err(Error::Lost(std::io::ErrorKind::ConnectionReset.into())),
                Err(UseError::Failed(error)) => return Err(error),
                Err(UseError::Poisoned(poison)) => return Err(Error::Pool(poison.into())),
            }
            left -= 1;
        }
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("key", &self.key)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Connects to the agents that somebody holds.
#[derive(Debug)]
struct AgentDialer {
    endpoints: Arc<Endpoints>,
}

impl Dialer for AgentDialer {
    type Connection = Client;
    type Error = Error;

    async fn dial(&self, key: &Key) -> Result<Client, Error> {
        let endpoint = lock(&self.endpoints).get(key).and_then(Weak::upgrade);
        // Whoever asked has gone, and nobody else has come: there is no one to be told.
        let Some(endpoint) = endpoint else { return Err(Error::Pool(Poison::Unfinished.into())) };
        // The pool's own limit comes a little earlier and says so itself.
        let deadline = Instant::now() + DIAL_LIMIT * 2;
        Ok(Client::new(Connection::open(&endpoint.address, &endpoint.token, deadline).await?))
    }

    async fn close(&self, client: &Client) {
        client.close().await;
    }
}

/// No code panics while it holds the lock, and the map would be whole if it did.
fn lock(endpoints: &Endpoints) -> std::sync::MutexGuard<'_, BTreeMap<Key, Weak<Endpoint>>> {
    endpoints.lock().unwrap_or_else(PoisonError::into_inner)
}
