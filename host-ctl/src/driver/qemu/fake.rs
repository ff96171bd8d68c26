//! A QEMU that follows a script, for tests.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::qmp::Qmp;

/// What QEMU says first.
pub(super) const GREETING: &str = "{\"QMP\":{\"version\":{}}}\n";

/// A connection to a QEMU that says the lines of `script` one by one, the next after each line it reads.
pub(super) async fn qemu(script: &'static [&'static str]) -> Qmp {
    heard_by(script).await.0
}

/// The same, and the lines that QEMU reads.
pub(super) async fn heard_by(script: &'static [&'static str]) -> (Qmp, mpsc::UnboundedReceiver<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    let (heard, lines) = mpsc::unbounded_channel();
    let serve = async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        for answer in script {
            writer.write_all(answer.as_bytes()).await.unwrap();
            if let Ok(Some(line)) = lines.next_line().await {
                let _ = heard.send(line);
            }
        }
        // It stays connected, and says nothing more.
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = heard.send(line);
        }
    };
    tokio::spawn(serve);
    (Qmp::connect(&path).await.unwrap(), lines)
}
