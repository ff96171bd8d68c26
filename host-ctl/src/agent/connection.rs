//! One connection to an agent: the hello, then frames.

use std::io;
use std::os::fd::OwnedFd;

use bytes::{Buf, BytesMut};
use firstlight_protocol::codec::{self};
use firstlight_protocol::frame::{HEADER_LEN, Header};
use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::message::hello::{Hello, Refusal, Welcome};
use firstlight_protocol::message::{Kind, error::AgentError};
use firstlight_protocol::port;
use firstlight_protocol::version::{self, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout_at};

use super::error::{Awaited, Error};
use super::transport::{self, Address, Stream};
use super::unary::Unary;

/// Bytes read at once, if so many are there. Read header by header, a copy would cost two system calls a frame.
const READ_AHEAD: usize = 128 * 1024;

/// The id of the hello's frames; requests count from 1.
const HELLO_ID: u64 = 0;

/// An agent that took our token, and frames to and from it.
pub struct Connection {
    sender: Sender,
    receiver: Receiver,
    version: Version,
    boot_id: BootId,
    next_id: u64,
}

/// The half that writes frames.
pub struct Sender {
    stream: WriteHalf<Stream>,
}

/// The half that reads frames.
pub struct Receiver {
    stream: ReadHalf<Stream>,
    buffer: BytesMut,
}

impl Connection {
    /// Connects to the agent at `address`, shows `token` and agrees on a version.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Refused`], or [`Error::Timeout`] at the deadline.
    pub async fn open(address: &Address, token: &Secret, deadline: Instant) -> Result<Connection, Error> {
        let stream = transport::connect(address, port::AGENT, deadline).await?;
        Connection::over(stream, token, deadline).await
    }

    /// Says hello over a stream that is already connected.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub async fn over(stream: Stream, token: &Secret, deadline: Instant) -> Result<Connection, Error> {
        let (mut sender, mut receiver) = halves(stream);
        let welcome = timeout_at(deadline, greet(&mut sender, &mut receiver, token))
            .await
            .map_err(|_| Error::Timeout(Awaited::Welcome))??;
        Ok(Connection {
            sender,
            receiver,
            version: welcome.version,
            boot_id: welcome.boot_id,
            next_id: HELLO_ID + 1,
        })
    }

    /// The protocol generation agreed on.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The boot the agent serves.
    #[must_use]
    pub fn boot_id(&self) -> BootId {
        self.boot_id
    }

    /// An id no earlier request of this connection had.
    pub fn fresh_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Sends a control message.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or [`Error::Lost`].
    pub async fn send<T: bincode::Encode>(&mut self, kind: Kind, id: u64, message: &T) -> Result<(), Error> {
        self.sender.send(kind, id, message).await
    }

    /// Receives the next frame. Dropping the future loses nothing, so it may stand in a `select!`.
    ///
    /// # Errors
    /// [`Error::Protocol`] or [`Error::Lost`].
    pub async fn recv(&mut self) -> Result<(Header, Vec<u8>), Error> {
        self.receiver.recv().await
    }

    /// Sends one request and waits for its answer. Nothing else may be under way on the connection; for many requests
    /// at a time there is [`super::Client`].
    ///
    /// # Errors
    /// [`Error::Agent`] when the agent answers with an error, [`Error::Timeout`] at the deadline.
    pub async fn request<R: Unary>(&mut self, request: &R, deadline: Instant) -> Result<R::Answer, Error> {
        let id = self.fresh_id();
        let exchange = async {
            self.sender.send_bytes(R::REQUEST, id, &request.encode()?).await?;
            let (header, payload) = self.receiver.recv().await?;
            // An error that answers no request says why the agent closes the connection.
            if header.id != id && header.kind != Kind::Error {
                return Err(Error::Protocol(format!("frame {:?} answers no request", header.kind)));
            }
            R::decode(expect(R::ANSWER, header.kind, payload)?).map_err(Error::from)
        };
        timeout_at(deadline, exchange).await.map_err(|_| Error::Timeout(Awaited::Answer))?
    }

    /// The socket for a thread, and the two directions for a task. Only one of them may send, and only one receive.
    ///
    /// # Errors
    /// [`Error::Lost`] when no descriptor is free, [`Error::Protocol`] when the agent has said what nobody asked for.
    pub(crate) fn lend(self) -> Result<(OwnedFd, Sender, Receiver), Error> {
        if !self.receiver.buffer.is_empty() {
            return Err(Error::Protocol("it spoke before it was asked".to_owned()));
        }
        let stream = self.receiver.stream.unsplit(self.sender.stream);
        let socket = stream.duplicate().map_err(Error::Lost)?;
        let (sender, receiver) = halves(stream);
        Ok((socket, sender, receiver))
    }

    /// The two directions, to be used by two tasks.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

