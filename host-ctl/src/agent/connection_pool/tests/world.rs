//! What the tests' pools are connected to: nothing, with its books kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::agent::connection_pool::{Dialer, Fault, Key, Poison};
use crate::backoff::{Attempt, retry};

/// How a dial goes. Dials without a script connect at once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Connecting {
    After(Duration),
    Failing(Duration),
    Panicking(Duration),
    PanickingAtOnce,
    /// Connecting at the third try, with the backoff that everything here has.
    AtThirdTry,
    Never,
}

/// How closing goes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Closing {
    #[default]
    AtOnce,
    Panicking,
    Never,
}

/// What happened so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Books {
    /// The VM of each dial that began.
    pub(super) dialed: Vec<String>,
    /// The VM of each connection whose close began.
    pub(super) closed: Vec<String>,
    /// Connections that exist, closed or not.
    pub(super) alive: usize,
    /// Dials under way.
    pub(super) dialing: usize,
}

#[derive(Default)]
pub(super) struct World {
    books: Mutex<Books>,
    script: Mutex<VecDeque<Connecting>>,
    closing: Mutex<Closing>,
}

impl World {
    pub(super) fn next_dial(&self, connecting: Connecting) {
        self.script.lock().unwrap().push_back(connecting);
    }

    pub(super) fn closes(&self, closing: Closing) {
        *self.closing.lock().unwrap() = closing;
    }

    pub(super) fn books(&self) -> Books {
        self.write().clone()
    }

    pub(super) fn dials(&self) -> usize {
        self.write().dialed.len()
    }

    fn write(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }
}

pub(super) struct Fake(pub(super) Arc<World>);

pub(super) struct FakeConnection {
    pub(super) serial: usize,
    vm: String,
    world: Arc<World>,
}

impl Drop for FakeConnection {
    fn drop(&mut self) {
        self.world.write().alive -= 1;
    }
}

/// Counts itself among the dials under way until it is dropped.
struct Dialing<'a>(&'a World);

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.write().dialing -= 1;
    }
}

#[derive(Debug, thiserror::Error)]
#[error("dial {0}: nothing is plugged in")]
pub(super) struct Unplugged(usize);

impl Dialer for Fake {
    type Connection = FakeConnection;
    type Error = Unplugged;

    fn dial(&self, key: &Key) -> impl Future<Output = Result<FakeConnection, Unplugged>> + Send {
        let script = self.0.script.lock().unwrap().pop_front().unwrap_or(Connecting::After(Duration::ZERO));
        let serial = {
            let mut books = self.0.write();
            books.dialed.push(key.vm.to_string());
            books.dialed.len()
        };
        assert!(!matches!(script, Connecting::PanickingAtOnce), "the dialer is out of order");
        let (world, vm) = (Arc::clone(&self.0), key.vm.to_string());
        async move {
            world.write().dialing += 1;
            let _dialing = Dialing(&world);
            match script {
                Connecting::After(delay) if delay.is_zero() => {}
                Connecting::After(delay) => sleep(delay).await,
                Connecting::Failing(delay) => {
                    sleep(delay).await;
                    return Err(Unplugged(serial));
                }
                Connecting::Panicking(delay) => {
                    sleep(delay).await;
                    panic!("the dialer tripped over dial {serial}");
                }
                Connecting::AtThirdTry => third_try().await,
                Connecting::PanickingAtOnce | Connecting::Never => std::future::pending().await,
            }
            world.write().alive += 1;
            Ok(FakeConnection { serial, vm, world: Arc::clone(&world) })
        }
    }

    async fn close(&self, connection: &FakeConnection) {
        self.0.write().closed.push(connection.vm.clone());
        let closing = *self.0.closing.lock().unwrap();
        match closing {
            Closing::AtOnce => {}
            Closing::Panicking => panic!("the dialer cannot close"),
            Closing::Never => std::future::pending().await,
        }
    }
}

async fn third_try() {
    let mut tries = 0;
    let patient = Instant::now() + Duration::from_secs(60);
    let attempt = || {
        tries += 1;
        let over = tries == 3;
        async move { if over { Attempt::Done(()) } else { Attempt::NotYet("no answer") } }
    };
    retry(patient, || 0, attempt).await.expect("three tries fit a minute");
}

/// What an operation may end in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// The other end could not do it.
    Application(&'static str),
    Transport,
    Framing,
}

impl Fault for Mishap {
    fn fault(&self) -> Option<Poison> {
        match self {
            Mishap::Application(_) => None,
            Mishap::Transport => Some(Poison::Transport),
            Mishap::Framing => Some(Poison::Framing),
        }
    }
}
