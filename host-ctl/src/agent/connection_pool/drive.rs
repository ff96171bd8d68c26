//! The life of one connection, and the task that all of them hang on.
//!
//! The supervisor is the one task a pool starts with. It takes the jobs that the policy decided on and gives each
//! a driver: a task that dials, waits until the connection has to go, and closes it. Callers come and go beside
//! it, so the fate of none of them is that of the dial.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::core::{Core, Job};
use super::dialer::Dialer;
use super::error::DialError;
use super::policy::ConnectionId;
use super::settings::{CLOSE_LIMIT, DIAL_LIMIT};

/// The core over what a dialer makes.
pub(super) type DialerCore<D> = Core<<D as Dialer>::Connection, Arc<DialError<<D as Dialer>::Error>>>;

/// Runs the drivers; ends when the pool is shut and the last of them is done. Dropping it ends them where they are.
/// `began` is the beginning of the core's clock.
pub(super) async fn supervise<D: Dialer>(core: Arc<DialerCore<D>>, dialer: Arc<D>, began: Instant) {
    let mut drivers = JoinSet::new();
    while let Some(job) = next_job::<D>(&core, &mut drivers).await {
        let driver = Driver { core: Arc::clone(&core), id: job.id };
        drivers.spawn(drive(driver, Arc::clone(&dialer), job, began));
    }
    while drivers.join_next().await.is_some() {}
}

/// The next job; drivers that end meanwhile are forgotten.
async fn next_job<D: Dialer>(core: &DialerCore<D>, drivers: &mut JoinSet<()>) -> Option<Job> {
    let mut job = pin!(core.next_job());
    loop {
        tokio::select! {
            job = &mut job => return job,
            Some(_) = drivers.join_next() => {}
        }
    }
}

/// One connection's place in the core, given up however the driver ends.
struct Driver<D: Dialer> {
    core: Arc<DialerCore<D>>,
    id: ConnectionId,
}

impl<D: Dialer> Drop for Driver<D> {
    fn drop(&mut self) {
        self.core.closed(self.id);
    }
}

async fn drive<D: Dialer>(driver: Driver<D>, dialer: Arc<D>, job: Job, began: Instant) {
    let Driver { core, id } = &driver;
    let dialed = tokio::select! {
        biased;
        () = core.ordered_to_close(*id) => return,
        dialed = dial(&*dialer, &job) => dialed,
    };
    let connection = match dialed {
        Ok(connection) => Arc::new(connection),
        Err(error) => return core.failed(*id, Arc::new(error)),
    };
    core.dialed(*id, Arc::clone(&connection));
    tokio::select! {
        () = core.ordered_to_close(*id) => {}
        () = sleep_until(began + job.expires) => {
            core.expired(*id);
            core.ordered_to_close(*id).await;
        }
    }
    // Neither a close that panics nor one that hangs may keep the connection: it is dropped below in any case.
    let _ = timeout(CLOSE_LIMIT, caught(dialer.close(&connection))).await;
}

async fn dial<D: Dialer>(dialer: &D, job: &Job) -> Result<D::Connection, DialError<D::Error>> {
    // The block also catches what panics before there is a future.
    let dialing = caught(async { dialer.dial(&job.key).await });
    match timeout(DIAL_LIMIT, dialing).await {
        Ok(Ok(dialed)) => dialed.map_err(DialError::Failed),
        Ok(Err(panic)) => Err(DialError::Panicked(panic)),
        Err(_) => Err(DialError::TimedOut(DIAL_LIMIT)),
    }
}

/// Runs a future that may panic; the error is the panic's message.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        // A future that panicked is not polled again, so nobody sees what it left half-done.
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(message(&*payload))),
        }
    })
    .await
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("without a message").to_owned()
}
