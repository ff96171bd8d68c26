//! Bare vsock connections to `c/peer.c` in the guest, with nothing of ours on them. It serves one after the other.

use std::io::Read as _;
use std::process::{Child, Stdio};

use firstlight_host_ctl::agent::transport::{self, Address, Stream};
use firstlight_tests::Lab;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::{LIMIT, Library};

/// The port it listens on.
const PORT: u32 = 7000;

/// Where the program is in the guest.
const PROGRAM: &str = "/peer";

/// What moves by one call.
const BLOCK: usize = 256 << 10;

/// The program in the guest, which ends with this value.
pub(crate) struct Peer {
    /// The `exec` that holds it.
    session: Child,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A byte there and back.
    Echo,
    /// The same with a fork, an exec and a wait before the way back.
    Execute,
}

impl Peer {
    /// Copies the program to the guest `vm` and starts it.
    pub(super) fn start(lab: &Lab, vm: &str, program: &str) -> Peer {
        let _ = lab.host_ctl(&["cp", program, &format!("{vm}:{PROGRAM}")]).ok();
        let mut command = lab.command(&["exec", vm, "--", PROGRAM, &PORT.to_string()]);
        let mut session = command.stderr(Stdio::null()).spawn().unwrap();
        let mut ready = [0; 6];
        session.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        Peer { session }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.session.kill();
        let _ = self.session.wait();
    }
}

impl Library {
    /// A new connection for `work`, and one byte there and back.
    pub(crate) async fn bare_round_trip(&self, work: Work) -> Result<(), String> {
        let mut stream = self.bare_open(work).await?;
        once_more(&mut stream).await
    }

    /// A new connection for `work`.
    pub(crate) async fn bare_open(&self, work: Work) -> Result<Stream, String> {
        let word = match work {
            Work::Echo => b"e",
            Work::Execute => b"x",
        };
        let mut stream = bare(&self.bare).await?;
        stream.write_all(word).await.map_err(lost)?;
        Ok(stream)
    }

    /// Moves so many bytes into the guest, from memory to memory.
    pub(crate) async fn bare_in(&self, bytes: usize) -> Result<(), String> {
        let (mut stream, block) = (bare(&self.bare).await?, vec![0; BLOCK]);
        ask(&mut stream, b'i', bytes).await?;
        for _ in 0..bytes / BLOCK {
            stream.write_all(&block).await.map_err(lost)?;
        }
        stream.read_u8().await.map(drop).map_err(lost)
    }

    /// Moves so many bytes out of the guest.
    pub(crate) async fn bare_out(&self, bytes: usize) -> Result<(), String> {
        let (mut stream, mut block) = (bare(&self.bare).await?, vec![0; BLOCK]);
        ask(&mut stream, b'o', bytes).await?;
        for _ in 0..bytes / BLOCK {
            stream.read_exact(&mut block).await.map_err(lost)?;
        }
        Ok(())
    }
}

/// One byte more on a connection that is open.
pub(crate) async fn once_more(stream: &mut Stream) -> Result<(), String> {
    stream.write_all(b".").await.map_err(lost)?;
    stream.read_u8().await.map(drop).map_err(lost)
}

async fn ask(stream: &mut Stream, work: u8, bytes: usize) -> Result<(), String> {
    let mut request = vec![work];
    request.extend((bytes as u64).to_le_bytes());
    stream.write_all(&request).await.map_err(lost)
}

async fn bare(address: &Address) -> Result<Stream, String> {
    let stream = transport::connect(address, PORT, Instant::now() + LIMIT).await;
    stream.map_err(|error| error.to_string())
}

#[allow(clippy::needless_pass_by_value, reason = "it maps errors")]
fn lost(error: std::io::Error) -> String {
    format!("the bare connection broke: {error}")
}
