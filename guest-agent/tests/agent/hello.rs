//! Readiness, tokens, versions, too many connections.

use std::process::{Command, Stdio};

use firstlight_protocol::codec;
use firstlight_protocol::hex::Secret;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::Cause;
use firstlight_protocol::message::hello::{Hello, Refusal};
use firstlight_protocol::version::{CURRENT, Range, SUPPORTED};

use super::common::{Agent, BOOT, Client, TOKEN, start};

/// More than the agent allows.
const MANY: usize = 300;

#[track_caller]
fn refusal(agent: &Agent, hello: &Hello) -> Refusal {
    let mut client = Client::new(agent.dial());
    client.send(Kind::Hello, 5, &codec::encode(hello).unwrap());
    let refusal = codec::decode(&client.expect(Kind::Refusal, 5)).unwrap();
    client.expect_end();
    refusal
}

#[test]
fn a_host_with_the_token_is_welcome() {
    let agent = Agent::start();
    let welcome = Client::new(agent.dial()).hello();
    assert_eq!((welcome.version, welcome.boot_id), (CURRENT, BOOT));
}

#[test]
fn a_wrong_token_is_refused_before_anything_is_told() {
    let agent = Agent::start();
    let mut token = TOKEN.0;
    token[31] ^= 1;
    let unknown = Range { oldest: 900, newest: 900 };
    for versions in [SUPPORTED, unknown] {
        assert_eq!(refusal(&agent, &Hello { token: Secret(token), versions }), Refusal::WrongToken);
    }
}

#[test]
fn a_host_of_another_age_learns_what_the_agent_speaks() {
    let agent = Agent::start();
    let versions = Range { oldest: CURRENT + 1, newest: CURRENT + 9 };
    assert_eq!(refusal(&agent, &Hello { token: TOKEN, versions }), Refusal::NoCommonVersion(SUPPORTED));
}

#[test]
fn a_request_before_the_hello_ends_the_connection() {
    let agent = Agent::start();
    let mut client = Client::new(agent.dial());
    client.send(Kind::Ping, 3, b"hi");
    assert!(matches!(client.expect_error(0).cause, Cause::Protocol(_)));
    client.expect_end();
}

#[test]
fn a_peer_that_says_nothing_is_let_go() {
    let agent = Agent::start();
    Client::new(agent.dial()).expect_end();
}

#[test]
fn one_connection_too_many_is_told_so_and_a_place_that_is_free_again_is_given() {
    let agent = Agent::start();
    let hello = Hello { token: TOKEN, versions: SUPPORTED };
    let mut admitted = Vec::new();
    let refused = loop {
        assert!(admitted.len() < MANY);
        let mut client = Client::new(agent.dial());
        client.send(Kind::Hello, 1, &codec::encode(&hello).unwrap());
        let answer = client.receive().unwrap();
        if answer.kind == Kind::Refusal {
            break codec::decode::<Refusal>(&answer.payload).unwrap();
        }
        admitted.push(client);
    };
    assert_eq!(refused, Refusal::Busy);
    admitted.last_mut().unwrap().ping();
    // The agent sees a closed connection before it accepts a later one, or at the latest a few dials later.
    drop(admitted);
    let welcome = (0..MANY).any(|_| {
        let mut client = Client::new(agent.dial());
        client.send(Kind::Hello, 1, &codec::encode(&hello).unwrap());
        client.receive().is_some_and(|answer| answer.kind == Kind::Welcome)
    });
    assert!(welcome);
}

#[test]
fn an_agent_that_cannot_listen_never_says_ready() {
    let mut config = tempfile::tempfile().unwrap();
    let text = format!(r#"{{"boot_id":"5f1c09ae","token":"{}","port":1}}"#, "ab".repeat(32));
    std::io::Write::write_all(&mut config, text.as_bytes()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_guest-agent"));
    command.args(["--listen", "unix:/no/such/directory/agent.sock"]).stderr(Stdio::piped());
    let (child, said) = start(&mut command, &config, &[]);
    assert_eq!(said, "");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("bind /no/such/directory/agent.sock: No such file"), "{words}");
}

#[test]
fn a_service_manager_is_told_too() {
    let directory = tempfile::tempdir().unwrap();
    let notify = std::os::unix::net::UnixDatagram::bind(directory.path().join("notify")).unwrap();
    notify.set_read_timeout(Some(super::common::DEADLINE)).unwrap();
    let config = directory.path().join("config");
    let text = format!(r#"{{"boot_id":"5f1c09ae","token":"{}","port":1}}"#, "ab".repeat(32));
    std::fs::write(&config, text).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_guest-agent"))
        .arg("--config")
        .arg(config)
        .arg("--listen")
        .arg(format!("unix:{}", directory.path().join("agent.sock").display()))
        .env("NOTIFY_SOCKET", directory.path().join("notify"))
        .spawn()
        .unwrap();
    let mut message = [0; 64];
    let length = notify.recv(&mut message).unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(&message[..length], b"READY=1\n");
}

#[test]
fn descriptors_that_init_never_passed_are_named() {
    let mut config = tempfile::tempfile().unwrap();
    let stream = r#"{"pipe":1001,"log":1002}"#;
    let output = format!(r#"{{"stdout":{stream},"stderr":{stream}}}"#);
    let token = "ab".repeat(32);
    let text = format!(r#"{{"boot_id":"5f1c09ae","token":"{token}","port":1,"program_output":{output}}}"#);
    std::io::Write::write_all(&mut config, text.as_bytes()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_guest-agent"));
    command.args(["--listen", "unix:/no/such/directory/agent.sock"]).stderr(Stdio::piped());
    let (child, said) = start(&mut command, &config, &[]);
    assert_eq!(said, "");
    let words = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(words.contains("stdout, pipe 1001 and log 1002: Bad file descriptor"), "{words}");
}
