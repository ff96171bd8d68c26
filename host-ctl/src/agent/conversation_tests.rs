//! Conversations with an agent that follows a script, byte for byte.

use std::time::Duration;

use firstlight_protocol::codec;
use firstlight_protocol::frame::{Header, MAX_PAYLOAD};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::batch::{Batch, BatchRequest, ItemResult, Outcome};
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::exec::{ExecOutcome, ExecRequest};
use firstlight_protocol::message::hello::{Refusal, Welcome};
use firstlight_protocol::message::output::Stream;
use firstlight_protocol::message::session::{
    INPUT_WINDOW, SessionAck, SessionChunk, SessionEnd, SessionInputTaken, SessionKey, SessionStartRequest,
    SessionStarted,
};
use firstlight_protocol::sentinel::ExitStatus;
use firstlight_protocol::version;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::script::{BOOT, Script, connected, ends, soon, token};
use super::*;

#[tokio::test]
async fn the_hello_agrees_on_a_version_and_names_the_boot() {
    let (connection, _script) = connected().await;
    assert_eq!((connection.version(), connection.boot_id()), (version::CURRENT, BOOT));
}

#[tokio::test]
async fn a_refusal_is_told_as_such() {
    let (stream, mut script) = ends();
    script.say(Kind::Refusal, 0, &Refusal::WrongToken).await;
    let error = Connection::over(stream, &token(), soon()).await.err().unwrap();
    assert!(matches!(error, Error::Refused(Refusal::WrongToken)), "{error}");
}

