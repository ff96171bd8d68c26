//! Many operations in one frame.

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::batch::{
    ANSWER_BYTES, Answer, Batch, BatchRequest, Command, Item, MAX_ITEMS, MAX_OUTPUT, Operation, Outcome,
    Output, Ran, Skip,
};
use firstlight_protocol::message::error::Cause;
use firstlight_protocol::message::events::EventsRequest;
use firstlight_protocol::message::file::{
    FileKind, FileListRequest, FileStatRequest, MakeDirRequest, Place, RemoveRequest, RenameRequest,
};
use firstlight_protocol::sentinel::ExitStatus;

use super::common::{Agent, Client, wait_for_end};

/// A batch of these operations, whose ids are their places.
pub fn batch(operations: Vec<Operation>) -> BatchRequest {
    let items = operations.into_iter().zip(0..).map(|(operation, number): (_, u32)| Item {
        id: number.to_string(),
        timeout_ms: None,
        operation,
    });
    BatchRequest { items: items.collect(), parallel: 1, stop_on_error: false, deadline_ms: 60_000 }
}

pub fn sh(script: &str) -> Operation {
    let argv = ["/bin/sh", "-c", script].map(|argument| argument.as_bytes().to_vec()).into();
    Operation::Exec(Command { argv, env: Vec::new(), cwd: None, user: None, max_output: 1000 })
}

/// The outcomes, after checking that the results are in order.
#[track_caller]
pub fn run(client: &mut Client, request: &BatchRequest) -> Vec<Outcome> {
    client.send(Kind::BatchRequest, 3, &codec::encode(request).unwrap());
    let Batch { results } = codec::decode(&client.expect(Kind::Batch, 3)).unwrap();
    let asked: Vec<&str> = request.items.iter().map(|item| item.id.as_str()).collect();
    let answered: Vec<&str> = results.iter().map(|result| result.id.as_str()).collect();
    assert_eq!(answered, asked);
    results.into_iter().map(|result| result.outcome).collect()
}

#[track_caller]
fn ran(outcome: &Outcome) -> &Ran {
    let Outcome::Done(Answer::Exec(ran)) = outcome else { panic!("{outcome:?}") };
    ran
}

#[track_caller]
fn cut_short(outcome: &Outcome) -> &Output {
    let Outcome::TimedOut(Some(output)) = outcome else { panic!("{outcome:?}") };
    output
}

#[test]
fn a_hundred_operations_are_one_frame_there_and_one_frame_back() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let operations = (0..100_u8).map(|number| Operation::Ping(vec![number])).collect();
    client.send(Kind::BatchRequest, 3, &codec::encode(&batch(operations)).unwrap());
    let Batch { results } = codec::decode(&client.expect(Kind::Batch, 3)).unwrap();
    client.send(Kind::Ping, 4, b"after");
    for (result, number) in results.iter().zip(0..100_u8) {
        assert_eq!(result.outcome, Outcome::Done(Answer::Pong(vec![number])));
    }
    // Any other frame would come before this one.
    assert_eq!(client.expect(Kind::Pong, 4), b"after");
}