impl Sender {
    /// Sends a control message.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or [`Error::Lost`].
    pub async fn send<T: bincode::Encode>(&mut self, kind: Kind, id: u64, message: &T) -> Result<(), Error> {
        self.send_bytes(kind, id, &codec::encode(message)?).await
    }

    /// Sends raw bytes as one frame.
    ///
    /// # Errors
    /// [`Error::Protocol`] when they are over a frame's limit, or [`Error::Lost`].
    pub async fn send_bytes(&mut self, kind: Kind, id: u64, payload: &[u8]) -> Result<(), Error> {
        let header = Header::new(kind, id, payload.len())?;
        let mut frame = Vec::with_capacity(HEADER_LEN + payload.len());
        frame.extend_from_slice(&header.encode());
        frame.extend_from_slice(payload);
        self.send_encoded(&frame).await
    }

    /// Sends frames that are encoded already, with their headers.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub(crate) async fn send_encoded(&mut self, frames: &[u8]) -> Result<(), Error> {
        self.stream.write_all(frames).await.map_err(Error::Lost)
    }
}

impl Receiver {
    /// Receives the next frame. Dropping the future loses nothing, so it may stand in a `select!`.
    ///
    /// # Errors
    /// [`Error::Protocol`] or [`Error::Lost`].
    pub async fn recv(&mut self) -> Result<(Header, Vec<u8>), Error> {
        let header = loop {
            if let Some(bytes) = self.buffer.first_chunk() {
                break Header::decode(bytes)?;
            }
            self.fill(HEADER_LEN).await?;
        };
        // The header was checked, so this length is within a frame's limit.
        let frame_len = HEADER_LEN + header.length as usize;
        while self.buffer.len() < frame_len {
            self.fill(frame_len).await?;
        }
        self.buffer.advance(HEADER_LEN);
        Ok((header, self.buffer.split_to(header.length as usize).to_vec()))
    }

    /// Reads what is there, with room for at least `wanted` bytes in all.
    async fn fill(&mut self, wanted: usize) -> Result<(), Error> {
        self.buffer.reserve(wanted.max(READ_AHEAD).saturating_sub(self.buffer.len()));
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Error::Lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(Error::Lost(error)),
        }
    }
}

/// Frames to and from a stream.
pub(super) fn halves(stream: Stream) -> (Sender, Receiver) {
    let (reader, writer) = tokio::io::split(stream);
    (Sender { stream: writer }, Receiver { stream: reader, buffer: BytesMut::new() })
}

async fn greet(sender: &mut Sender, receiver: &mut Receiver, token: &Secret) -> Result<Welcome, Error> {
    let hello = Hello { token: token.clone(), versions: version::SUPPORTED };
    sender.send(Kind::Hello, HELLO_ID, &hello).await?;
    let (header, payload) = receiver.recv().await?;
    if header.kind == Kind::Refusal {
        return Err(codec::decode::<Refusal>(&payload)?.into());
    }
    let welcome: Welcome = codec::decode(&expect(Kind::Welcome, header.kind, payload)?)?;
    let ours = version::SUPPORTED;
    if !(ours.oldest..=ours.newest).contains(&welcome.version) {
        return Err(Error::Protocol(format!("it chose version {}, which was not offered", welcome.version)));
    }
    Ok(welcome)
}

/// The payload of a frame that must be of kind `wanted`, or the error the agent sent in its place.
pub(crate) fn expect(wanted: Kind, found: Kind, payload: Vec<u8>) -> Result<Vec<u8>, Error> {
    if found == wanted {
        Ok(payload)
    } else if found == Kind::Error {
        Err(codec::decode::<AgentError>(&payload)?.into())
    } else {
        Err(Error::Protocol(format!("expected {wanted:?}, found {found:?}")))
    }
}
