//! Sessions: readers that come, go and come back, signals, terminals, and what is remembered.

use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::Cause;
use firstlight_protocol::message::exec::{ExecOutcome, MAX_CHUNK};
use firstlight_protocol::message::output::Stream;
use firstlight_protocol::message::session::{INPUT_WINDOW, SessionKey};
use firstlight_protocol::sentinel::ExitStatus;

use super::common::{Agent, Client, Lease, Told, command, script, wait_for_end};

fn exited(code: u8) -> ExecOutcome {
    ExecOutcome::Exited(ExitStatus::Code(code))
}

/// The bytes of `seq 1 LAST`.
fn numbers(last: u32) -> Vec<u8> {
    (1..=last).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

/// Reads chunks that follow each other from `from` on, until `enough`; acknowledges them if told to.
#[track_caller]
fn read_on(client: &mut Client, id: u64, from: u64, enough: usize, acknowledges: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < enough {
        let chunk = client.chunk(id);
        assert_eq!(chunk.sequence, from + bytes.len() as u64, "a gap or a repetition");
        bytes.extend(chunk.bytes);
        if acknowledges {
            client.acknowledge(id, from + bytes.len() as u64, false);
        }
    }
    bytes
}

/// Reads a session whose command has ended to its end, and says where the first chunk was.
#[track_caller]
fn read_rest(client: &mut Client, id: u64) -> (u64, Vec<u8>) {
    let (mut first, mut bytes) = (None, Vec::new());
    loop {
        match client.told(id) {
            Told::Chunk(chunk) => {
                first.get_or_insert(chunk.sequence);
                bytes.extend(chunk.bytes);
            }
            Told::Taken(_) => {}
            Told::End(end) => return (first.unwrap_or(end.sequence), bytes),
        }
    }
}

#[test]
fn a_reader_that_loses_its_connection_again_and_again_loses_and_repeats_no_byte() {
    let agent = Agent::start();
    let expected = numbers(600_000);
    let mut client = agent.connect();
    client.begin(1, &script("seq 1 600000"));
    let session = client.session_started(1).key;
    let mut bytes = Vec::new();
    // Each connection breaks with output under way that has not been read.
    for round in 0_u32..8 {
        let enough = 100_000 + 7 * round as usize;
        bytes.extend(read_on(&mut client, 1, bytes.len() as u64, enough, round % 2 == 0));
        client = agent.connect();
        let attached = client.attach(1, session.id, Some(bytes.len() as u64), true);
        assert_eq!(attached.key, session);
    }
    let rest = client.finish(1);
    bytes.extend(rest.stdout);
    assert!(bytes == expected, "{} of {} bytes", bytes.len(), expected.len());
    assert_eq!(rest.outcome, exited(0));
}

#[test]
fn several_readers_see_the_same_bytes_from_the_ring_and_live() {
    let agent = Agent::start();
    let mut first = agent.connect();
    let mut request = script("echo early; read line; echo late $line; exit 4");
    request.stdin = true;
    first.begin(1, &request);
    let session = first.session_started(1).key.id;
    assert_eq!(first.first_line(1), "early");
    let mut second = agent.connect();
    assert!(second.attach(2, session, None, false).takes_input);
    assert_eq!(second.first_line(2), "early");
    second.send(Kind::Stdin, 2, b"typed\n");
    for (client, id) in [(&mut first, 1), (&mut second, 2)] {
        let ended = client.finish(id);
        assert_eq!((ended.text(), &ended.outcome), ("late typed\n", &exited(4)));
    }
}

#[test]
fn a_detached_session_waits_for_nobody_and_says_what_it_dropped() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let session = client.start_detached(&script("seq 1 600000; exit 3")).id;
    let end = client.wait_session(session);
    assert_eq!(end.outcome, exited(3));
    let expected = numbers(600_000);
    client.attach(1, session, Some(0), false);
    let (first, bytes) = read_rest(&mut client, 1);
    assert!(first > 0 && !bytes.is_empty());
    assert!(bytes == expected[usize::try_from(first).unwrap()..]);
}

