//! Bytes that are no protocol: an error or a closed connection, and an agent that goes on.

use std::io::Write;

use firstlight_protocol::codec;
use firstlight_protocol::frame::{HEADER_LEN, Header, MAX_PAYLOAD};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::Cause;
use firstlight_protocol::message::exec::MAX_CHUNK;
use firstlight_protocol::message::session::SessionAck;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::common::{Agent, Client, command};

/// What `bytes` are answered with, on a connection past its hello that then closes.
#[track_caller]
fn violation(agent: &Agent, bytes: &[u8]) -> String {
    let mut client = agent.connect();
    client.stream.write_all(bytes).unwrap();
    let Cause::Protocol(reason) = client.expect_error(0).cause else { panic!("no protocol error") };
    client.expect_end();
    agent.connect().ping();
    reason
}

fn header(change: impl FnOnce(&mut [u8; HEADER_LEN])) -> [u8; HEADER_LEN] {
    let mut bytes = Header::new(Kind::Ping, 1, 0).unwrap().encode();
    change(&mut bytes);
    bytes
}

#[test]
fn headers_that_cannot_be_are_named_and_end_the_connection() {
    let agent = Agent::start();
    let too_long = header(|bytes| bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes()));
    assert_eq!(violation(&agent, &too_long), "frame of 4294967295 bytes is over the limit of 1048576");
    let unknown_kind = header(|bytes| bytes[5] = 0xff);
    assert_eq!(violation(&agent, &unknown_kind), "frame has unknown kind 65284");
    let flags = header(|bytes| bytes[6] = 1);
    assert_eq!(violation(&agent, &flags), "frame has unknown flags 0x0001");
}

#[test]
fn answers_and_malformed_requests_end_the_connection() {
    let agent = Agent::start();
    let answer = header(|bytes| bytes[4] = 5);
    assert!(violation(&agent, &answer).contains("unexpected Pong"));
    let malformed =
        [&Header::new(Kind::SessionStartRequest, 1, 9).unwrap().encode()[..], &[0xfd; 9]].concat();
    assert!(violation(&agent, &malformed).contains("malformed SessionStartRequest"));
    let trailing = [&Header::new(Kind::ShutdownRequest, 1, 2).unwrap().encode()[..], &[0, 0]].concat();
    assert!(violation(&agent, &trailing).contains("followed by 1 unexpected bytes"));
}

#[test]
fn a_large_hello_is_refused_from_its_header_alone() {
    let agent = Agent::start();
    let mut client = Client::new(agent.dial());
    let header = Header::new(Kind::Hello, 1, 4096).unwrap();
    client.stream.write_all(&header.encode()).unwrap();
    assert!(matches!(client.expect_error(0).cause, Cause::Protocol(_)));
    client.expect_end();
}

#[test]
fn a_stream_cut_inside_a_frame_harms_nobody() {
    let agent = Agent::start();
    let frame = [&Header::new(Kind::Ping, 1, 100).unwrap().encode()[..], &[7; 100]].concat();
    for length in [1, HEADER_LEN - 1, HEADER_LEN, HEADER_LEN + 1, frame.len() - 1] {
        let mut client = agent.connect();
        client.stream.write_all(&frame[..length]).unwrap();
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(matches!(client.expect_error(0).cause, Cause::Protocol(_)));
        client.expect_end();
    }
    agent.connect().ping();
}

#[test]
fn a_peer_that_stops_inside_a_frame_is_let_go() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.stream.write_all(&Header::new(Kind::Ping, 1, 1).unwrap().encode()).unwrap();
    let Cause::Protocol(reason) = client.expect_error(0).cause else { panic!("no protocol error") };
    assert!(reason.contains("did not come within"), "{reason}");
    client.expect_end();
}

#[test]
fn claimed_lengths_cost_no_memory() {
    let agent = Agent::start();
    let before = agent.memory_kib();
    let claim = Header::new(Kind::Ping, 1, MAX_PAYLOAD as usize).unwrap().encode();
    let mut clients: Vec<Client> = (0..200).map(|_| agent.connect()).collect();
    for client in &mut clients {
        client.stream.write_all(&claim).unwrap();
    }
    agent.connect().ping();
    let grown = agent.memory_kib().saturating_sub(before);
    let claimed = 200 * u64::from(MAX_PAYLOAD / 1024);
    assert!(grown < claimed / 8, "{grown} KiB for claims of {claimed} KiB");
}

#[test]
fn what_a_running_command_cannot_take_ends_the_connection() {
    let agent = Agent::start();
    let not_sent = codec::encode(&SessionAck { through: 1, end: false }).unwrap();
    let not_ended = codec::encode(&SessionAck { through: 0, end: true }).unwrap();
    let cases: [(Kind, u64, &[u8]); 5] = [
        (Kind::Stdin, 1, &[0; MAX_CHUNK + 1]),
        (Kind::Stdin, 2, b"another id"),
        (Kind::SessionAck, 1, &not_sent),
        (Kind::SessionAck, 1, &not_ended),
        (Kind::Ping, 1, b""),
    ];
    for (kind, id, payload) in cases {
        let mut client = agent.connect();
        let mut request = command(&["cat"]);
        request.stdin = true;
        client.begin(1, &request);
        client.started(1);
        client.send(kind, id, payload);
        assert!(matches!(client.expect_error(0).cause, Cause::Protocol(_)));
        client.expect_end();
    }
}

#[test]
fn any_bytes_leave_the_agent_alive() {
    let agent = Agent::start();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(100) });
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    let ran = runner.run(&(bytes, proptest::sample::select(Kind::ALL)), |(mut bytes, kind)| {
        let mut client = agent.connect();
        if bytes.len() >= HEADER_LEN {
            // Otherwise nearly every header would be refused for its length, kind or flags.
            bytes[1..4].fill(0);
            bytes[4..6].copy_from_slice(&kind.number().to_le_bytes());
            bytes[6..8].fill(0);
        }
        let _ = client.stream.write_all(&bytes);
        drop(client);
        agent.connect().ping();
        Ok(())
    });
    ran.unwrap();
}
