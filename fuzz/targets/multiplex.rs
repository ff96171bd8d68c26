//! What comes over a serial port from a peer that means harm: whatever it was, the next one gets through.
//!
//! The first byte of the input says whose bytes the rest is; whether a greeting comes before them, behind which they are frames,
//! to which mutation would hardly ever come; and whether an honest peer follows or, which is far quicker, the end of the line.

#![no_main]

use std::os::unix::net::UnixStream as Socket;
use std::sync::OnceLock;

use firstlight_multiplex::{Generation, Guest, MAX_CONNECTIONS, Request, dial};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, timeout};

/// What a guest's port and the VMM hold back.
const LINE: usize = 64 << 10;

/// More than the longest frame that `yamux` takes, whatever was promised: an honest peer's own greeting needs far less.
const NO_FRAMES: &[u8] = &[0x10; (1 << 20) + 24];

const FROM_GUEST: u8 = 1;
const GREETED: u8 = 2;
const FOLLOWED: u8 = 4;

const PATIENCE: Duration = Duration::from_secs(20);

fuzz_target!(|bytes: &[u8]| {
    let Some((&mode, bytes)) = bytes.split_first() else { return };
    let from_guest = mode & FROM_GUEST != 0;
    let word: &[u8; 16] = if from_guest { b"\x02firstlight-vm/1" } else { b"\x01firstlight-host" };
    let greeting = [&word[..], &[1; 16]].concat();
    let greeting = if mode & GREETED == 0 { &[] } else { &greeting[..] };
    let followed = mode & FOLLOWED != 0;
    let no_frames = if followed { NO_FRAMES } else { &[] };
    let hostile = [greeting, bytes, no_frames].concat();
    let reached = async {
        let (host_end, guest_end) = duplex(LINE);
        if from_guest {
            let next = async |line| {
                if followed {
                    guest(line).await
                }
            };
            tokio::join!(host(host_end), after(&hostile, guest_end, next)).0
        } else {
            let next = async |line| followed && host(line).await;
            tokio::join!(after(&hostile, host_end, next), guest(guest_end)).0.unwrap_or_default()
        }
    };
    let reached = runtime().block_on(async { timeout(PATIENCE, reached).await });
    let reached = reached.expect("everybody ends or gets through");
    assert!(reached || !followed, "the next peer gets through");
});

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    })
}

/// Whatever comes behind bytes that are none's; `None` when the line ended before all of them were taken.
async fn after<T>(
    bytes: &[u8],
    mut line: DuplexStream,
    next: impl AsyncFnOnce(DuplexStream) -> T,
) -> Option<T> {
    line.write_all(bytes).await.ok()?;
    Some(next(line).await)
}

/// A host: whether its client has a byte come back before the line ends, however often it has to connect.
async fn host(line: DuplexStream) -> bool {
    let (requests, mut asked) = mpsc::channel::<Request>(1);
    let mut last = 0_u8;
    let random = move || -> std::io::Result<Generation> {
        last = last.wrapping_add(1).max(1);
        Ok([last; 16])
    };
    tokio::select! {
        Err(_) = dial(line, &mut asked, random, || ()) => false,
        () = async { while !comes_back(&requests).await {} } => true,
    }
}

async fn comes_back(requests: &mpsc::Sender<Request>) -> bool {
    let (request, connected) = oneshot::channel();
    requests.send(request).await.expect("a host that dials");
    let Ok(Ok(mut client)) = connected.await.map(UnixStream::from_std) else { return false };
    client.write_all(b"?").await.is_ok() && client.read_u8().await.is_ok_and(|byte| byte == b'?')
}

/// A guest that sends back what it hears, until the host has gone.
async fn guest(line: DuplexStream) {
    let (sender, mut connections) = mpsc::channel::<Socket>(MAX_CONNECTIONS);
    let serving = async { Guest::open(line).await?.serve(sender).await };
    let echoing = async {
        while let Some(connection) = connections.recv().await {
            tokio::spawn(async move {
                let mut connection = UnixStream::from_std(connection).expect("a socket that does not block");
                let (mut reader, mut writer) = connection.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    };
    // It ends with the line, and the line with the host.
    let _ = tokio::join!(serving, echoing);
}
