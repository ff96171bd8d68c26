//! How a program asks its pool for something.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::error::AskError;
use super::policy::{LeaseError, LeaseId, MemberId, Refusal, Ticket};
use super::service::Report;

/// Requests that wait for the pool's task. Each asker waits until its own is taken, so this bounds memory alone.
pub(super) const MAX_COMMANDS: usize = 1024;

/// A pool, for those who use it. Clones are the same pool.
#[derive(Debug, Clone)]
pub struct Pool {
    commands: mpsc::Sender<Command>,
    tickets: Arc<AtomicU64>,
}

/// A VM that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Its name.
    pub name: String,
    /// The lease.
    pub lease: LeaseId,
    /// How long it lasts unless it is renewed.
    pub expires_in: Duration,
}

#[derive(Debug)]
pub(super) enum Command {
    Acquire {
        ticket: Ticket,
        wait: Duration,
        ttl: Duration,
        reply: oneshot::Sender<Result<Granted, Refusal>>,
    },
    Cancel {
        ticket: Ticket,
    },
    Release {
        vm: MemberId,
        lease: Option<LeaseId>,
        reply: oneshot::Sender<Result<(), LeaseError>>,
    },
    Renew {
        vm: MemberId,
        lease: Option<LeaseId>,
        ttl: Duration,
        reply: oneshot::Sender<Result<Duration, LeaseError>>,
    },
    Status {
        reply: oneshot::Sender<Report>,
    },
    /// Answered when the last VM is gone.
    Drain {
        cut_after: Option<Duration>,
        reply: oneshot::Sender<()>,
    },
    Sweep {
        reply: oneshot::Sender<Vec<String>>,
    },
}

impl Pool {
    pub(super) fn new() -> (Pool, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(MAX_COMMANDS);
        (Pool { commands, tickets: Arc::new(AtomicU64::new(1)) }, receiver)
    }

    /// A VM for `ttl`, which was proved clean and has just answered. Waits its turn, at most for `wait`. Dropping the
    /// future gives the place up, or the VM back.
    ///
    /// # Errors
    /// [`AskError::Refused`] with the reason.
    pub async fn acquire(&self, wait: Duration, ttl: Duration) -> Result<Granted, AskError> {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let place = Place { pool: self, ticket };
        let granted = self.ask(|reply| Command::Acquire { ticket, wait, ttl, reply }).await??;
        std::mem::forget(place);
        Ok(granted)
    }

    /// Gives a VM back. Without a lease, whoever holds it is meant; with one, nobody else can lose the VM by it.
    ///
    /// # Errors
    /// [`AskError::Lease`] when that lease is over.
    pub async fn release(&self, vm: MemberId, lease: Option<LeaseId>) -> Result<(), AskError> {
        Ok(self.ask(|reply| Command::Release { vm, lease, reply }).await??)
    }

    /// Keeps a VM for `ttl` from now on; how long the lease now lasts.
    ///
    /// # Errors
    /// [`AskError::Lease`] when that lease is over.
    pub async fn renew(
        &self,
        vm: MemberId,
        lease: Option<LeaseId>,
        ttl: Duration,
    ) -> Result<Duration, AskError> {
        Ok(self.ask(|reply| Command::Renew { vm, lease, ttl, reply }).await??)
    }

    /// The pool as it is.
    ///
    /// # Errors
    /// [`AskError::Ended`].
    pub async fn status(&self) -> Result<Report, AskError> {
        self.ask(|reply| Command::Status { reply }).await
    }

    /// Ends the pool: nobody gets a VM any more, holders may finish until `cut_after` has passed, if that is given, and
    /// every VM is destroyed. Returns when the last one is gone.
    ///
    /// # Errors
    /// [`AskError::Ended`].
    pub async fn drain(&self, cut_after: Option<Duration>) -> Result<(), AskError> {
        self.ask(|reply| Command::Drain { cut_after, reply }).await
    }

    /// Destroys VMs that bear the pool's name and that it does not know, such as those of lost records; their names.
    ///
    /// # Errors
    /// [`AskError::Ended`].
    pub async fn sweep(&self) -> Result<Vec<String>, AskError> {
        self.ask(|reply| Command::Sweep { reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, AskError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| AskError::Ended)?;
        answer.await.map_err(|_| AskError::Ended)
    }
}

/// A place in line, given up when it is dropped.
struct Place<'a> {
    pool: &'a Pool,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Where there is no room for it the place is kept until its turn or its deadline, and a VM that nobody takes
        // goes straight back.
        let _ = self.pool.commands.try_send(Command::Cancel { ticket: self.ticket });
    }
}
