//! Saying once that the agent listens: to init through the inherited descriptor, to systemd through its socket.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::RawFd;

use firstlight_protocol::agent_config::{READY_FD_ENV, READY_LINE};

use crate::sys;

/// Readiness could not be announced, so nobody would ever call.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// The variable holds no descriptor's number.
    #[error("{READY_FD_ENV}={0:?} is not the number of a descriptor")]
    NotANumber(String),
    /// Init's descriptor could not be written.
    #[error("announce readiness on descriptor {descriptor}: {source}")]
    Write {
        /// Its number.
        descriptor: RawFd,
        /// Why.
        source: io::Error,
    },
    /// systemd's socket could not be written.
    #[error("announce readiness to the service manager (NOTIFY_SOCKET): {0}")]
    Notify(io::Error),
}

/// The road to whoever waits for the agent. Dropped without [`Announcement::say`] it tells init that the agent
/// failed, because the descriptor closes.
#[derive(Debug)]
pub struct Announcement {
    init: Option<(File, RawFd)>,
}

impl Announcement {
    /// Takes over init's descriptor if there is one.
    ///
    /// # Errors
    /// [`ReadyError`] when the environment names a descriptor that is none.
    pub fn from_environment() -> Result<Announcement, ReadyError> {
        let Some(number) = std::env::var_os(READY_FD_ENV) else {
            return Ok(Announcement { init: None });
        };
        let number = number.to_string_lossy();
        let descriptor = number.parse().map_err(|_| ReadyError::NotANumber(number.into_owned()))?;
        let adopted = sys::adopt_descriptor(descriptor);
        let file = adopted.map_err(|source| ReadyError::Write { descriptor, source })?;
        Ok(Announcement { init: Some((file.into(), descriptor)) })
    }

    /// Says `READY=1`.
    ///
    /// # Errors
    /// [`ReadyError`] when someone waits and cannot be told.
    pub fn say(self) -> Result<(), ReadyError> {
        if let Some((mut file, descriptor)) = self.init {
            file.write_all(READY_LINE).map_err(|source| ReadyError::Write { descriptor, source })?;
        }
        sd_notify::notify(&[sd_notify::NotifyState::Ready]).map_err(ReadyError::Notify)
    }
}
