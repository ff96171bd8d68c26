//! Looking at files, and changing their names. Each waits for the disk and runs on a thread that may.

use firstlight_protocol::codec::{self, CodecError};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::AgentError;
use firstlight_tree::{Error, manage};
use tokio::task::spawn_blocking;

use super::answer;
use crate::failure;
use crate::session::SessionError;
use crate::wire::FrameWriter;

/// Does what a request of `kind` asks for, and sends the answer.
///
/// # Errors
/// [`SessionError`] when the request is malformed or the host went away.
pub async fn run(writer: &mut FrameWriter, id: u64, kind: Kind, payload: &[u8]) -> Result<(), SessionError> {
    let (kind, result) = if kind == Kind::FileStatRequest {
        (Kind::FileStat, encoded(codec::decode(payload)?, manage::stat, codec::encode).await)
    } else if kind == Kind::FileListRequest {
        (Kind::FileList, encoded(codec::decode(payload)?, manage::list, codec::encode).await)
    } else if kind == Kind::MakeDirRequest {
        (Kind::FileDone, encoded(codec::decode(payload)?, manage::make_dir, codec::encode).await)
    } else if kind == Kind::RemoveRequest {
        (Kind::FileDone, encoded(codec::decode(payload)?, manage::remove, codec::encode).await)
    } else {
        (Kind::FileDone, encoded(codec::decode(payload)?, manage::rename, codec::encode).await)
    };
    answer(writer, id, kind, result).await
}

/// Runs `operation` where it may block. `()` is no bytes, which is the answer of those that have nothing to say.
async fn encoded<Q, A>(
    request: Q,
    operation: fn(&Q) -> Result<A, Error>,
    encode: fn(&A) -> Result<Vec<u8>, CodecError>,
) -> Result<Result<Vec<u8>, CodecError>, AgentError>
where
    Q: Send + 'static,
    A: Send + 'static,
{
    let done = spawn_blocking(move || operation(&request)).await;
    // It is lost only when the agent ends, and the connection with it.
    let done = done.map_err(|_| failure::busy("run", "the agent ends"))?;
    Ok(encode(&done?))
}
