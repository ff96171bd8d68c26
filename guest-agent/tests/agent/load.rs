//! Many commands, slow and vanished hosts.

use firstlight_guest_agent::sys;
use firstlight_protocol::message::exec::ExecOutcome;
use firstlight_protocol::sentinel::ExitStatus;

use super::common::{Agent, Client, command, wait_for_end};

#[test]
fn a_hundred_commands_run_at_once() {
    let agent = Agent::start();
    let mut clients: Vec<Client> = (0..100).map(|_| agent.connect()).collect();
    // None of them ends before all of them run: each waits for its input's end.
    for (client, number) in clients.iter_mut().zip(0..) {
        let mut request = command(&["/bin/sh", "-c", &format!("cat; echo {number}; exit {number}")]);
        request.stdin = true;
        client.begin(1, &request);
    }
    for client in &mut clients {
        client.started(1);
    }
    for (client, number) in clients.iter_mut().zip(0..) {
        client.send(firstlight_protocol::message::Kind::StdinEnd, 1, &[]);
        let ended = client.finish(1);
        assert_eq!(ended.text(), format!("{number}\n"));
        assert_eq!(ended.outcome, ExecOutcome::Exited(ExitStatus::Code(number)));
    }
}

#[test]
fn a_host_that_reads_nothing_blocks_nobody_else() {
    let agent = Agent::start();
    let mut stopped = agent.connect();
    stopped.begin(1, &command(&["yes"]));
    let yes = stopped.started(1);
    let mut other = agent.connect();
    for _ in 0..20 {
        other.ping();
        assert_eq!(other.sh("echo here").text(), "here\n");
    }
    sys::kill(i32::try_from(yes).unwrap(), libc::SIGKILL).unwrap();
    let ended = stopped.finish(1);
    assert_eq!(ended.outcome, ExecOutcome::Exited(ExitStatus::Signal(9)));
    assert!(ended.stdout.chunks(2).all(|line| b"y\n".starts_with(line)));
}

#[test]
fn all_that_was_in_the_pipes_arrives_before_the_end() {
    let agent = Agent::start();
    let mut client = agent.connect();
    for _ in 0..50 {
        let ended = client.sh("head -c 60000 /dev/zero; head -c 60000 /dev/zero >&2");
        assert_eq!((ended.stdout.len(), ended.stderr.len()), (60_000, 60_000));
    }
}

#[test]
fn commands_leave_no_descriptor_and_no_zombie_behind() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.sh("true");
    client.ping();
    let before = agent.open_descriptors();
    for _ in 0..50 {
        assert_eq!(client.sh("cat; echo x").text(), "x\n");
        let mut gone = agent.connect();
        gone.begin(1, &command(&["sleep", "1000"]));
        let pid = gone.started(1);
        drop(gone);
        sys::kill(i32::try_from(pid).unwrap(), libc::SIGKILL).unwrap();
        wait_for_end(pid);
    }
    // Each ping gives the agent's other tasks a turn.
    let settled = (0..10_000).any(|_| {
        client.ping();
        agent.open_descriptors() == before
    });
    assert!(settled, "{} descriptors, {before} before", agent.open_descriptors());
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.pid())).unwrap();
    assert_eq!(children, "");
}

#[test]
fn memory_is_bounded_in_a_burst_and_given_back_after_it() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.sh("true");
    let before = agent.memory_kib();
    let mut stopped: Vec<Client> = (0..100).map(|_| agent.connect()).collect();
    for reader in &mut stopped {
        reader.begin(1, &command(&["yes"]));
    }
    let writers: Vec<u32> = stopped.iter_mut().map(|reader| reader.started(1)).collect();
    client.ping();
    let during = agent.memory_kib() - before;
    // What all rings keep together, and for each command a small ring, a buffer of 32 KiB and as much for all else.
    assert!(during < (8 << 10) + 100 * (16 + 2 * 32), "{during} KiB for 100 commands");
    for writer in writers {
        sys::kill(i32::try_from(writer).unwrap(), libc::SIGKILL).unwrap();
    }
    for reader in &mut stopped {
        reader.finish(1);
    }
    drop(stopped);
    let given_back = (0..10_000).any(|_| {
        client.ping();
        agent.memory_kib().saturating_sub(before) < 4096
    });
    assert!(given_back, "{} KiB, {before} before", agent.memory_kib());
}
