//! An agent that follows a test's script, byte for byte.

use std::time::Duration;

use firstlight_protocol::codec;
use firstlight_protocol::frame::{HEADER_LEN, Header};
use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::hello::{Hello, Welcome};
use firstlight_protocol::version;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::{Connection, transport};

pub(crate) const BOOT: BootId = BootId([1, 2, 3, 4]);

/// The agent's end of a connection.
pub(crate) struct Script<S = DuplexStream>(pub(crate) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Script<S> {
    pub(crate) async fn say<T: bincode::Encode>(&mut self, kind: Kind, id: u64, message: &T) {
        self.say_bytes(kind, id, &codec::encode(message).unwrap()).await;
    }

    pub(crate) async fn say_bytes(&mut self, kind: Kind, id: u64, payload: &[u8]) {
        self.0.write_all(&Header::new(kind, id, payload.len()).unwrap().encode()).await.unwrap();
        self.0.write_all(payload).await.unwrap();
    }

    /// The next frame.
    pub(crate) async fn hear(&mut self) -> (Header, Vec<u8>) {
        self.hear_or_end().await.expect("a frame")
    }

    /// The next frame, or `None` at the end of the connection.
    pub(crate) async fn hear_or_end(&mut self) -> Option<(Header, Vec<u8>)> {
        let mut header = [0; HEADER_LEN];
        self.0.read_exact(&mut header).await.ok()?;
        let header = Header::decode(&header).unwrap();
        let mut payload = vec![0; header.length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((header, payload))
    }

    pub(crate) async fn welcome(&mut self) {
        let (header, payload) = self.hear().await;
        assert_eq!(header.kind, Kind::Hello);
        assert_eq!(codec::decode::<Hello>(&payload).unwrap().token, token());
        self.say(Kind::Welcome, header.id, &Welcome { version: version::CURRENT, boot_id: BOOT }).await;
    }
}

pub(crate) fn token() -> Secret {
    Secret([7; 32])
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

pub(crate) fn ends() -> (transport::Stream, Script) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    (Box::new(ours), Script(theirs))
}

/// A connection through its hello, and the agent's end of it.
pub(crate) async fn connected() -> (Connection, Script) {
    let (stream, mut script) = ends();
    let secret = token();
    let (connection, ()) = tokio::join!(Connection::over(stream, &secret, soon()), script.welcome());
    (connection.unwrap(), script)
}

/// The same over a socket, which a thread can have. Time has to be the real one.
pub(crate) async fn connected_by_socket() -> (Connection, Script<UnixStream>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (secret, mut script) = (token(), Script(theirs));
    let (connection, ()) = tokio::join!(Connection::over(Box::new(ours), &secret, soon()), script.welcome());
    (connection.unwrap(), script)
}
