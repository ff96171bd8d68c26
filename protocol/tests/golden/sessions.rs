//! Sessions.

use firstlight_protocol::codec::{decode, encode};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::exec::ExecOutcome;
use firstlight_protocol::message::output::Stream;
use firstlight_protocol::message::session::{
    Session, SessionAck, SessionAttachRequest, SessionAttached, SessionChunk, SessionChunkRef, SessionEnd,
    SessionInputTaken, SessionKey, SessionResizeRequest, SessionSignalRequest, SessionStartRequest,
    SessionStarted, SessionWaitRequest, Sessions, Window,
};
use firstlight_protocol::sentinel::ExitStatus;

use super::{Golden, bare_request, request};

const KEY: SessionKey = SessionKey { id: 3, started_ns: 1 << 40 };

fn session(outcome: Option<ExecOutcome>) -> Session {
    Session {
        key: KEY,
        pid: 4242,
        argv: vec![b"sh".to_vec(), vec![0xff]],
        age_ns: 251,
        detached: true,
        terminal: false,
        readers: 2,
        oldest: 4,
        sequence: 5,
        outcome,
    }
}

pub(super) fn generation_1() -> Vec<Golden> {
    let exited = ExecOutcome::Exited(ExitStatus::Code(7));
    golden! {
        SessionStartRequest: SessionStartRequest { command: request(), terminal: Some(Window { rows: 24, columns: 300 }), detached: false } => "0202736801ff010141016201042f746d700103313a320101fbdc05fc701101000118fb2c0100",
        SessionStartRequest: SessionStartRequest { command: bare_request(), terminal: None, detached: true } => "010273680000000000000001",
        SessionStarted: SessionStarted { key: KEY, pid: 4242 } => "03fd0000000000010000fb9210",
        SessionAttachRequest: SessionAttachRequest { id: 3, from: None, take_over: false } => "030000",
        SessionAttachRequest: SessionAttachRequest { id: 3, from: Some(1 << 33), take_over: true } => "0301fd000000000200000001",
        SessionAttached: SessionAttached { key: KEY, input: 7, takes_input: true, terminal: false } => "03fd0000000000010000070100",
        SessionChunk: SessionChunk { stream: Stream::Stderr, sequence: 250, bytes: b"hi".to_vec() } => "01fa026869",
        SessionAck: SessionAck { through: 65_536, end: false } => "fc0000010000",
        SessionAck: SessionAck { through: 1, end: true } => "0101",
        SessionInputTaken: SessionInputTaken { bytes: 65_535 } => "fbffff",
        SessionEnd: SessionEnd { sequence: 9, outcome: exited.clone() } => "09000007",
        SessionSignalRequest: SessionSignalRequest { id: 3, number: 64 } => "0340",
        SessionResizeRequest: SessionResizeRequest { id: 3, window: Window { rows: 25, columns: 80 } } => "031950",
        SessionWaitRequest: SessionWaitRequest { id: 251 } => "fbfb00",
        Sessions: Sessions { sessions: vec![session(None), session(Some(exited))] } => "0203fd0000000000010000fb92100202736801fffbfb0001000204050003fd0000000000010000fb92100202736801fffbfb00010002040501000007",
    }
}

#[test]
fn a_borrowed_chunk_has_the_bytes_of_an_owned_one() {
    let bytes = vec![7; 300];
    let borrowed = SessionChunkRef { stream: Stream::Stdout, sequence: 251, bytes: &bytes };
    let borrowed = encode(&borrowed).unwrap();
    assert_eq!(decode(&borrowed), Ok(SessionChunk { stream: Stream::Stdout, sequence: 251, bytes }));
}
