//! Ping, status, events, shutdown.

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::events::{Events, EventsRequest};
use firstlight_protocol::message::output::OutputRequest;
use firstlight_protocol::message::shutdown::ShutdownRequest;
use firstlight_protocol::message::status::Status;

use super::common::{Agent, Client, command};

fn event(sequence: u64) -> String {
    format!("FIRSTLIGHT-AGENT-READY boot=5f1c09ae seq={sequence} t=1 mac=9f0c2b77a1d4e893\n")
}

#[track_caller]
fn status(client: &mut Client) -> Status {
    client.send(Kind::StatusRequest, 2, &[]);
    codec::decode(&client.expect(Kind::Status, 2)).unwrap()
}

#[test]
fn requests_sent_in_one_go_are_answered_in_order() {
    let agent = Agent::start();
    let mut client = agent.connect();
    for id in 0..200_u64 {
        client.send(Kind::Ping, id, &id.to_le_bytes());
    }
    for id in 0..200_u64 {
        assert_eq!(client.expect(Kind::Pong, id), id.to_le_bytes());
    }
}

#[test]
fn the_largest_ping_comes_back_whole() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let payload: Vec<u8> = (0..1 << 20).map(|index: u32| index.to_le_bytes()[1]).collect();
    let mut writer = Client::new(client.stream.try_clone().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| writer.send(Kind::Ping, 4, &payload));
        assert!(client.expect(Kind::Pong, 4) == payload);
    });
}

#[test]
fn status_describes_this_kernel_and_counts_commands() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let before = status(&mut client);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(before.kernel_boot_id, boot_id.trim());
    assert_eq!((before.agent_pid, before.running_execs), (agent.pid(), 0));

    let mut busy = agent.connect();
    busy.begin(1, &command(&["sleep", "1000"]));
    let pid = busy.started(1);
    let during = status(&mut client);
    assert_eq!(during.running_execs, 1);
    assert!(during.uptime_ns > before.uptime_ns);
    firstlight_guest_agent::sys::kill(i32::try_from(pid).unwrap(), 9).unwrap();
    busy.finish(1);
}

#[test]
fn events_are_given_from_the_one_asked_for() {
    let agent = Agent::start();
    std::fs::write(agent.events(), (1..=3).map(event).collect::<String>()).unwrap();
    let mut client = agent.connect();
    client.send(Kind::EventsRequest, 2, &codec::encode(&EventsRequest { from_seq: 2 }).unwrap());
    let Events { lines } = codec::decode(&client.expect(Kind::Events, 2)).unwrap();
    assert_eq!(String::from_utf8(lines).unwrap(), event(2) + &event(3));
}

#[test]
fn events_that_init_never_wrote_are_an_error_with_its_path() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.send(Kind::EventsRequest, 2, &codec::encode(&EventsRequest { from_seq: 0 }).unwrap());
    let path = Some(agent.events().display().to_string());
    let error = AgentError { operation: "open".into(), path, cause: Cause::Errno(libc::ENOENT) };
    assert_eq!(client.expect_error(2), error);
    client.ping();
}

#[test]
fn outside_a_vm_nothing_is_shut_down() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.send(Kind::ShutdownRequest, 2, &codec::encode(&ShutdownRequest { grace_ms: Some(0) }).unwrap());
    assert!(matches!(client.expect_error(2).cause, Cause::Invalid(_)));
    client.ping();
}

#[test]
fn without_a_program_there_is_no_output() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let request = OutputRequest { from: Default::default() };
    client.send(Kind::OutputRequest, 2, &codec::encode(&request).unwrap());
    assert!(matches!(client.expect_error(2).cause, Cause::Invalid(_)));
    client.ping();
}
