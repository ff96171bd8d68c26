//! QEMU's control connection: JSON, a line each. Source: `docs/interop/qmp-spec` and the QAPI schema of QEMU.
//!
//! One connection at a time: QEMU answers the next when this one has closed, so a monitor that adopts a VM has no
//! quarrel with its predecessor.

use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::driver::VmmEvent;

/// The longest line taken, in bytes. What we ask for has answers of a few hundred.
const MAX_LINE: usize = 1 << 20;

/// QEMU's control connection failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Reading or writing failed.
    #[error("cannot {operation} QEMU's control socket: {source}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// QEMU closed it.
    #[error("QEMU closed its control socket")]
    Closed,
    /// QEMU said what QMP does not.
    #[error("QEMU said something unexpected: {0}")]
    Protocol(String),
    /// QEMU refused a command.
    #[error("QEMU refused {command:?}: {reason}")]
    Refused {
        /// The command.
        command: &'static str,
        /// Why, in QEMU's words.
        reason: String,
    },
}

/// The guest, as QEMU sees it when asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It runs.
    Running,
    /// It is held still.
    Paused,
    /// It has ended and is held.
    Off,
}

/// The connection.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// What was read of the next line.
    line: Vec<u8>,
}

/// One line of QEMU's. A greeting has none of these fields that matter.
#[derive(Debug, Deserialize)]
struct Line {
    event: Option<String>,
    #[serde(rename = "return")]
    returned: Option<Value>,
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    desc: String,
}

impl Qmp {
    /// Connects, and waits until QEMU takes commands: its machine is then made.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn connect(path: &Path) -> Result<Qmp, QmpError> {
        let stream = UnixStream::connect(path).await;
        let stream = stream.map_err(|source| QmpError::Io { operation: "connect to", source })?;
        let (reader, writer) = stream.into_split();
        let mut qmp = Qmp { reader: BufReader::new(reader), writer, line: Vec::new() };
        qmp.read_line().await?;
        qmp.execute("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// What the guest does now.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn run_state(&mut self) -> Result<RunState, QmpError> {
        let status = self.execute("query-status").await?;
        Ok(match status.get("status").and_then(Value::as_str) {
            Some("running") => RunState::Running,
            Some("shutdown" | "guest-panicked" | "internal-error" | "io-error") => RunState::Off,
            Some(_) => RunState::Paused,
            None => return Err(QmpError::Protocol(status.to_string())),
        })
    }

    /// Sends a command without waiting for its answer: what comes of it is an event, or the end of the connection.
    ///
    /// # Errors
    /// [`QmpError::Io`].
    pub async fn send(&mut self, command: &'static str) -> Result<(), QmpError> {
        let line = format!("{{\"execute\":\"{command}\"}}\n");
        let written = self.writer.write_all(line.as_bytes()).await;
        written.map_err(|source| QmpError::Io { operation: "write to", source })
    }

    /// The next event worth knowing. Safe to drop and call again.
    ///
    /// # Errors
    /// [`QmpError`]; [`QmpError::Closed`] when QEMU is gone. A refusal answers some earlier [`Qmp::send`].
    pub async fn next_event(&mut self) -> Result<VmmEvent, QmpError> {
        loop {
            let line = self.read_line().await?;
            if let Some(refusal) = line.error {
                return Err(QmpError::Refused { command: "a request", reason: refusal.desc });
            }
            match line.event.as_deref() {
                Some("STOP") => return Ok(VmmEvent::Paused),
                Some("RESUME") => return Ok(VmmEvent::Resumed),
                Some("SHUTDOWN" | "GUEST_PANICKED") => return Ok(VmmEvent::GuestOff),
                Some(_) | None => {}
            }
        }
    }

    /// Sends a command and waits for its answer; only for the time before events matter, because it drops them.
    async fn execute(&mut self, command: &'static str) -> Result<Value, QmpError> {
        self.send(command).await?;
        loop {
            let line = self.read_line().await?;
            if let Some(refusal) = line.error {
                return Err(QmpError::Refused { command, reason: refusal.desc });
            }
            if let Some(value) = line.returned {
                return Ok(value);
            }
        }
    }

    async fn read_line(&mut self) -> Result<Line, QmpError> {
        let room = (MAX_LINE - self.line.len()) as u64;
        let read = (&mut self.reader).take(room).read_until(b'\n', &mut self.line).await;
        read.map_err(|source| QmpError::Io { operation: "read from", source })?;
        if self.line.last() != Some(&b'\n') {
            return Err(match self.line.len() {
                MAX_LINE => QmpError::Protocol(format!("a line of more than {MAX_LINE} bytes")),
                _ => QmpError::Closed,
            });
        }
        let parsed = serde_json::from_slice(&self.line);
        self.line.clear();
        parsed.map_err(|error| QmpError::Protocol(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// Plays QEMU: answers each line it reads with the next of `script`.
    async fn qemu(script: &'static [&'static str]) -> Qmp {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let serve = async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = stream.into_split();
            let mut lines = BufReader::new(reader).lines();
            for answer in script {
                writer.write_all(answer.as_bytes()).await.unwrap();
                let _ = lines.next_line().await;
            }
        };
        tokio::spawn(serve);
        Qmp::connect(&path).await.unwrap()
    }

    const GREETING: &str = "{\"QMP\":{\"version\":{}}}\n";

    #[tokio::test]
    async fn events_between_answers_do_not_disturb_them() {
        let mut qmp = qemu(&[
            GREETING,
            "{\"return\":{}}\n",
            "{\"event\":\"NIC_RX_FILTER_CHANGED\"}\n{\"return\":{\"status\":\"shutdown\"}}\n",
        ])
        .await;
        assert_eq!(qmp.run_state().await.unwrap(), RunState::Off);
    }

    #[tokio::test]
    async fn what_matters_of_the_guest_is_heard_and_the_end_too() {
        const EVENTS: &str =
            "{\"event\":\"STOP\"}\n{\"event\":\"BLOCK\"}\n{\"event\":\"SHUTDOWN\",\"data\":{}}\n";
        let mut qmp = qemu(&[GREETING, "{\"return\":{}}\n", EVENTS]).await;
        qmp.send("stop").await.unwrap();
        assert_eq!(qmp.next_event().await.unwrap(), VmmEvent::Paused);
        assert_eq!(qmp.next_event().await.unwrap(), VmmEvent::GuestOff);
        drop(qmp.writer.shutdown().await);
        assert!(matches!(qmp.next_event().await, Err(QmpError::Closed)));
    }

    #[tokio::test]
    async fn a_refusal_is_quoted() {
        let mut qmp =
            qemu(&[GREETING, "{\"return\":{}}\n", "{\"error\":{\"class\":\"X\",\"desc\":\"no\"}}\n"]).await;
        let error = qmp.run_state().await.unwrap_err().to_string();
        assert_eq!(error, "QEMU refused \"query-status\": no");
    }
}
