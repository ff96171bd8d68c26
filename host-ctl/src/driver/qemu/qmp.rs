//! QEMU's control connection: JSON, a line each. Source: `docs/interop/qmp-spec` and the QAPI schema of QEMU.
//!
//! One connection at a time: QEMU answers the next when this one has closed, so a monitor that adopts a VM has no
//! quarrel with its predecessor.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Duration, timeout};

use crate::driver::VmmEvent;

/// The longest line taken, in bytes. What we ask for has answers of a few hundred.
const MAX_LINE: usize = 1 << 20;

/// How long QEMU may take to answer a command. It does at once, unless its main loop waits for a disk.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

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
    /// The guest's memory could not be saved or loaded whole.
    #[error("QEMU cannot move the guest's memory: {reason}")]
    Migration {
        /// Why, in QEMU's words.
        reason: String,
    },
    /// QEMU took a command and said nothing to it.
    #[error("QEMU did not answer {command:?} within {} s", ANSWER_DEADLINE.as_secs())]
    Unanswered {
        /// The command.
        command: &'static str,
    },
    /// A deadline passed.
    #[error("timed out waiting for QEMU to {0}")]
    Timeout(&'static str),
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
    /// Events that came while an answer was waited for.
    waiting: VecDeque<Event>,
    next_id: u64,
}

/// Something QEMU says without being asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    /// Its name, such as `STOP`.
    pub(super) name: String,
    /// What it says.
    pub(super) data: Value,
}

/// One line of QEMU's. A greeting has none of these fields that matter.
#[derive(Debug, Deserialize)]
struct Line {
    event: Option<String>,
    #[serde(default)]
    data: Value,
    /// Of the command that is answered.
    id: Option<u64>,
    #[serde(rename = "return")]
    returned: Option<Value>,
    error: Option<Refusal>,
}

