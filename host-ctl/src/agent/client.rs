//! Many unary requests at a time over one connection, each answered under its id in whatever order.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firstlight_protocol::hex::BootId;
use firstlight_protocol::message::Kind;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout_at};

use super::agents::Ask;
use super::connection::{Connection, Receiver, Sender, expect};
use super::error::{Awaited, Error};
use super::unary::Unary;

/// A connection shared by requests that run at the same time. Dropping it closes the connection.
pub struct Client {
    boot_id: BootId,
    /// `None` once it is closed.
    sender: AsyncMutex<Option<Sender>>,
    pending: Arc<Mutex<Pending>>,
    reader: AsyncMutex<JoinHandle<()>>,
    abort: AbortHandle,
}

type Answer = Result<(Kind, Vec<u8>), Error>;

/// Who waits for what, or why nobody can any more. As many entries as requests under way: each caller holds one.
struct Pending {
    next_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    broken: Option<Error>,
}

impl Client {
    /// Takes a connection over. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(mut connection: Connection) -> Client {
        let (boot_id, next_id) = (connection.boot_id(), connection.fresh_id());
        let (sender, receiver) = connection.split();
        let pending = Arc::new(Mutex::new(Pending { next_id, waiting: HashMap::new(), broken: None }));
        let reader = tokio::spawn(deliver(receiver, Arc::clone(&pending)));
        let (abort, reader) = (reader.abort_handle(), AsyncMutex::new(reader));
        Client { boot_id, sender: AsyncMutex::new(Some(sender)), pending, reader, abort }
    }

    /// The boot the agent serves.
    #[must_use]
    pub fn boot_id(&self) -> BootId {
        self.boot_id
    }

    /// Whether nothing has broken the connection yet, and nobody closed it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        lock(&self.pending).broken.is_none()
    }

    /// Gives the descriptor up and ends the task that reads; requests under way fail.
    pub async fn close(&self) {
        self.abort.abort();
        // An error would be a panic of the task, and it would be over just the same.
        let _ = (&mut *self.reader.lock().await).await;
        end(&self.pending, Error::Lost(io::ErrorKind::NotConnected.into()));
        *self.sender.lock().await = None;
    }

    fn register(&self) -> Result<(u64, oneshot::Receiver<Answer>), Error> {
        let mut pending = lock(&self.pending);
        if let Some(error) = &pending.broken {
            return Err(error.repeat());
        }
        let (sender, receiver) = oneshot::channel();
        let id = pending.next_id;
        pending.next_id += 1;
        pending.waiting.insert(id, sender);
        Ok((id, receiver))
    }
}

impl Ask for Client {
    /// Others may be under way. Once the connection broke, every request fails with what broke it.
    async fn request<R: Unary + Sync>(&self, request: &R, deadline: Instant) -> Result<R::Answer, Error> {
        let payload = request.encode()?;
        let (id, answer) = self.register()?;
        let _entry = Entry { pending: &self.pending, id };
        let closed = || Error::Lost(io::ErrorKind::NotConnected.into());
        let exchange = async {
            let mut sender = self.sender.lock().await;
            sender.as_mut().ok_or_else(closed)?.send_bytes(R::REQUEST, id, &payload).await?;
            drop(sender);
            answer.await.map_err(|_| closed())?
        };
        let (kind, payload) =
            timeout_at(deadline, exchange).await.map_err(|_| Error::Timeout(Awaited::Answer))??;
        Ok(R::decode(expect(R::ANSWER, kind, payload)?)?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// Forgets a request when its caller goes, answered or not.
struct Entry<'a> {
    pending: &'a Mutex<Pending>,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        lock(self.pending).waiting.remove(&self.id);
    }
}

/// Hands each answer to who asked. An answer nobody waits for any more is dropped: its caller timed out.
async fn deliver(mut receiver: Receiver, pending: Arc<Mutex<Pending>>) {
    let error = loop {
        match receiver.recv().await {
            Ok((header, payload)) => {
                if let Some(waiter) = lock(&pending).waiting.remove(&header.id) {
                    // Fails only when the caller went in this very moment.
                    let _ = waiter.send(Ok((header.kind, payload)));
                }
            }
            Err(error) => break error,
        }
    };
    end(&pending, error);
}

/// Tells all who wait, and all who will ask, what broke the connection first.
fn end(pending: &Mutex<Pending>, error: Error) {
    let mut pending = lock(pending);
    for (_, waiter) in pending.waiting.drain() {
        let _ = waiter.send(Err(error.repeat()));
    }
    pending.broken.get_or_insert(error);
}

/// No code panics while it holds the lock, and the map would be whole if it did.
fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}
