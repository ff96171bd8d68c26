//! Looking at files, and changing their names. Each waits for the disk and runs on a thread that may.

use firstlight_protocol::codec::{self, CodecError};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::AgentError;
use firstlight_tree::{Error, manage};
use tokio::task::spawn_blocking;

use crate::failure;
use crate::under_way::{Answer, UnderWay};

/// Begins what a request of `kind` asks for.
///
/// # Errors
/// When the request is malformed.
pub fn begin(under_way: &mut UnderWay, id: u64, kind: Kind, payload: &[u8]) -> Result<(), CodecError> {
    if kind == Kind::FileStatRequest {
        let request = codec::decode(payload)?;
        under_way.begin(id, Kind::FileStat, encoded(request, manage::stat, codec::encode));
    } else if kind == Kind::FileListRequest {
        let request = codec::decode(payload)?;
        under_way.begin(id, Kind::FileList, encoded(request, manage::list, codec::encode));
    } else if kind == Kind::MakeDirRequest {
        let request = codec::decode(payload)?;
        under_way.begin(id, Kind::FileDone, encoded(request, manage::make_dir, codec::encode));
    } else if kind == Kind::RemoveRequest {
        let request = codec::decode(payload)?;
        under_way.begin(id, Kind::FileDone, encoded(request, manage::remove, codec::encode));
    } else {
        let request = codec::decode(payload)?;
        under_way.begin(id, Kind::FileDone, encoded(request, manage::rename, codec::encode));
    }
    Ok(())
}

/// [`perform`], and the answer's bytes. `()` is no bytes, which is the answer of those that have nothing to say.
async fn encoded<Q, A>(
    request: Q,
    operation: fn(&Q) -> Result<A, Error>,
    encode: fn(&A) -> Result<Vec<u8>, CodecError>,
) -> Answer
where
    Q: Send + 'static,
    A: Send + 'static,
{
    Ok(encode(&perform(request, operation).await?))
}

/// Does what `request` asks for where it may block. Given up, it goes on to its end.
///
/// # Errors
/// The operation's own.
pub(super) async fn perform<Q, A>(request: Q, operation: fn(&Q) -> Result<A, Error>) -> Result<A, AgentError>
where
    Q: Send + 'static,
    A: Send + 'static,
{
    let done = spawn_blocking(move || operation(&request)).await;
    // It is lost only when the agent ends, and the connection with it.
    let done = done.map_err(|_| failure::busy("run", "the agent ends"))?;
    Ok(done?)
}