/// What a line is.
#[derive(Debug)]
enum Said {
    Event(Event),
    Answer { id: Option<u64>, refused: Option<String>, value: Value },
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
        let mut qmp = Qmp {
            reader: BufReader::new(reader),
            writer,
            line: Vec::new(),
            waiting: VecDeque::new(),
            next_id: 1,
        };
        qmp.read_line().await?;
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// What the guest does now.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn run_state(&mut self) -> Result<RunState, QmpError> {
        let status = self.execute("query-status", json!({})).await?;
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
            let event = match self.waiting.pop_front() {
                Some(event) => event,
                None => match self.read_message().await? {
                    Said::Event(event) => event,
                    Said::Answer { refused: Some(reason), .. } => {
                        return Err(QmpError::Refused { command: "a request", reason });
                    }
                    Said::Answer { .. } => continue,
                },
            };
            match event.name.as_str() {
                "STOP" => return Ok(VmmEvent::Paused),
                "RESUME" => return Ok(VmmEvent::Resumed),
                "SHUTDOWN" | "GUEST_PANICKED" => return Ok(VmmEvent::GuestOff),
                _ => {}
            }
        }
    }

    /// Waits for an event for which `wanted` gives something. Others wait for [`Qmp::next_event`].
    pub(super) async fn wait_for<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> Result<T, QmpError> {
        let known = self.waiting.iter().enumerate().find_map(|(at, event)| Some((at, wanted(event)?)));
        if let Some((at, found)) = known {
            self.waiting.remove(at);
            return Ok(found);
        }
        loop {
            if let Said::Event(event) = self.read_message().await? {
                match wanted(&event) {
                    Some(found) => return Ok(found),
                    None => self.waiting.push_back(event),
                }
            }
        }
    }

    /// Forgets the events of a kind that nobody needs to hear any more.
    pub(super) fn forget(&mut self, names: &[&str]) {
        self.waiting.retain(|event| !names.contains(&event.name.as_str()));
    }

    /// Gives QEMU a descriptor, to be named in a later command. Source: `getfd` in QEMU's `qapi/misc.json`.
    pub(super) async fn give(&mut self, descriptor: impl AsFd, name: &str) -> Result<(), QmpError> {
        let (id, line) = self.request("getfd", &json!({ "fdname": name }));
        let stream: &UnixStream = self.writer.as_ref();
        let sent = stream.async_io(Interest::WRITABLE, || {
            let descriptors = [descriptor.as_fd()];
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            Ok(sendmsg(stream, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?)
        });
        let sent = sent.await.map_err(|source| QmpError::Io { operation: "write to", source })?;
        // A socket takes a line this short whole, or the rest goes without the descriptor.
        let rest = self.writer.write_all(&line[sent..]).await;
        rest.map_err(|source| QmpError::Io { operation: "write to", source })?;
        self.answer("getfd", id).await.map(drop)
    }

    /// Sends a command and waits for its answer. Events that come before it wait for [`Qmp::next_event`].
    pub(super) async fn execute(
        &mut self,
        command: &'static str,
        arguments: Value,
    ) -> Result<Value, QmpError> {
        let (id, line) = self.request(command, &arguments);
        let written = self.writer.write_all(&line).await;
        written.map_err(|source| QmpError::Io { operation: "write to", source })?;
        self.answer(command, id).await
    }

    /// A command's line, and the id its answer will have.
    fn request(&mut self, command: &'static str, arguments: &Value) -> (u64, Vec<u8>) {
        let id = self.next_id;
        self.next_id += 1;
        let line = json!({ "execute": command, "arguments": arguments, "id": id });
        (id, format!("{line}\n").into_bytes())
    }

    async fn answer(&mut self, command: &'static str, wanted: u64) -> Result<Value, QmpError> {
        let answered = timeout(ANSWER_DEADLINE, self.answer_to(command, wanted)).await;
        answered.unwrap_or(Err(QmpError::Unanswered { command }))
    }

    async fn answer_to(&mut self, command: &'static str, wanted: u64) -> Result<Value, QmpError> {
        loop {
            match self.read_message().await? {
                Said::Event(event) => self.waiting.push_back(event),
                Said::Answer { id: Some(id), refused, value } if id == wanted => {
                    return refused.map_or(Ok(value), |reason| Err(QmpError::Refused { command, reason }));
                }
                // It answers an earlier `send`, for which nobody waits.
                Said::Answer { .. } => {}
            }
        }
    }

    async fn read_message(&mut self) -> Result<Said, QmpError> {
        let line = self.read_line().await?;
        Ok(match line.event {
            Some(name) => Said::Event(Event { name, data: line.data }),
            None => Said::Answer {
                id: line.id,
                refused: line.error.map(|refusal| refusal.desc),
                value: line.returned.unwrap_or_default(),
            },
        })
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
    use super::*;
    use crate::driver::qemu::fake::{GREETING, qemu};

    #[tokio::test]
    async fn events_between_answers_do_not_disturb_them() {
        let mut qmp = qemu(&[
            GREETING,
            "{\"return\":{},\"id\":1}\n",
            "{\"event\":\"NIC_RX_FILTER_CHANGED\"}\n{\"return\":{\"status\":\"shutdown\"},\"id\":2}\n",
        ])
        .await;
        assert_eq!(qmp.run_state().await.unwrap(), RunState::Off);
    }

    #[tokio::test]
    async fn what_matters_of_the_guest_is_heard_and_the_end_too() {
        const EVENTS: &str =
            "{\"event\":\"STOP\"}\n{\"event\":\"BLOCK\"}\n{\"event\":\"SHUTDOWN\",\"data\":{}}\n";
        let mut qmp = qemu(&[GREETING, "{\"return\":{},\"id\":1}\n", EVENTS]).await;
        qmp.send("stop").await.unwrap();
        assert_eq!(qmp.next_event().await.unwrap(), VmmEvent::Paused);
        assert_eq!(qmp.next_event().await.unwrap(), VmmEvent::GuestOff);
        drop(qmp.writer.shutdown().await);
        assert!(matches!(qmp.next_event().await, Err(QmpError::Closed)));
    }

    #[tokio::test]
    async fn a_refusal_is_quoted() {
        let mut qmp = qemu(&[
            GREETING,
            "{\"return\":{},\"id\":1}\n",
            "{\"error\":{\"class\":\"X\",\"desc\":\"no\"},\"id\":2}\n",
        ])
        .await;
        let error = qmp.run_state().await.unwrap_err().to_string();
        assert_eq!(error, "QEMU refused \"query-status\": no");
    }
}
