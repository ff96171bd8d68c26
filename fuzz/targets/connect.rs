//! A vhost-user backend that answers anything to a `CONNECT` line.

#![no_main]

use std::io::ErrorKind;
use std::sync::OnceLock;

use firstlight_host_ctl::agent::Error;
use firstlight_host_ctl::agent::transport::{Address, Stream, connect};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::{Duration, Instant};

const BACKEND: &str = "/tmp/backend";

const PORT: u32 = 1024;

/// Bytes of the longest line that is an answer, newline included.
const LONGEST: usize = 32;

/// The backend closes what it has answered, so nothing is waited for that long.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    runtime: Runtime,
    backend: UnixListener,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _ = std::fs::remove_file(BACKEND);
        let backend = {
            let _inside = runtime.enter();
            UnixListener::bind(BACKEND).expect("a socket")
        };
        World { runtime, backend }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let World { runtime, backend } = world();
    runtime.block_on(async {
        let answer = async {
            loop {
                let (stream, _) = backend.accept().await.expect("a client");
                say(stream, bytes).await;
            }
        };
        let address = Address::VhostUser(BACKEND.into());
        let connected = tokio::select! {
            connected = connect(&address, PORT, Instant::now() + PATIENCE) => connected,
            () = answer => unreachable!("the backend goes on"),
        };
        check(connected, bytes).await;
    });
});

/// Hears the line, answers and goes. Whoever does not like the beginning of the answer may be gone before its end.
async fn say(mut stream: UnixStream, bytes: &[u8]) {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\n") {
        if !matches!(stream.read_buf(&mut asked).await, Ok(1..)) {
            return;
        }
    }
    assert_eq!(asked, format!("CONNECT {PORT}\n").as_bytes());
    let _ = stream.write_all(bytes).await;
}

/// `OK`, a number and no more on the line: then what follows is the guest's, to the last byte.
async fn check(connected: Result<Stream, Error>, bytes: &[u8]) {
    match (accepted(bytes), connected) {
        (Some(guest), Ok(mut stream)) => {
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard).await;
            assert_eq!(heard, guest);
        }
        (None, Err(Error::Unreachable { source, .. })) => {
            assert!(!matches!(source.kind(), ErrorKind::TimedOut), "{source}");
        }
        (accepted, connected) => panic!("{accepted:?} {:?}", connected.err()),
    }
}

/// What follows the line, if it is one that accepts.
fn accepted(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().take(LONGEST).position(|byte| *byte == b'\n')?;
    let number = bytes[..end].strip_prefix(b"OK ")?;
    (!number.is_empty() && number.iter().all(u8::is_ascii_digit)).then(|| &bytes[end + 1..])
}
