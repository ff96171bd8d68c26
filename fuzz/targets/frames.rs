//! Bytes from a peer, to both ends' parsers of frames.

#![no_main]

use firstlight_guest_agent::deframer::Deframer;
use firstlight_host_ctl::agent::Connection;
use firstlight_protocol::frame::MAX_PAYLOAD;
use firstlight_protocol::hex::Secret;
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::time::{Duration, Instant};

fuzz_target!(|bytes: &[u8]| {
    agent(bytes);
    host(bytes);
});

/// The agent's: frames, or an error, and never more memory than arrived plus what it grows by.
fn agent(mut bytes: &[u8]) {
    let total = bytes.len();
    let mut deframer = Deframer::new(MAX_PAYLOAD);
    while !bytes.is_empty() {
        let space = deframer.space();
        assert!(!space.is_empty() && space.len() <= 64 * 1024);
        let count = space.len().min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        match deframer.advance(count) {
            Ok(Some(frame)) => assert!(frame.payload.len() <= total),
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// The host's: the answer to its hello, and frames to the end.
fn host(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        let token = Secret([1; 32]);
        let deadline = Instant::now() + Duration::from_secs(60);
        let write = async move {
            // Refused when the host has closed the connection already.
            let _ = theirs.write_all(bytes).await;
        };
        let read = async {
            let Ok(mut connection) = Connection::over(Box::new(ours), &token, deadline).await else { return };
            while connection.recv().await.is_ok() {}
        };
        tokio::join!(write, read);
    });
}