#[test]
fn a_reader_that_never_comes_back_ends_up_holding_nobody_up() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.begin(1, &script("head -c 3000000 /dev/zero; exit 6"));
    let session = client.session_started(1).key.id;
    drop(client);
    let end = agent.connect().wait_session(session);
    assert_eq!((end.outcome, end.sequence > 0), (exited(6), true));
    let known = agent.connect().sessions();
    assert_eq!(known.iter().map(|known| known.key.id).collect::<Vec<_>>(), [session]);
}

#[test]
fn a_session_whose_end_was_heard_is_forgotten_and_a_detached_one_kept() {
    let agent = Agent::start();
    let mut client = agent.connect();
    assert_eq!(client.sh("echo x").text(), "x\n");
    assert!(client.sessions().is_empty());
    let session = client.start_detached(&script("echo out; echo err >&2; exit 9")).id;
    assert_eq!(client.wait_session(session).outcome, exited(9));
    client.attach(1, session, None, false);
    let ended = client.finish(1);
    assert_eq!((ended.text(), ended.stderr.as_slice()), ("out\n", &b"err\n"[..]));
    let known = client.sessions();
    assert_eq!((known.len(), &known[0].outcome), (1, &Some(exited(9))));
    assert_eq!(known[0].argv[0], b"/bin/sh");
}

#[test]
fn ended_sessions_are_bounded_in_number() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let mut last = 0;
    for _ in 0..100 {
        last = client.start_detached(&command(&["true"])).id;
        client.wait_session(last);
    }
    let settled = (0..10_000).any(|_| client.sessions().len() == 64);
    assert!(settled, "{} sessions", client.sessions().len());
    assert_eq!(client.sessions().last().unwrap().key.id, last);
}

#[test]
fn a_session_that_is_not_there_is_told_as_such() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let request = firstlight_protocol::message::session::SessionWaitRequest { id: 77 };
    client.send(Kind::SessionWaitRequest, 1, &firstlight_protocol::codec::encode(&request).unwrap());
    let error = client.expect_error(1);
    assert!(matches!(&error.cause, Cause::Invalid(reason) if reason.contains("no session 77")), "{error:?}");
    client.ping();
}

#[test]
fn a_signal_does_not_queue_behind_input_that_nobody_reads() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let mut request = command(&["sleep", "1000"]);
    request.stdin = true;
    client.begin(1, &request);
    let session = client.session_started(1).key.id;
    for _ in 0..INPUT_WINDOW / MAX_CHUNK as u64 {
        client.send(Kind::Stdin, 1, &[b'x'; MAX_CHUNK]);
    }
    agent.connect().signal(session, libc::SIGTERM);
    assert_eq!(client.finish(1).outcome, ExecOutcome::Exited(ExitStatus::Signal(15)));
}

#[test]
fn killing_a_session_ends_its_whole_group() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.begin(1, &script("trap '' TERM; sleep 1000 & echo $!; wait"));
    let session = client.session_started(1).key.id;
    let child = client.first_line(1).parse().unwrap();
    agent.connect().signal(session, libc::SIGKILL);
    assert_eq!(client.finish(1).outcome, ExecOutcome::Exited(ExitStatus::Signal(9)));
    wait_for_end(child);
}

#[test]
fn the_input_of_a_vanished_host_ends_and_a_detached_session_s_does_not() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let mut request = script("cat; echo ended");
    request.stdin = true;
    let detached = client.start_detached(&request).id;
    client.begin(1, &request);
    let attended = client.session_started(1).key.id;
    drop(client);
    let mut other = agent.connect();
    assert_eq!(other.wait_session(attended).outcome, exited(0));
    other.attach(1, detached, None, false);
    let ended = other.finish_with_input(1, b"typed\n");
    assert_eq!(ended.text(), "typed\nended\n");
}

