//! Both sides against each other, over a line that forgets nothing and says nothing of its ends.

use std::io;
use std::os::unix::net::UnixStream as Socket;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::host::dial_at_most;
use super::*;

mod leave;

/// Connections at one time here, where both ends of each are ours.
const PLACES: usize = 16;

/// The least that a line holds: a greeting, so that both sides can begin with one. A frame that is under way may be torn.
const LITTLE: usize = 17 << 10;

/// A hold on one end of the line, which outlives whoever has it.
#[derive(Clone)]
struct End(Arc<Mutex<DuplexStream>>);

impl End {
    fn poll<R>(&self, poll: impl FnOnce(Pin<&mut DuplexStream>) -> R) -> R {
        poll(Pin::new(&mut self.0.lock().unwrap()))
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A guest's side, and what comes in there.
struct Guest {
    task: JoinHandle<()>,
    connections: mpsc::Receiver<Socket>,
}

impl Guest {
    fn on(line: &End) -> Guest {
        let (sender, connections) = mpsc::channel(MAX_CONNECTIONS);
        let line = line.clone();
        let serving = async move { drop(super::Guest::open(line).await.unwrap().serve(sender).await) };
        Guest { task: tokio::spawn(serving), connections }
    }

    async fn accept(&mut self) -> UnixStream {
        UnixStream::from_std(self.connections.recv().await.unwrap()).unwrap()
    }
}

/// A line at whose other end is nobody: nothing is taken, and a read says so.
struct Deserted;

impl AsyncRead for Deserted {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl AsyncWrite for Deserted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

struct Host {
    task: JoinHandle<()>,
    requests: mpsc::Sender<Request>,
    /// Greetings that a guest has answered.
    answers: Arc<AtomicUsize>,
}

impl Host {
    fn on(line: &End) -> Host {
        Host::with_places(PLACES, line)
    }

    fn with_places(places: usize, line: &End) -> Host {
        let (requests, mut receiver) = mpsc::channel(8);
        let line = line.clone();
        let mut last = 0_u8;
        let random = move || {
            last = last.wrapping_add(1);
            Ok([last; 16])
        };
        let answers = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&answers);
        let answered = move || _ = count.fetch_add(1, Ordering::Relaxed);
        Host {
            task: tokio::spawn(async move {
                drop(dial_at_most(places, line, &mut receiver, random, answered).await);
            }),
            requests,
            answers,
        }
    }

    async fn connect(&self) -> UnixStream {
        let (request, answer) = oneshot::channel();
        self.requests.send(request).await.unwrap();
        UnixStream::from_std(answer.await.unwrap()).unwrap()
    }
}

/// A line whose two ends hold `bytes` each way.
fn line(bytes: usize) -> (End, End) {
    let (host, guest) = duplex(bytes);
    (End(Arc::new(Mutex::new(host))), End(Arc::new(Mutex::new(guest))))
}

/// Sends a byte to the guest and has it come back. A host that has not heard yet of the end of an earlier guest opens the
/// connection in vain, and says so.
async fn round_trip(host: &Host, guest: &mut Guest) {
    loop {
        let mut client = host.connect().await;
        let _ = client.write_all(b"?").await;
        tokio::select! {
            mut session = guest.accept() => {
                assert_eq!(session.read_u8().await.unwrap(), b'?');
                session.write_all(b"!").await.unwrap();
                assert_eq!(client.read_u8().await.unwrap(), b'!');
                return;
            }
            _ = client.read_u8() => {}
        }
    }
}

/// Returns when everybody waits, because time is virtual then, and passes.
async fn until_nothing_moves() {
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
}

/// Ends a side at once, in the middle of whatever it does.
async fn kill(task: JoinHandle<()>) {
    task.abort();
    let _ = task.await;
}

#[tokio::test]
async fn a_guest_is_open_once_its_host_is_told() {
    let (mut host_end, guest_end) = line(LITTLE);
    let _guest = super::Guest::open(guest_end).await.unwrap();
    let mut told = vec![0; LITTLE];
    tokio::select! {
        biased;
        count = host_end.read(&mut told) => assert!(count.unwrap() > 0),
        () = std::future::ready(()) => panic!("nothing was said"),
    }
}

#[tokio::test]
async fn a_guest_without_a_host_is_open_all_the_same() {
    super::Guest::open(Deserted).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn connections_do_not_wait_for_those_that_nobody_reads() {
    let (host_end, guest_end) = line(1 << 16);
    let (host, mut guest) = (Host::on(&host_end), Guest::on(&guest_end));
    let mut stuck = Vec::new();
    // What each waits with is together more than may be under way.
    for _ in 0..PLACES - 1 {
        let mut client = host.connect().await;
        // More than all buffers on the way, so it stays under way.
        let client = tokio::spawn(async move { client.write_all(&vec![7; 4 << 20]).await });
        stuck.push((client, guest.accept().await));
    }
    until_nothing_moves().await;
    for _ in 0..50 {
        round_trip(&host, &mut guest).await;
    }
    assert!(stuck.iter().all(|(client, _)| !client.is_finished()));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_would_hold_more_never_has_more_under_way_than_its_ends_allow() {
    let (host_end, mut guest_end) = line(4 << 20);
    let (host, mut guest) = (Host::on(&host_end), Guest::on(&guest_end));
    round_trip(&host, &mut guest).await;
    let mut clients = [host.connect().await, host.connect().await];
    for client in &mut clients {
        client.write_all(b"?").await.unwrap();
        guest.accept().await.read_exact(&mut [0]).await.unwrap();
    }
    // From here on the line is all that takes anything.
    kill(guest.task).await;
    for mut client in clients {
        tokio::spawn(async move { client.write_all(&vec![7; 1 << 20]).await });
    }
    until_nothing_moves().await;
    let mut under_way = vec![0; 4 << 20];
    let count = guest_end.read(&mut under_way).await.unwrap();
    // The headers, and what the sides tell each other, come on top.
    assert!((credit::LIMIT / 2..credit::LIMIT * 9 / 8).contains(&count), "{count}");
}

#[tokio::test]
async fn what_is_sent_arrives_whole_and_each_direction_ends_by_itself() {
    let (host_end, guest_end) = line(LITTLE);
    let (host, mut guest) = (Host::on(&host_end), Guest::on(&guest_end));
    let bytes: Vec<u8> = (0..1 << 20).map(|at: u32| at.to_le_bytes()[1] ^ at.to_le_bytes()[0]).collect();
    let mut client = host.connect().await;
    let sent = bytes.clone();
    let client = tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        answer
    });
    let mut session = guest.accept().await;
    let mut heard = Vec::new();
    session.read_to_end(&mut heard).await.unwrap();
    assert!(heard == bytes, "{} of {} bytes, or others", heard.len(), bytes.len());
    session.write_all(&heard).await.unwrap();
    drop(session);
    assert!(client.await.unwrap() == bytes);
}

#[tokio::test]
async fn a_host_that_was_killed_in_a_frame_is_followed_by_another() {
    // What fits in the line is a part of a frame, so the frame under way is torn.
    let (host_end, guest_end) = line(LITTLE);
    let mut guest = Guest::on(&guest_end);
    for _ in 0..5 {
        let host = Host::on(&host_end);
        round_trip(&host, &mut guest).await;
        let mut client = host.connect().await;
        tokio::spawn(async move { client.write_all(&vec![3; 1 << 20]).await });
        guest.accept().await.read_exact(&mut [0; 100]).await.unwrap();
        kill(host.task).await;
    }
    let host = Host::on(&host_end);
    round_trip(&host, &mut guest).await;
}

#[tokio::test]
async fn a_guest_that_was_killed_in_a_frame_is_followed_by_another_and_its_connections_end() {
    let (host_end, guest_end) = line(LITTLE);
    let host = Host::on(&host_end);
    for _ in 0..5 {
        let mut guest = Guest::on(&guest_end);
        round_trip(&host, &mut guest).await;
        let mut client = host.connect().await;
        client.write_all(b"?").await.unwrap();
        let mut session = guest.accept().await;
        tokio::spawn(async move { session.write_all(&vec![3; 1 << 20]).await });
        client.read_exact(&mut [0; 100]).await.unwrap();
        kill(guest.task).await;
        let mut next = Guest::on(&guest_end);
        while client.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
        round_trip(&host, &mut next).await;
        kill(next.task).await;
    }
}

#[tokio::test]
async fn each_guest_has_answered_once_when_it_is_connected_to() {
    let (host_end, guest_end) = line(LITTLE);
    let host = Host::on(&host_end);
    for guests in 0..3 {
        assert_eq!(host.answers.load(Ordering::Relaxed), guests);
        let mut guest = Guest::on(&guest_end);
        round_trip(&host, &mut guest).await;
        kill(guest.task).await;
    }
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_wait_for_one_that_ends() {
    let (host_end, guest_end) = line(1 << 16);
    let (host, mut guest) = (Host::on(&host_end), Guest::on(&guest_end));
    let mut pairs = Vec::new();
    for _ in 0..PLACES {
        let mut client = host.connect().await;
        client.write_all(b"?").await.unwrap();
        pairs.push((client, guest.accept().await));
    }
    let late = host.connect();
    tokio::pin!(late);
    tokio::select! {
        _ = &mut late => panic!("one too many"),
        () = tokio::task::yield_now() => {}
    }
    pairs.pop();
    let mut client = late.await;
    client.write_all(b"?").await.unwrap();
    guest.accept().await.read_exact(&mut [0]).await.unwrap();
}
