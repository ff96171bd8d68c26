//! Just enough of a host to test an agent with: blocking, and every read has a deadline.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use firstlight_protocol::codec;
use firstlight_protocol::frame::{HEADER_LEN, Header};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{Entry, Totals};
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::hello::{Hello, Welcome};
use firstlight_protocol::version::SUPPORTED;

use super::TOKEN;

/// One frame.
#[derive(Debug)]
pub struct Frame {
    pub kind: Kind,
    pub id: u64,
    pub payload: Vec<u8>,
}

/// A connection to the agent.
pub struct Client {
    pub stream: UnixStream,
}

impl Client {
    pub fn new(stream: UnixStream) -> Client {
        Client { stream }
    }

    pub fn send(&mut self, kind: Kind, id: u64, payload: &[u8]) {
        let header = Header::new(kind, id, payload.len()).unwrap().encode();
        self.stream.write_all(&[&header[..], payload].concat()).unwrap();
    }

    /// The next whole frame, or `None` at the end of the connection.
    #[track_caller]
    pub fn receive(&mut self) -> Option<Frame> {
        let mut header = [0; HEADER_LEN];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if is_end(&error) => return None,
            Err(error) => panic!("no frame: {error}"),
        }
        let header = Header::decode(&header).unwrap();
        let mut payload = vec![0; header.length as usize];
        if let Err(error) = self.stream.read_exact(&mut payload) {
            assert!(is_end(&error), "half a frame: {error}");
            return None;
        }
        Some(Frame { kind: header.kind, id: header.id, payload })
    }

    /// The payload of the next frame, which has to be of this kind and id.
    #[track_caller]
    pub fn expect(&mut self, kind: Kind, id: u64) -> Vec<u8> {
        let frame = self.receive().unwrap_or_else(|| panic!("connection ended before {kind:?}"));
        assert_eq!((frame.kind, frame.id), (kind, id), "{:?}", self.error_in(&frame));
        frame.payload
    }

    pub fn error_in(&self, frame: &Frame) -> Option<AgentError> {
        (frame.kind == Kind::Error).then(|| codec::decode(&frame.payload).unwrap())
    }

    #[track_caller]
    pub fn expect_error(&mut self, id: u64) -> AgentError {
        codec::decode(&self.expect(Kind::Error, id)).unwrap()
    }

    #[track_caller]
    pub fn expect_end(&mut self) {
        let frame = self.receive();
        assert!(frame.is_none(), "{frame:?}");
    }

    /// What the agent copies in answer to request `id`: every entry with its bytes, and the totals.
    #[track_caller]
    pub fn copied(&mut self, id: u64) -> (Vec<(Entry, Vec<u8>)>, Totals) {
        let mut entries: Vec<(Entry, Vec<u8>)> = Vec::new();
        loop {
            let frame = self.receive().unwrap();
            assert_eq!(frame.id, id);
            if frame.kind == Kind::CopyEntry {
                entries.push((codec::decode(&frame.payload).unwrap(), Vec::new()));
            } else if frame.kind == Kind::CopyData {
                entries.last_mut().unwrap().1.extend(frame.payload);
            } else {
                assert_eq!(frame.kind, Kind::CopyEnd);
                return (entries, codec::decode(&frame.payload).unwrap());
            }
        }
    }

    #[track_caller]
    pub fn hello(&mut self) -> Welcome {
        let hello = Hello { token: TOKEN, versions: SUPPORTED };
        self.send(Kind::Hello, 1, &codec::encode(&hello).unwrap());
        codec::decode(&self.expect(Kind::Welcome, 1)).unwrap()
    }

    #[track_caller]
    pub fn ping(&mut self) {
        self.send(Kind::Ping, 77, b"are you there");
        assert_eq!(self.expect(Kind::Pong, 77), b"are you there");
    }
}

fn is_end(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)
}
