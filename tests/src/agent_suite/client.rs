//! Just enough of a host: blocking, and every read has a deadline.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bincode::{Decode, Encode};
use firstlight_protocol::codec;
use firstlight_protocol::frame::{HEADER_LEN, Header};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::hello::{Hello, Welcome};
use firstlight_protocol::version::SUPPORTED;

use super::Place;

/// Only a failing case waits this long.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// The id of requests that go one after the other.
pub(super) const ID: u64 = 5;

/// A connection to an agent.
#[derive(Debug)]
pub struct Client {
    pub(super) stream: UnixStream,
}

/// A frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) id: u64,
    pub(super) payload: Vec<u8>,
}

impl Client {
    /// A connection before its hello.
    pub(super) fn dial(place: &dyn Place) -> Client {
        let stream = place.dial();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Client { stream }
    }

    /// A connection past its hello.
    #[track_caller]
    pub fn connect(place: &dyn Place) -> Client {
        let mut client = Client::dial(place);
        let hello = Hello { token: place.token(), versions: SUPPORTED };
        let _: Welcome = client.ask(Kind::Hello, &hello, Kind::Welcome);
        client
    }

    pub(super) fn send_bytes(&mut self, kind: Kind, id: u64, payload: &[u8]) {
        let header = Header::new(kind, id, payload.len()).unwrap();
        self.stream.write_all(&[&header.encode()[..], payload].concat()).unwrap();
    }

    pub(super) fn send(&mut self, kind: Kind, message: &impl Encode) {
        self.send_bytes(kind, ID, &codec::encode(message).unwrap());
    }

    /// The next frame, or `None` at the connection's end.
    #[track_caller]
    pub(super) fn receive(&mut self) -> Option<Frame> {
        let mut header = [0; HEADER_LEN];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if is_end(error.kind()) => return None,
            Err(error) => panic!("no frame: {error}"),
        }
        let header = Header::decode(&header).unwrap();
        let mut payload = vec![0; header.length as usize];
        self.stream.read_exact(&mut payload).unwrap();
        Some(Frame { kind: header.kind, id: header.id, payload })
    }

    #[track_caller]
    pub(super) fn expect(&mut self, kind: Kind, id: u64) -> Vec<u8> {
        let frame = self.receive().unwrap_or_else(|| panic!("the connection ended before {kind:?}"));
        let error = (frame.kind == Kind::Error).then(|| codec::decode::<AgentError>(&frame.payload));
        assert_eq!((frame.kind, frame.id), (kind, id), "{error:?}");
        frame.payload
    }

    /// Asks for something that has one answer.
    #[track_caller]
    pub(super) fn ask<A: Decode<()>>(&mut self, kind: Kind, request: &impl Encode, answer: Kind) -> A {
        self.send(kind, request);
        codec::decode(&self.expect(answer, ID)).unwrap()
    }

    #[track_caller]
    pub(super) fn ping(&mut self) {
        self.send_bytes(Kind::Ping, 77, b"are you there");
        assert_eq!(self.expect(Kind::Pong, 77), b"are you there");
    }

    /// Waits until the agent says which rule was broken and closes the connection.
    #[track_caller]
    pub(super) fn expect_violation(&mut self) -> String {
        let error: AgentError = codec::decode(&self.expect(Kind::Error, 0)).unwrap();
        let Cause::Protocol(reason) = error.cause else { panic!("{error} is no violation") };
        self.expect_end();
        reason
    }

    #[track_caller]
    pub(super) fn expect_end(&mut self) {
        let frame = self.receive();
        assert!(frame.is_none(), "{frame:?}");
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