#[test]
fn a_terminal_has_the_size_it_was_given_and_follows_changes() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let text = "stty -echo; stty size; read line; stty size; cat >/dev/null; echo end >/dev/tty; exit 5";
    let session = client.start_on_terminal(1, &script(text), 31, 97);
    assert_eq!(client.first_line(1), "31 97");
    agent.connect().resize(session.id, 40, 120);
    client.send(Kind::Stdin, 1, b"x\n");
    assert_eq!(client.first_line(1), "40 120");
    client.send(Kind::StdinEnd, 1, &[]);
    let ended = client.finish(1);
    assert_eq!((ended.text(), &ended.outcome), ("end\r\n", &exited(5)));
}

#[test]
fn control_c_on_a_terminal_interrupts_what_is_in_the_foreground() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.start_on_terminal(1, &script("echo ready; exec sleep 1000"), 24, 80);
    assert_eq!(client.first_line(1), "ready");
    client.send(Kind::Stdin, 1, b"\x03");
    assert_eq!(client.finish(1).outcome, ExecOutcome::Exited(ExitStatus::Signal(2)));
}

#[test]
fn all_that_was_written_to_a_terminal_arrives_before_the_end() {
    let agent = Agent::start();
    let mut client = agent.connect();
    for _ in 0..20 {
        client.start_on_terminal(1, &script("seq 1 20000"), 24, 80);
        let ended = client.finish(1);
        assert_eq!(ended.text().replace("\r\n", "\n").into_bytes(), numbers(20_000));
    }
}

#[test]
fn a_session_without_a_terminal_cannot_be_resized() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let SessionKey { id, .. } = client.start_detached(&command(&["sleep", "1000"]));
    let window = firstlight_protocol::message::session::Window { rows: 1, columns: 1 };
    let request = firstlight_protocol::message::session::SessionResizeRequest { id, window };
    client.send(Kind::SessionResizeRequest, 1, &firstlight_protocol::codec::encode(&request).unwrap());
    assert!(matches!(client.expect_error(1).cause, Cause::Invalid(_)));
    client.signal(id, libc::SIGKILL);
}

#[test]
fn a_program_on_a_file_system_that_hangs_holds_up_nobody_else() {
    let agent = Agent::start();
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    std::fs::copy("/bin/true", &program).unwrap();
    let lease = Lease::take(&program);
    let mut other = agent.connect();
    let mut hung: Vec<Client> = (0..20).map(|_| agent.connect()).collect();
    for client in &mut hung {
        // Both are on their way at once, so that what one has open might get into the other.
        client.begin(1, &command(&[program.to_str().unwrap()]));
        assert_eq!(other.sh("echo here").text(), "here\n");
    }
    lease.wait_for_opener();
    assert_eq!(other.sh("echo still").text(), "still\n");
    drop(lease);
    for client in &mut hung {
        client.started(1);
        assert_eq!(client.finish(1).outcome, exited(0));
    }
}

#[test]
fn a_stopped_reader_gets_every_byte_when_it_goes_on_and_delays_only_its_own_command() {
    let agent = Agent::start();
    let mut stopped = agent.connect();
    stopped.begin(1, &script("seq 1 600000"));
    let session = stopped.session_started(1).key.id;
    let mut other = agent.connect();
    assert_eq!(other.sh("seq 1 600000").stdout, numbers(600_000));
    let known = other.sessions();
    let waiting = known.iter().find(|known| known.key.id == session).unwrap();
    assert_eq!((waiting.outcome.clone(), waiting.oldest), (None, 0));
    assert_eq!(stopped.finish(1).stdout, numbers(600_000));
}

#[test]
fn streams_keep_their_order_in_one_sequence() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.begin(1, &script("echo one; sleep 0.2; echo two >&2; sleep 0.2; echo three"));
    client.started(1);
    for (stream, text, sequence) in
        [(Stream::Stdout, "one\n", 0), (Stream::Stderr, "two\n", 4), (Stream::Stdout, "three\n", 8)]
    {
        let chunk = client.chunk(1);
        assert_eq!(
            (chunk.stream, chunk.bytes.as_slice(), chunk.sequence),
            (stream, text.as_bytes(), sequence)
        );
    }
}
