//! Those who leave: whoever is still there is told, nobody waits for ever, and no place stays taken. Time is virtual where nothing
//! else is said, so a deadline passes only when everybody waits.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::time::timeout;

use super::*;

const LONG: Duration = Duration::from_secs(600);

/// More than all buffers on the way hold.
const MUCH: usize = 4 << 20;

/// Both sides of a line that holds `bytes` each way.
fn both_sides(bytes: usize) -> (Host, Guest) {
    let (host_end, guest_end) = line(bytes);
    (Host::on(&host_end), Guest::on(&guest_end))
}

/// A client and its session, of which the one was heard by the other.
async fn connected(host: &Host, guest: &mut Guest) -> (UnixStream, UnixStream) {
    let mut client = host.connect().await;
    client.write_all(b"?").await.unwrap();
    let mut session = guest.accept().await;
    assert_eq!(session.read_u8().await.unwrap(), b'?');
    (client, session)
}

#[tokio::test(start_paused = true)]
async fn a_session_that_writes_hears_of_a_client_that_left_with_nothing_unread() {
    let (host, mut guest) = both_sides(1 << 16);
    let (client, mut session) = connected(&host, &mut guest).await;
    drop(client);
    timeout(LONG, session.write_all(&vec![1; MUCH])).await.expect("it waits for ever").unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_writes_hears_of_a_session_that_left_and_takes_up_no_place() {
    let (host, mut guest) = both_sides(1 << 16);
    for number in 0..2 * PLACES {
        let (mut client, session) = timeout(LONG, connected(&host, &mut guest))
            .await
            .unwrap_or_else(|_| panic!("no place: {number}"));
        drop(session);
        timeout(LONG, client.write_all(&vec![1; MUCH])).await.expect("it waits for ever").unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_does_not_wait_for_a_client_that_ended_one_direction_and_left() {
    let (host, mut guest) = both_sides(1 << 16);
    for unread in [false, true] {
        let (mut client, mut session) = connected(&host, &mut guest).await;
        client.shutdown().await.unwrap();
        assert_eq!(session.read(&mut [0]).await.unwrap(), 0);
        session.write_all(b"!").await.unwrap();
        client.readable().await.unwrap();
        if !unread {
            client.read_u8().await.unwrap();
        }
        drop(client);
        let _ = timeout(LONG, session.write_all(&vec![1; MUCH])).await.expect("it waits for ever");
        let (_client, _session) = connected(&host, &mut guest).await;
    }
}

/// Both directions are full when the client is killed.
#[tokio::test(start_paused = true)]
async fn an_echo_ends_when_its_client_is_killed() {
    let (host, mut guest) = both_sides(1 << 16);
    for number in 0..2 * PLACES {
        let (mut client, mut session) = timeout(LONG, connected(&host, &mut guest))
            .await
            .unwrap_or_else(|_| panic!("no place: {number}"));
        let echo = tokio::spawn(async move {
            let mut buffer = vec![0; 8192];
            while let Ok(count @ 1..) = session.read(&mut buffer).await {
                if session.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        });
        let client = tokio::spawn(async move { client.write_all(&vec![1; MUCH]).await });
        until_nothing_moves().await;
        assert!(!client.is_finished());
        client.abort();
        timeout(LONG, echo).await.expect("it waits for ever").unwrap();
    }
}

/// The last bytes of one who leaves arrive, however slow the other is.
#[tokio::test(start_paused = true)]
async fn all_that_was_said_before_leaving_is_heard() {
    let (host, mut guest) = both_sides(LITTLE);
    for from_client in [true, false] {
        let (client, session) = connected(&host, &mut guest).await;
        let (mut speaker, mut hearer) = if from_client { (client, session) } else { (session, client) };
        tokio::spawn(async move { speaker.write_all(&vec![7; MUCH]).await.unwrap() });
        until_nothing_moves().await;
        let mut heard = Vec::new();
        hearer.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard.len(), MUCH);
    }
}

/// The other answers into nothing meanwhile.
#[tokio::test(start_paused = true)]
async fn all_that_was_said_before_leaving_is_heard_by_one_who_answers() {
    let (host, mut guest) = both_sides(LITTLE);
    for from_client in [true, false] {
        let (client, session) = connected(&host, &mut guest).await;
        let (mut speaker, mut hearer) = if from_client { (client, session) } else { (session, client) };
        // It fits in what lies on the way, so that the speaker is gone before the answer comes.
        speaker.write_all(&vec![7; 300_000]).await.unwrap();
        drop(speaker);
        hearer.write_all(b"!").await.unwrap();
        until_nothing_moves().await;
        let _ = hearer.write_all(b"!").await;
        let mut heard = Vec::new();
        timeout(LONG, hearer.read_to_end(&mut heard)).await.expect("it waits for ever").unwrap();
        assert_eq!(heard.len(), 300_000);
    }
}

/// Streams that only the guest still knew of would end the conversation when there were too many.
#[tokio::test(start_paused = true)]
async fn a_bystander_survives_any_number_of_clients_that_left() {
    let (host, mut guest) = both_sides(1 << 16);
    let (mut bystander, mut its_session) = connected(&host, &mut guest).await;
    for number in 0..MAX_STREAMS + PLACES {
        let (client, mut session) = timeout(LONG, connected(&host, &mut guest))
            .await
            .unwrap_or_else(|_| panic!("the conversation is over after {number}"));
        drop(client);
        tokio::spawn(async move { session.write_all(&vec![1; 1 << 20]).await });
        until_nothing_moves().await;
    }
    its_session.write_all(b"!").await.unwrap();
    assert_eq!(bystander.read_u8().await.unwrap(), b'!');
    bystander.write_all(b"?").await.unwrap();
    assert_eq!(its_session.read_u8().await.unwrap(), b'?');
}

#[tokio::test(start_paused = true)]
async fn clients_wait_for_an_agent_that_takes_its_time_and_those_who_leave_take_up_nothing() {
    let (host_end, guest_end) = line(1 << 16);
    let (host, (sender, connections)) = (Host::on(&host_end), mpsc::channel(1));
    let serving = async move { drop(crate::Guest::open(guest_end).await.unwrap().serve(sender).await) };
    let mut guest = Guest { task: tokio::spawn(serving), connections };
    let mut clients = Vec::new();
    for number in 0..2 * MAX_STREAMS {
        let client = timeout(LONG, host.connect()).await.unwrap_or_else(|_| panic!("no place: {number}"));
        if number % MAX_STREAMS < PLACES / 4 {
            clients.push(client);
        }
    }
    let mut sessions = Vec::new();
    for client in &mut clients {
        client.write_all(b"?").await.unwrap();
    }
    while sessions.len() < clients.len() {
        let mut session = timeout(LONG, guest.accept()).await.expect("one was not told of");
        // Those who left before anybody could know of them have a session too.
        if session.read(&mut [0]).await.unwrap() == 1 {
            session.write_all(b"!").await.unwrap();
            sessions.push(session);
        }
    }
    for client in &mut clients {
        assert_eq!(client.read_u8().await.unwrap(), b'!');
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_has_a_session_all_the_same() {
    let (host, mut guest) = both_sides(1 << 16);
    let mut client = host.connect().await;
    let mut session = timeout(LONG, guest.accept()).await.expect("nobody was told");
    session.write_all(b"!").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'!');
}

/// More files than a process may have open by default.
fn allow_files(count: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, count.min(hard), hard).unwrap();
}

#[tokio::test(start_paused = true)]
async fn as_many_may_wait_for_their_first_answer_as_there_are_places() {
    // yamux opens 256 streams that the peer has not said it took.
    const MANY: usize = 300;
    allow_files(4096);
    let (host_end, guest_end) = line(1 << 16);
    let (host, mut guest) = (Host::with_places(MANY, &host_end), Guest::on(&guest_end));
    let mut pairs = Vec::new();
    for number in 0..MANY {
        let pair = timeout(LONG, connected(&host, &mut guest)).await;
        pairs.push(pair.unwrap_or_else(|_| panic!("no room: {number}")));
    }
}

/// In real time; the deadline is one that only a test that fails meets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_sides_tell_each_other_is_no_client_s_on_several_threads() {
    for _ in 0..100 {
        let (host_end, guest_end) = line(1 << 16);
        let host = Host::on(&host_end);
        let (request, answer) = oneshot::channel();
        host.requests.send(request).await.unwrap();
        let client = tokio::spawn(async move {
            let mut client = UnixStream::from_std(answer.await.unwrap()).unwrap();
            client.write_all(b"?").await.unwrap();
            (client.read_u8().await.unwrap(), client)
        });
        let mut guest = Guest::on(&guest_end);
        let met = async {
            let mut session = guest.accept().await;
            assert_eq!(session.read_u8().await.unwrap(), b'?');
            session.write_all(b"!").await.unwrap();
            assert_eq!(client.await.unwrap().0, b'!');
        };
        timeout(LONG, met).await.unwrap();
    }
}

#[tokio::test]
async fn clients_that_leave_without_a_word_take_up_no_place() {
    let (host, mut guest) = both_sides(1 << 16);
    for _ in 0..5 * PLACES {
        drop(host.connect().await);
        // It is a connection all the same, and it ends.
        assert_eq!(guest.accept().await.read(&mut [0]).await.unwrap(), 0);
    }
    round_trip(&host, &mut guest).await;
}

#[tokio::test]
async fn a_session_hears_of_a_client_that_left_with_bytes_unread() {
    let (host, mut guest) = both_sides(1 << 16);
    let mut client = host.connect().await;
    client.write_all(b"?").await.unwrap();
    let mut session = guest.accept().await;
    assert_eq!(session.read_u8().await.unwrap(), b'?');
    session.write_all(b"!").await.unwrap();
    client.readable().await.unwrap();
    drop(client);
    assert_eq!(session.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_session_that_answers_and_leaves_is_heard_whatever_its_client_still_sends() {
    let (host, mut guest) = both_sides(1 << 16);
    let client = host.connect().await;
    let (mut reader, mut writer) = client.into_split();
    writer.write_all(b"request").await.unwrap();
    let talking = tokio::spawn(async move { while writer.write_all(&[1; 999]).await.is_ok() {} });
    let mut session = guest.accept().await;
    session.read_exact(&mut [0; 7]).await.unwrap();
    session.write_all(&[2; 100_000]).await.unwrap();
    drop(session);
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.len(), 100_000);
    drop(reader);
    talking.await.unwrap();
}
