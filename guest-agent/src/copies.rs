//! The copies under way: how many there may be, and how they end with the agent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use firstlight_tree::Ledger;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::journal;
use crate::session::SessionError;
use crate::wire::{Connection, Socket};

/// Copies at one time. Each has a thread and half a megabyte of buffers; one more is refused with `Busy`.
pub const MAX_COPIES: usize = 16;

/// How long the agent's end waits for copies to take back what they have not shown. Init waits longer before it kills; what a
/// copy has not taken back by then stays on the disk.
const TAKE_BACK_DEADLINE: Duration = Duration::from_secs(3);

/// The copies of this agent.
#[derive(Debug)]
pub struct Copies {
    ledger: Ledger,
    places: Arc<Semaphore>,
    ending: watch::Sender<bool>,
}

/// A place for one copy, held until it has ended.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
    /// Where the copy writes down what it has not shown yet.
    pub ledger: Ledger,
    /// Whether no other copy was under way when this one began.
    pub alone: bool,
    ending: watch::Receiver<bool>,
}

impl Copies {
    /// No copies yet. They write down what they have not shown in the directory `ledger`.
    #[must_use]
    pub fn new(ledger: PathBuf) -> Copies {
        let places = Arc::new(Semaphore::new(MAX_COPIES));
        Copies { ledger: Ledger::new(ledger), places, ending: watch::Sender::new(false) }
    }

    /// Removes what the copies of an agent before this one left, on a thread. To be called before the first copy is admitted,
    /// within a runtime.
    pub fn tidy_up(&self) {
        match self.ledger.leftovers() {
            Ok(leftovers) if leftovers.is_empty() => {}
            Ok(leftovers) => drop(spawn_blocking(|| leftovers.remove())),
            // Nothing that is copied now depends on it.
            Err(error) => journal::say(&format_args!("remove what a killed agent left: {error}")),
        }
    }

    /// A place for one more copy, or `None` when all are taken.
    #[must_use]
    pub fn admit(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let alone = self.places.available_permits() + 1 == MAX_COPIES;
        Some(Place { _permit: permit, ledger: self.ledger.clone(), alone, ending: self.ending.subscribe() })
    }

    /// Breaks off the copies under way, and waits until they have taken back what nobody has seen yet: on a disk it would
    /// outlast this boot, and the ledger does not.
    pub async fn end(&self) {
        self.ending.send_replace(true);
        let all = u32::try_from(MAX_COPIES).unwrap_or(u32::MAX);
        let _ = timeout(TAKE_BACK_DEADLINE, self.places.acquire_many(all)).await;
    }
}

impl Place {
    /// Gives the connection to `work` on a thread. Whoever waits here no longer lets the thread go on alone: it holds the place.
    ///
    /// # Errors
    /// When the agent ends meanwhile, and when the runtime cannot watch the connection again.
    pub async fn run<T: Send + 'static>(
        mut self,
        connection: &mut Connection,
        work: impl FnOnce(Socket) -> T + Send + 'static,
    ) -> Result<T, SessionError> {
        let socket = connection.lend();
        let lent = socket.clone();
        let mut thread: JoinHandle<T> = spawn_blocking(move || work(lent));
        tokio::select! {
            worked = &mut thread => {
                connection.take_back()?;
                return worked.map_err(|_| SessionError::Abandoned);
            }
            _ = self.ending.wait_for(|ending| *ending) => {}
        }
        // To the thread it is as if the host had left.
        socket.hang_up();
        let _ = thread.await;
        Err(SessionError::Abandoned)
    }
}
