//! Signals that a person or a service manager sends us. The first one is passed on and ours to decide about; the second
//! means that it has to end now.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::output::Failure;

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The first signal, by number.
    First(u8),
    /// Any later one.
    Again,
}

/// SIGINT, SIGTERM and SIGHUP, from now on heard instead of fatal.
pub(crate) struct Interrupts {
    int: Signal,
    term: Signal,
    hup: Signal,
    heard: bool,
}

pub(crate) const SIGHUP: u8 = 1;
pub(crate) const SIGINT: u8 = 2;
pub(crate) const SIGTERM: u8 = 15;

impl Interrupts {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Interrupts, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
        };
        Ok(Interrupts {
            int: listen(SignalKind::interrupt())?,
            term: listen(SignalKind::terminate())?,
            hup: listen(SignalKind::hangup())?,
            heard: false,
        })
    }

    /// Waits for the next signal. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Interrupt {
        let number = tokio::select! {
            _ = self.int.recv() => SIGINT,
            _ = self.term.recv() => SIGTERM,
            _ = self.hup.recv() => SIGHUP,
        };
        if std::mem::replace(&mut self.heard, true) { Interrupt::Again } else { Interrupt::First(number) }
    }
}
