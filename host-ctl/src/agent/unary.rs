//! Requests that have one answer.

use firstlight_protocol::codec::{self, CodecError};
use firstlight_protocol::message::{Kind, clock, events, file, session, shutdown, snapshot, status, sync};

/// A request with one answer, and how both travel.
pub trait Unary {
    /// The kind of the request's frame.
    const REQUEST: Kind;
    /// The kind of the answer's frame.
    const ANSWER: Kind;
    /// What the answer says.
    type Answer;

    /// The request's payload.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`].
    fn encode(&self) -> Result<Vec<u8>, CodecError>;

    /// Reads the answer's payload.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are no such answer.
    fn decode(payload: Vec<u8>) -> Result<Self::Answer, CodecError>;
}

/// Bytes that come back unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping(pub Vec<u8>);

/// Asks what the agent knows of its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRequest;

/// Asks for the sessions the agent knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionsRequest;

/// Lets a guest that was held still for a save go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThawRequest;

impl Unary for Ping {
    const REQUEST: Kind = Kind::Ping;
    const ANSWER: Kind = Kind::Pong;
    type Answer = Vec<u8>;

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        Ok(self.0.clone())
    }

    fn decode(payload: Vec<u8>) -> Result<Vec<u8>, CodecError> {
        Ok(payload)
    }
}

impl Unary for StatusRequest {
    const REQUEST: Kind = Kind::StatusRequest;
    const ANSWER: Kind = Kind::Status;
    type Answer = status::Status;

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        Ok(Vec::new())
    }

    fn decode(payload: Vec<u8>) -> Result<status::Status, CodecError> {
        codec::decode(&payload)
    }
}

impl Unary for SessionsRequest {
    const REQUEST: Kind = Kind::SessionsRequest;
    const ANSWER: Kind = Kind::Sessions;
    type Answer = session::Sessions;

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        Ok(Vec::new())
    }

    fn decode(payload: Vec<u8>) -> Result<session::Sessions, CodecError> {
        codec::decode(&payload)
    }
}

impl Unary for ThawRequest {
    const REQUEST: Kind = Kind::SnapshotThawRequest;
    const ANSWER: Kind = Kind::SnapshotThawed;
    type Answer = snapshot::SnapshotThawed;

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        Ok(Vec::new())
    }

    fn decode(payload: Vec<u8>) -> Result<snapshot::SnapshotThawed, CodecError> {
        codec::decode(&payload)
    }
}

impl Unary for events::EventsRequest {
    const REQUEST: Kind = Kind::EventsRequest;
    const ANSWER: Kind = Kind::Events;
    type Answer = events::Events;

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self)
    }

    fn decode(payload: Vec<u8>) -> Result<events::Events, CodecError> {
        codec::decode(&payload)
    }
}

impl Unary for shutdown::ShutdownRequest {
    const REQUEST: Kind = Kind::ShutdownRequest;
    const ANSWER: Kind = Kind::ShutdownAccepted;
    type Answer = ();

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self)
    }

    fn decode(payload: Vec<u8>) -> Result<(), CodecError> {
        // Empty by the protocol, and `()` is no bytes: anything else is refused as trailing.
        codec::decode(&payload)
    }
}

/// Requests that are a message, with an answer that is one; `()` is an empty answer.
macro_rules! messages {
    ($($request:ty => $answer_kind:ident $answer:ty, as $request_kind:ident;)*) => {
        $(impl Unary for $request {
            const REQUEST: Kind = Kind::$request_kind;
            const ANSWER: Kind = Kind::$answer_kind;
            type Answer = $answer;

            fn encode(&self) -> Result<Vec<u8>, CodecError> {
                codec::encode(self)
            }

            fn decode(payload: Vec<u8>) -> Result<$answer, CodecError> {
                codec::decode(&payload)
            }
        })*
    };
}

messages! {
    file::FileStatRequest => FileStat file::FileStat, as FileStatRequest;
    file::FileListRequest => FileList file::FileList, as FileListRequest;
    file::MakeDirRequest => FileDone (), as MakeDirRequest;
    file::RemoveRequest => FileDone (), as RemoveRequest;
    file::RenameRequest => FileDone (), as RenameRequest;
    session::SessionSignalRequest => SessionDone (), as SessionSignalRequest;
    session::SessionResizeRequest => SessionDone (), as SessionResizeRequest;
    session::SessionWaitRequest => SessionEnd session::SessionEnd, as SessionWaitRequest;
    clock::ClockRequest => ClockDone (), as ClockRequest;
    sync::AmendRequest => AmendDone sync::AmendDone, as AmendRequest;
    snapshot::SnapshotPrepareRequest => SnapshotPrepared snapshot::SnapshotPrepared, as SnapshotPrepareRequest;
    snapshot::SnapshotRestoreRequest => SnapshotRestored snapshot::SnapshotRestored, as SnapshotRestoreRequest;
}
