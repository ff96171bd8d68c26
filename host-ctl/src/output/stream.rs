//! Streams of bytes for as long as a program runs. Unlike the rest of this module these wait without blocking, so that a
//! reader that stands still does not keep a Ctrl-C from being heard.

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::Failure;

/// The exit code of a program that SIGPIPE ended, which is what a program's reader going away means.
const BROKEN_PIPE: u8 = 128 + 13;

/// One of our two output streams.
pub(crate) struct Stream(Box<dyn AsyncWrite + Unpin>);

impl Stream {
    /// Standard output.
    pub(crate) fn stdout() -> Stream {
        Stream(Box::new(tokio::io::stdout()))
    }

    /// Standard error.
    pub(crate) fn stderr() -> Stream {
        Stream(Box::new(tokio::io::stderr()))
    }

    /// Writes bytes and flushes them.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = async {
            self.0.write_all(bytes).await?;
            self.0.flush().await
        };
        written.await.map_err(|error: std::io::Error| {
            if error.kind() == std::io::ErrorKind::BrokenPipe {
                Failure::exit(BROKEN_PIPE)
            } else {
                Failure::failed(format!("cannot write the program's output: {error}"))
            }
        })
    }
}
