//! One command in the guest, with its streams.

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::exec::{
    ExecEnd, ExecOutcome, ExecRequest, ExecStarted, MAX_CHUNK, SignalRequest,
};

use super::connection::{Connection, Receiver, Sender, expect};
use super::error::Error;

/// What a command does, in order. [`Event::Ended`] is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its `execve` succeeded; this is its process id in the guest.
    Started(u32),
    /// Bytes of its standard output.
    Stdout(Vec<u8>),
    /// Bytes of its standard error.
    Stderr(Vec<u8>),
    /// It ended, or never started.
    Ended(ExecOutcome),
}

/// What goes to the command.
pub struct Input {
    sender: Sender,
    id: u64,
}

/// What comes from the command.
pub struct Output {
    receiver: Receiver,
    id: u64,
}

/// Asks for a command on a connection that from now on belongs to it. Dropping both halves abandons the command to the
/// agent, which ends it.
///
/// # Errors
/// [`Error::TooLarge`] for arguments over a frame's limit, or [`Error::Lost`].
pub async fn start(mut connection: Connection, request: &ExecRequest) -> Result<(Input, Output), Error> {
    let id = connection.fresh_id();
    connection.send(Kind::ExecRequest, id, request).await?;
    let (sender, receiver) = connection.split();
    Ok((Input { sender, id }, Output { receiver, id }))
}

impl Input {
    /// Sends bytes of standard input; waits while the command does not read.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn stdin(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for chunk in bytes.chunks(MAX_CHUNK) {
            self.sender.send_bytes(Kind::Stdin, self.id, chunk).await?;
        }
        Ok(())
    }

    /// Ends standard input.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn end_stdin(&mut self) -> Result<(), Error> {
        self.sender.send_bytes(Kind::StdinEnd, self.id, &[]).await
    }

    /// Sends a signal to the command's process group, by the guest's number.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn signal(&mut self, number: u8) -> Result<(), Error> {
        self.sender.send(Kind::SignalRequest, self.id, &SignalRequest { number }).await
    }
}

impl Output {
    /// The next event. Dropping the future loses nothing, so it may stand in a `select!`.
    ///
    /// # Errors
    /// [`Error::Agent`] when the agent refuses the command, [`Error::Protocol`], or [`Error::Lost`] when the connection
    /// ends before the command does.
    pub async fn next(&mut self) -> Result<Event, Error> {
        let (header, payload) = self.receiver.recv().await?;
        if header.id != self.id {
            return Err(Error::Protocol(format!("frame {:?} belongs to no command", header.kind)));
        }
        if header.kind == Kind::Stdout {
            Ok(Event::Stdout(payload))
        } else if header.kind == Kind::Stderr {
            Ok(Event::Stderr(payload))
        } else if header.kind == Kind::ExecStarted {
            Ok(Event::Started(codec::decode::<ExecStarted>(&payload)?.pid))
        } else {
            let payload = expect(Kind::ExecEnd, header.kind, payload)?;
            Ok(Event::Ended(codec::decode::<ExecEnd>(&payload)?.outcome))
        }
    }
}