#[test]
fn what_the_guest_knows_of_itself_comes_with_errors_beside_it() {
    let agent = Agent::start();
    let operations = vec![
        Operation::Status,
        Operation::Events(EventsRequest { from_seq: 0 }),
        Operation::Stats,
        Operation::Network,
        Operation::Versions,
    ];
    let outcomes = run(&mut agent.connect(), &BatchRequest { parallel: 5, ..batch(operations) });
    let [
        Outcome::Done(Answer::Status(status)),
        Outcome::Error(no_events),
        Outcome::Done(Answer::Stats(stats)),
        Outcome::Done(Answer::Network(network)),
        Outcome::Done(Answer::Versions(versions)),
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!(status.agent_pid, agent.pid());
    assert_eq!(no_events.cause, Cause::Errno(libc::ENOENT));
    assert!(stats.cpu.count > 0 && stats.cpu.user_us > 0 && stats.at_ns > 0, "{stats:?}");
    assert!(stats.memory.total > stats.memory.available && stats.tasks > 0, "{stats:?}");
    assert!(stats.filesystems.iter().any(|filesystem| filesystem.path == "/"), "{stats:?}");
    assert_eq!(network.hostname, status.hostname);
    assert_eq!((&versions.kernel, &versions.agent), (&status.kernel, &status.agent_version));
}

#[test]
fn files_are_looked_at_and_changed_in_order() {
    let agent = Agent::start();
    let directory = tempfile::tempdir().unwrap();
    let place = |path: &str| Place {
        root: directory.path().as_os_str().as_encoded_bytes().to_vec(),
        path: path.into(),
    };
    let operations = vec![
        Operation::MakeDir(MakeDirRequest { place: place("a/b"), parents: true, mode: 0o700 }),
        Operation::Rename(RenameRequest { from: place("a/b"), to: b"a/c".to_vec(), keep_existing: true }),
        Operation::List(FileListRequest { place: place("a"), after: None }),
        Operation::Stat(FileStatRequest { place: place("a/b"), follow: true }),
        Operation::Stat(FileStatRequest { place: place("../a/c"), follow: true }),
        Operation::Remove(RemoveRequest { place: place("a"), recursive: true, ignore_missing: false }),
    ];
    let outcomes = run(&mut agent.connect(), &batch(operations));
    let [
        Outcome::Done(Answer::FileDone),
        Outcome::Done(Answer::FileDone),
        Outcome::Done(Answer::List(list)),
        Outcome::Error(gone),
        Outcome::Done(Answer::Stat(stat)),
        Outcome::Done(Answer::FileDone),
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!((list.entries[0].name.as_slice(), list.entries.len()), (&b"c"[..], 1));
    assert_eq!(gone.cause, Cause::Errno(libc::ENOENT));
    assert_eq!((stat.metadata.kind, stat.metadata.mode), (FileKind::Directory, 0o700));
    assert!(!directory.path().join("a").exists());
}

#[test]
fn a_command_s_streams_and_end_are_told_apart() {
    let agent = Agent::start();
    let operations = vec![
        sh("echo out; echo err >&2; exit 3"),
        sh("kill -9 $$"),
        Operation::Exec(Command {
            argv: vec![b"/no/such/command".to_vec()],
            env: Vec::new(),
            cwd: None,
            user: None,
            max_output: 0,
        }),
        sh("sleep 1000 & echo done"),
    ];
    let outcomes = run(&mut agent.connect(), &batch(operations));
    let first = ran(&outcomes[0]);
    assert_eq!(first.status, ExitStatus::Code(3));
    assert_eq!(
        (&first.output.stdout.bytes[..], &first.output.stderr.bytes[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(ran(&outcomes[1]).status, ExitStatus::Signal(9));
    let Outcome::Error(missing) = &outcomes[2] else { panic!("{outcomes:?}") };
    assert_eq!(missing.cause, Cause::Errno(libc::ENOENT));
    assert_eq!(ran(&outcomes[3]).output.stdout.bytes, b"done\n");
}

#[test]
fn output_beyond_the_limit_is_counted_and_thrown_away() {
    let agent = Agent::start();
    let outcomes = run(&mut agent.connect(), &batch(vec![sh("head -c 100000 /dev/zero")]));
    let Output { stdout, stderr } = &ran(&outcomes[0]).output;
    assert_eq!((stdout.bytes.len(), stdout.omitted, stderr.omitted), (1000, 99_000, 0));
}

#[test]
fn all_outputs_together_fit_in_one_frame() {
    let agent = Agent::start();
    let mut large = sh("head -c 200000 /dev/zero");
    if let Operation::Exec(command) = &mut large {
        command.max_output = MAX_OUTPUT;
    }
    let outcomes = run(&mut agent.connect(), &BatchRequest { parallel: 4, ..batch(vec![large; 12]) });
    let outputs: Vec<&Output> = outcomes.iter().map(|outcome| &ran(outcome).output).collect();
    let kept: usize = outputs.iter().map(|output| output.stdout.bytes.len()).sum();
    let omitted: u64 = outputs.iter().map(|output| output.stdout.omitted).sum();
    assert_eq!((kept, kept as u64 + omitted), (ANSWER_BYTES, 12 * 200_000));
}

#[test]
fn commands_in_parallel_can_wait_for_each_other() {
    let agent = Agent::start();
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let meet = vec![sh(&format!("cat {}", fifo.display())), sh(&format!("echo met > {}", fifo.display()))];
    let outcomes = run(&mut agent.connect(), &BatchRequest { parallel: 2, ..batch(meet.clone()) });
    assert_eq!(ran(&outcomes[0]).output.stdout.bytes, b"met\n");
    // One after the other, the first waits until the whole batch's time is up and the second is never begun.
    let outcomes = run(&mut agent.connect(), &BatchRequest { deadline_ms: 500, ..batch(meet) });
    assert!(matches!(outcomes[0], Outcome::TimedOut(_)), "{outcomes:?}");
    assert_eq!(outcomes[1], Outcome::Skipped(Skip::Deadline));
}

#[test]
fn a_command_out_of_time_is_ended_and_what_it_wrote_is_kept() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let mut request =
        batch(vec![sh("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000"), sh("echo next")]);
    request.items[0].timeout_ms = Some(500);
    let outcomes = run(&mut client, &request);
    let child = String::from_utf8(cut_short(&outcomes[0]).stdout.bytes.clone()).unwrap();
    assert_eq!(ran(&outcomes[1]).output.stdout.bytes, b"next\n");
    wait_for_end(child.trim().parse().unwrap());
}

#[test]
fn what_was_done_before_the_deadline_survives_it() {
    let agent = Agent::start();
    let operations = vec![Operation::Status, sh("echo begun; exec sleep 1000"), Operation::Status];
    let outcomes = run(&mut agent.connect(), &BatchRequest { deadline_ms: 1000, ..batch(operations) });
    assert!(matches!(outcomes[0], Outcome::Done(Answer::Status(_))), "{outcomes:?}");
    assert_eq!(cut_short(&outcomes[1]).stdout.bytes, b"begun\n");
    assert_eq!(outcomes[2], Outcome::Skipped(Skip::Deadline));
}

#[test]
fn after_an_error_the_rest_is_skipped_only_when_asked() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let mut request = batch(vec![sh("exit 0"), sh("exit 1"), Operation::Status]);
    assert!(matches!(run(&mut client, &request)[2], Outcome::Done(_)));
    request.stop_on_error = true;
    let outcomes = run(&mut client, &request);
    assert_eq!(ran(&outcomes[1]).status, ExitStatus::Code(1));
    assert_eq!(outcomes[2], Outcome::Skipped(Skip::AfterError));
}

#[test]
fn a_batch_over_a_limit_is_refused_whole() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let marker = tempfile::tempdir().unwrap().keep();
    let mut request = batch(vec![sh(&format!("rmdir {}", marker.display())); 2]);
    request.items[1].id = "0".into();
    let too_many = batch(vec![Operation::Status; MAX_ITEMS + 1]);
    for refused in [&request, &too_many] {
        client.send(Kind::BatchRequest, 3, &codec::encode(refused).unwrap());
        assert!(matches!(client.expect_error(3).cause, Cause::Invalid(_)));
    }
    std::fs::remove_dir(marker).unwrap();
    client.ping();
}

#[test]
fn an_operation_that_nobody_knows_ends_the_connection() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let known = codec::encode(&batch(vec![Operation::Status])).unwrap();
    // One item, its id `0` of one byte, no timeout, then the operation's number.
    assert_eq!(known[..5], [1, 1, b'0', 0, 1]);
    let mut unknown = known;
    unknown[4] = 99;
    client.send(Kind::BatchRequest, 3, &unknown);
    assert!(matches!(client.expect_error(0).cause, Cause::Protocol(_)));
    client.expect_end();
    agent.connect().ping();
}

#[test]
fn other_connections_are_served_while_a_batch_is_under_way() {
    let agent = Agent::start();
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut waiting = agent.connect();
    let request = batch(vec![sh(&format!("cat {}", fifo.display()))]);
    waiting.send(Kind::BatchRequest, 3, &codec::encode(&request).unwrap());
    let mut other = agent.connect();
    other.ping();
    assert!(matches!(run(&mut other, &batch(vec![Operation::Status]))[0], Outcome::Done(_)));
    std::fs::write(&fifo, "released").unwrap();
    let Batch { results } = codec::decode(&waiting.expect(Kind::Batch, 3)).unwrap();
    assert_eq!(ran(&results[0].outcome).output.stdout.bytes, b"released");
}