#[tokio::test]
async fn a_version_that_was_not_offered_is_refused() {
    let (stream, mut script) = ends();
    script.say(Kind::Welcome, 0, &Welcome { version: version::CURRENT + 1, boot_id: BOOT }).await;
    let error = Connection::over(stream, &token(), soon()).await.err().unwrap();
    assert!(matches!(error, Error::Protocol(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_says_nothing_is_a_timeout_that_names_the_hello() {
    let (stream, _script) = ends();
    let error = Connection::over(stream, &token(), soon()).await.err().unwrap();
    assert!(matches!(error, Error::Timeout(Awaited::Welcome)), "{error}");
}

#[tokio::test]
async fn an_error_that_answers_no_request_is_told_in_the_agents_words() {
    let (mut connection, mut script) = connected().await;
    let error = AgentError {
        operation: "protocol".into(),
        path: None,
        cause: Cause::Protocol("it was garbled".into()),
    };
    let agent = async {
        script.hear().await;
        script.say(Kind::Error, 0, &error).await;
    };
    let ping = Ping(b"?".to_vec());
    let (answer, ()) = tokio::join!(connection.request(&ping, soon()), agent);
    let Error::Agent(told) = answer.unwrap_err() else { panic!("not the agent's error") };
    assert_eq!(told, error);
}

#[tokio::test]
async fn a_hostile_length_ends_the_connection_before_anything_is_allocated() {
    let (mut connection, mut script) = connected().await;
    let mut header = Header::new(Kind::Pong, 1, 0).unwrap().encode();
    header[..4].copy_from_slice(&(MAX_PAYLOAD + 1).to_le_bytes());
    script.0.write_all(&header).await.unwrap();
    assert!(matches!(connection.recv().await, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn a_receive_that_was_given_up_loses_no_byte() {
    let (mut connection, mut script) = connected().await;
    let frame = [&Header::new(Kind::Pong, 9, 4).unwrap().encode()[..], b"pong"].concat();
    for byte in frame {
        // Given up as soon as it waits, with part of the frame read.
        tokio::select! {
            biased;
            received = connection.recv() => panic!("{received:?}"),
            () = tokio::task::yield_now() => {}
        }
        script.0.write_all(&[byte]).await.unwrap();
    }
    let (header, payload) = connection.recv().await.unwrap();
    assert_eq!((header.id, payload.as_slice()), (9, b"pong".as_slice()));
}

#[tokio::test]
async fn pipelined_requests_get_their_own_answers_in_any_order() {
    let (connection, mut script) = connected().await;
    let client = Client::new(connection);
    let (first, second) = (Ping(b"first".to_vec()), Ping(b"second".to_vec()));
    let answer_in_reverse = async {
        let (one, two) = (script.hear().await, script.hear().await);
        script.say_bytes(Kind::Pong, two.0.id, &two.1).await;
        script.say_bytes(Kind::Pong, one.0.id, &one.1).await;
    };
    let (first, second, ()) =
        tokio::join!(client.request(&first, soon()), client.request(&second, soon()), answer_in_reverse);
    assert_eq!((first.unwrap(), second.unwrap()), (b"first".to_vec(), b"second".to_vec()));
}

#[tokio::test]
async fn an_error_of_the_agent_fails_its_own_request_alone() {
    let (connection, mut script) = connected().await;
    let client = Client::new(connection);
    let refused = AgentError { operation: "status".into(), path: None, cause: Cause::Busy("later".into()) };
    let agent = async {
        let (header, _) = script.hear().await;
        script.say(Kind::Error, header.id, &refused).await;
        let (header, payload) = script.hear().await;
        script.say_bytes(Kind::Pong, header.id, &payload).await;
    };
    let requests = async {
        let failed = client.request(&StatusRequest, soon()).await;
        (failed, client.request(&Ping(b"on".to_vec()), soon()).await)
    };
    let ((failed, next), ()) = tokio::join!(requests, agent);
    assert!(matches!(failed, Err(Error::Agent(error)) if error == refused));
    assert_eq!(next.unwrap(), b"on");
}

#[tokio::test]
async fn a_broken_connection_fails_every_request_with_what_broke_it() {
    let (connection, script) = connected().await;
    let client = Client::new(connection);
    let break_it = async {
        tokio::task::yield_now().await;
        drop(script);
    };
    let (first, second) = (Ping(vec![1]), Ping(vec![2]));
    let (first, second, ()) =
        tokio::join!(client.request(&first, soon()), client.request(&second, soon()), break_it);
    for failed in [first, second, client.request(&Ping(vec![3]), soon()).await] {
        assert!(matches!(failed, Err(Error::Lost(_))), "{failed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_after_its_deadline_disturbs_nobody() {
    let (connection, mut script) = connected().await;
    let client = Client::new(connection);
    let late = client.request(&Ping(b"late".to_vec()), soon()).await;
    assert!(matches!(late, Err(Error::Timeout(Awaited::Answer))), "{late:?}");
    let (stale, payload) = script.hear().await;
    script.say_bytes(Kind::Pong, stale.id, &payload).await;
    let echo = async {
        let (header, payload) = script.hear().await;
        script.say_bytes(Kind::Pong, header.id, &payload).await;
    };
    let next = Ping(b"next".to_vec());
    let (next, ()) = tokio::join!(client.request(&next, soon()), echo);
    assert_eq!(next.unwrap(), b"next");
}

fn cat() -> SessionStartRequest {
    let command = ExecRequest {
        argv: vec![b"cat".to_vec()],
        env: Vec::new(),
        cwd: None,
        user: None,
        stdin: true,
        timeout_ms: None,
        kill_after_ms: 0,
    };
    SessionStartRequest { command, terminal: None, detached: false }
}

const STARTED: SessionStarted = SessionStarted { key: SessionKey { id: 3, started_ns: 9 }, pid: 42 };

/// A session that has started, and the id of its frames.
async fn session() -> (session::Input, session::Output, Script, u64) {
    let (connection, mut script) = connected().await;
    let request = cat();
    let agent = async {
        let (asked, payload) = script.hear().await;
        assert_eq!(asked.kind, Kind::SessionStartRequest);
        assert_eq!(codec::decode::<SessionStartRequest>(&payload).unwrap(), request);
        script.say(Kind::SessionStarted, asked.id, &STARTED).await;
        asked.id
    };
    let (started, id) = tokio::join!(session::start(connection, &request), agent);
    let (started, input, output) = started.unwrap();
    assert_eq!(started, STARTED);
    (input, output, script, id)
}

async fn hear_ack(script: &mut Script) -> SessionAck {
    let (header, payload) = script.hear().await;
    assert_eq!(header.kind, Kind::SessionAck);
    codec::decode(&payload).unwrap()
}

#[tokio::test]
async fn output_counts_as_read_once_the_next_is_asked_for() {
    let (_input, mut output, mut script, id) = session().await;
    let chunk =
        |sequence, bytes: &[u8]| SessionChunk { stream: Stream::Stdout, sequence, bytes: bytes.to_vec() };
    script.say(Kind::SessionChunk, id, &chunk(0, b"abc")).await;
    let event = |bytes: &[u8]| session::Event::Output { stream: Stream::Stdout, bytes: bytes.to_vec() };
    assert_eq!(output.next().await.unwrap(), event(b"abc"));
    // A gap is told, then what follows it.
    script.say(Kind::SessionChunk, id, &chunk(10, b"d")).await;
    assert_eq!(output.next().await.unwrap(), session::Event::Dropped(7));
    assert_eq!(hear_ack(&mut script).await, SessionAck { through: 3, end: false });
    assert_eq!(output.next().await.unwrap(), event(b"d"));
    assert_eq!(output.position(), 11);
    let outcome = ExecOutcome::Exited(ExitStatus::Code(3));
    script.say(Kind::SessionEnd, id, &SessionEnd { sequence: 11, outcome: outcome.clone() }).await;
    assert_eq!(output.next().await.unwrap(), session::Event::Ended(outcome));
    let last = async {
        loop {
            let ack = hear_ack(&mut script).await;
            if ack.end {
                return ack.through;
            }
        }
    };
    assert_eq!(last.await, 11);
}

#[tokio::test]
async fn output_that_comes_twice_is_a_broken_protocol() {
    let (_input, mut output, mut script, id) = session().await;
    let chunk = SessionChunk { stream: Stream::Stdout, sequence: 0, bytes: b"abc".to_vec() };
    script.say(Kind::SessionChunk, id, &chunk).await;
    script.say(Kind::SessionChunk, id, &chunk).await;
    output.next().await.unwrap();
    assert!(matches!(output.next().await, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn input_stays_within_its_window_until_the_command_takes_some() {
    let (mut input, mut output, mut script, id) = session().await;
    let bytes = vec![7; usize::try_from(INPUT_WINDOW).unwrap() + 1];
    let writer = tokio::spawn(async move {
        input.write(&bytes).await.unwrap();
        input.end().await.unwrap();
    });
    let mut heard = 0;
    while heard < INPUT_WINDOW {
        let (header, payload) = script.hear().await;
        assert_eq!(header.kind, Kind::Stdin);
        heard += payload.len() as u64;
    }
    assert_eq!(heard, INPUT_WINDOW);
    script.say(Kind::SessionInputTaken, id, &SessionInputTaken { bytes: 1 }).await;
    // Only a caller that reads hears what was taken.
    let reader = tokio::spawn(async move { output.next().await });
    let (header, payload) = script.hear().await;
    assert_eq!((header.kind, payload.len()), (Kind::Stdin, 1));
    assert_eq!(script.hear().await.0.kind, Kind::StdinEnd);
    writer.await.unwrap();
    reader.abort();
}

#[tokio::test]
async fn a_command_that_could_not_start_is_told_with_its_errno() {
    let (connection, mut script) = connected().await;
    let request = cat();
    let error = AgentError { operation: "exec".into(), path: Some("cat".into()), cause: Cause::Errno(2) };
    let agent = async {
        let (asked, _) = script.hear().await;
        let outcome = ExecOutcome::SpawnFailed(error.clone());
        script.say(Kind::SessionEnd, asked.id, &SessionEnd { sequence: 0, outcome }).await;
    };
    let (started, ()) = tokio::join!(session::start(connection, &request), agent);
    assert!(matches!(started, Err(Error::Agent(told)) if told == error));
}

/// Answers one batch with errors, and gives its items' ids once the connection has ended: no other frame came before.
async fn serve_one_batch(mut script: Script) -> Vec<String> {
    let (header, payload) = script.hear().await;
    assert_eq!(header.kind, Kind::BatchRequest);
    let request: BatchRequest = codec::decode(&payload).unwrap();
    let ids: Vec<String> = request.items.into_iter().map(|item| item.id).collect();
    let error = AgentError { operation: "test".into(), path: None, cause: Cause::Busy("scripted".into()) };
    let result =
        |id: &String| ItemResult { id: id.clone(), elapsed_us: 1, outcome: Outcome::Error(error.clone()) };
    script.say(Kind::Batch, header.id, &Batch { results: ids.iter().map(result).collect() }).await;
    assert_eq!(script.0.read(&mut [0]).await.unwrap(), 0, "one frame is enough");
    ids
}

#[tokio::test]
async fn all_that_a_guest_says_of_itself_is_one_frame_there_and_one_back() {
    let (connection, script) = connected().await;
    let agent = tokio::spawn(serve_one_batch(script));
    let client = Client::new(connection);
    let gathered = bundle::gather(&client).await.unwrap();
    assert_eq!(gathered.versions, bundle::Leg::Error("test: scripted".into()));
    drop(client);
    assert_eq!(agent.await.unwrap(), ["status", "health", "stats", "network", "versions"]);
}

#[tokio::test]
async fn all_checks_of_a_probe_are_one_frame_there_and_one_back() {
    let (connection, script) = connected().await;
    let agent = tokio::spawn(serve_one_batch(script));
    let client = Client::new(connection);
    let checks = [probe::Check::built_in(), vec!["own=true".parse().unwrap()]].concat();
    let findings = probe::Probe::new(checks, Duration::from_secs(1)).unwrap().run(&client).await.unwrap();
    let unknown = probe::Outcome::Unknown { cause: "test: scripted".into() };
    assert!(findings.len() == 6 && findings.iter().all(|finding| finding.outcome == unknown), "{findings:?}");
    drop(client);
    assert_eq!(agent.await.unwrap().len(), 5);
}

#[tokio::test]
async fn results_of_other_items_are_a_broken_protocol() {
    let (connection, mut script) = connected().await;
    let agent = tokio::spawn(async move {
        let (header, _) = script.hear().await;
        script.say(Kind::Batch, header.id, &Batch { results: Vec::new() }).await;
        script
    });
    let client = Client::new(connection);
    let error = bundle::gather(&client).await.err().unwrap();
    assert!(matches!(error, Error::Protocol(_)), "{error}");
    drop(agent.await.unwrap());
}
