//! Looking at files, and changing their names. Each waits for the disk and runs on a thread that may.

use firstlight_protocol::codec::{self, CodecError};
use firstlight_protocol::frame::Header;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::AgentError;
use firstlight_tree::{Error, manage};
use tokio::task::spawn_blocking;

use crate::failure;
use crate::gate::Running;
use crate::under_way::{Answer, Request, UnderWay};

/// Begins what a request of `kind` asks for.
///
/// # Errors
/// When the request is malformed.
pub fn begin(
    under_way: &mut UnderWay,
    running: Running,
    header: Header,
    payload: &[u8],
) -> Result<(), CodecError> {
    let Header { kind, id, .. } = header;
    let answered_with = |answer| Request { id, answer, running };
    if kind == Kind::FileStatRequest {
        under_way.begin(
            answered_with(Kind::FileStat),
            encoded(codec::decode(payload)?, manage::stat, codec::encode),
        );
    } else if kind == Kind::FileListRequest {
        under_way.begin(
            answered_with(Kind::FileList),
            encoded(codec::decode(payload)?, manage::list, codec::encode),
        );
    } else if kind == Kind::MakeDirRequest {
        under_way.begin(
            answered_with(Kind::FileDone),
            encoded(codec::decode(payload)?, manage::make_dir, codec::encode),
        );
    } else if kind == Kind::RemoveRequest {
        under_way.begin(
            answered_with(Kind::FileDone),
            encoded(codec::decode(payload)?, manage::remove, codec::encode),
        );
    } else {
        under_way.begin(
            answered_with(Kind::FileDone),
            encoded(codec::decode(payload)?, manage::rename, codec::encode),
        );
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
