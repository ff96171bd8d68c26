//! Requests of one connection that take their time, and those that are answered meanwhile.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::file::{FileStatRequest, Place};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::batch::{batch, sh};
use super::common::{Agent, Client};

/// Requests of one connection that the agent works on at one time.
const LIMIT: u64 = 8;

/// Asks for something that is done when somebody writes to the pipe.
fn ask_for_the_end_of(client: &mut Client, id: u64, pipe: &Path) {
    let operation = sh(&format!("cat {}", pipe.display()));
    client.send(Kind::BatchRequest, id, &codec::encode(&batch(vec![operation])).unwrap());
}

/// An agent, and a connection to it on which request 1 is under way.
struct UnderWay {
    _agent: Agent,
    client: Client,
    directory: TempDir,
}

impl UnderWay {
    fn begin() -> UnderWay {
        let directory = tempfile::tempdir().unwrap();
        let agent = Agent::start();
        let client = agent.connect();
        let mut under_way = UnderWay { _agent: agent, client, directory };
        let pipe = under_way.pipe();
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        ask_for_the_end_of(&mut under_way.client, 1, &pipe);
        under_way
    }

    fn pipe(&self) -> PathBuf {
        self.directory.path().join("pipe")
    }

    /// Lets all end that wait for the pipe, now and later: it has a writer, and bytes for none of them.
    fn release(&self) {
        drop(OpenOptions::new().write(true).open(self.pipe()).unwrap());
    }
}

#[test]
fn a_request_that_hangs_delays_no_other_on_its_connection() {
    let mut hanging = UnderWay::begin();
    let client = &mut hanging.client;
    client.send(Kind::Ping, 2, b"meanwhile");
    assert_eq!(client.expect(Kind::Pong, 2), b"meanwhile");
    let stat = FileStatRequest { place: Place::new("/tmp"), follow: false };
    client.send(Kind::FileStatRequest, 3, &codec::encode(&stat).unwrap());
    client.expect(Kind::FileStat, 3);
    hanging.release();
    hanging.client.expect(Kind::Batch, 1);
}

#[test]
fn so_many_requests_are_under_way_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::start();
    let mut client = agent.connect();
    let pipes: Vec<_> = (0..LIMIT).map(|number| directory.path().join(number.to_string())).collect();
    for (pipe, id) in pipes.iter().zip(0..) {
        mkfifo(pipe, Mode::S_IRWXU).unwrap();
        ask_for_the_end_of(&mut client, id, pipe);
    }
    client.send(Kind::Ping, LIMIT, b"one too many");
    // Opening waits for the reader: the agent works on all of them.
    let mut writers: Vec<_> =
        pipes.iter().map(|pipe| OpenOptions::new().write(true).open(pipe).unwrap()).collect();
    // Others are not held up.
    agent.connect().ping();
    drop(writers.remove(0));
    client.expect(Kind::Batch, 0);
    assert_eq!(client.expect(Kind::Pong, LIMIT), b"one too many");
    drop(writers);
    let mut answered: Vec<u64> = (1..LIMIT).map(|_| client.receive().unwrap().id).collect();
    answered.sort_unstable();
    assert_eq!(answered, (1..LIMIT).collect::<Vec<_>>());
}

#[test]
fn an_id_is_free_again_only_when_its_request_is_answered() {
    let mut first = UnderWay::begin();
    first.release();
    first.client.expect(Kind::Batch, 1);
    let pipe = first.pipe();
    ask_for_the_end_of(&mut first.client, 1, &pipe);
    first.client.send(Kind::Ping, 1, b"under the same id");
    let error: AgentError = codec::decode(&first.client.expect(Kind::Error, 0)).unwrap();
    assert!(matches!(error.cause, Cause::Protocol(reason) if reason.contains("the id 1 is in use")));
    // What was asked for goes on without its host.
    first.release();
}
