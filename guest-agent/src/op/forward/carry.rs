//! Bytes between an agent connection and a socket, until both sides have ended or one of them broke.

use std::io;

use firstlight_protocol::message::Kind;
use firstlight_protocol::message::forward::MAX_CHUNK;
use firstlight_socket::Stream;
use tokio::sync::oneshot;

use super::refuse;
use crate::failure;
use crate::session::SessionError;
use crate::wire::{Connection, FrameReader, FrameWriter};

/// Bytes read from the socket in one go. Half a frame's limit costs little and halves what a busy connection holds.
const BUFFER: usize = MAX_CHUNK / 2;

/// Why carrying stopped early.
enum Stop {
    /// The socket in the guest failed.
    Socket(&'static str, io::Error),
    /// The host closed the agent connection without ending its side, which is its way to reset.
    Reset,
    /// The agent connection is of no more use.
    Session(SessionError),
}

impl<T: Into<SessionError>> From<T> for Stop {
    fn from(error: T) -> Stop {
        Stop::Session(error.into())
    }
}

/// Carries `stream`. Both sides' ends leave the agent connection good for another request.
pub(super) async fn carry(connection: &mut Connection, id: u64, stream: Stream) -> Result<(), SessionError> {
    let Connection { reader, writer, .. } = connection;
    let (ended, guest_ended) = oneshot::channel();
    let carried = tokio::try_join!(
        async {
            from_guest(&stream, writer, id).await?;
            // The other direction has ended too if it does not listen any more.
            let _ = ended.send(());
            Ok(())
        },
        from_host(reader, id, &stream, guest_ended),
    );
    match carried {
        Ok(_) => {
            stream.finish();
            Ok(())
        }
        Err(Stop::Socket(operation, error)) => {
            refuse(writer, id, &failure::system(operation, None, &error)).await
        }
        Err(Stop::Reset) => Ok(()),
        Err(Stop::Session(error)) => Err(error),
    }
}

/// Sends what the guest's side says, to its end. A connection that is quiet holds no buffer.
async fn from_guest(stream: &Stream, writer: &mut FrameWriter, id: u64) -> Result<(), Stop> {
    let failed = |error| Stop::Socket("receive", error);
    loop {
        stream.readable().await.map_err(failed)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match stream.try_read(&mut buffer) {
                Ok(0) => return Ok(writer.send(Kind::ForwardEnd, id, &[]).await?),
                Ok(count) => writer.send(Kind::ForwardBytes, id, &buffer[..count]).await?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

/// Passes on what the host sends, then waits for the guest's side to end. A guest that reads no more still gets to say
/// what it has to.
async fn from_host(
    reader: &mut FrameReader,
    id: u64,
    stream: &Stream,
    mut guest_ended: oneshot::Receiver<()>,
) -> Result<(), Stop> {
    let sent = deliver(reader, id, stream).await?;
    loop {
        let frame = tokio::select! {
            // First, because the host may close the connection once both sides have ended.
            biased;
            _ = &mut guest_ended => return sent.map_err(|error| Stop::Socket("send", error)),
            frame = reader.next() => frame?.ok_or(Stop::Reset)?,
        };
        let late = sent.is_err() && matches!(frame.header.kind, Kind::ForwardBytes | Kind::ForwardEnd);
        if !late || frame.header.id != id {
            return Err(unexpected(frame.header.kind));
        }
    }
}

/// Writes to the socket until the host's end, or until nobody reads any more: then that error.
async fn deliver(reader: &mut FrameReader, id: u64, stream: &Stream) -> Result<io::Result<()>, Stop> {
    loop {
        let frame = reader.next().await?.ok_or(Stop::Reset)?;
        let kind = frame.header.kind;
        let (ours, fits) = (frame.header.id == id, frame.payload.len() <= MAX_CHUNK);
        if ours && fits && kind == Kind::ForwardBytes {
            let written = stream.write_all(&frame.payload).await;
            if written.is_err() {
                return Ok(written);
            }
        } else if ours && kind == Kind::ForwardEnd {
            return Ok(stream.end());
        } else {
            return Err(unexpected(kind));
        }
    }
}

fn unexpected(kind: Kind) -> Stop {
    let expected = "a carried connection takes ForwardBytes of at most 64 KiB, then one ForwardEnd";
    SessionError::Unexpected { kind, expected }.into()
}
