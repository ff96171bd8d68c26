//! The guest's side: it takes what connections the host opens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::unix::net::UnixStream as Socket;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::credit::Credit;
use crate::greeting::{Finder, Generation, Side, announce, answer, hear};
use crate::{Buffered, Line, buffered, config, hung_up, pump};

/// A guest that whoever dials from now on is connected to.
#[derive(Debug)]
pub struct Guest<T: Line> {
    line: Buffered<T>,
}

impl<T: Line> Guest<T> {
    /// Begins at `line`, and says so to the host if there is one.
    ///
    /// # Errors
    /// That of the line.
    pub async fn open(line: T) -> io::Result<Guest<T>> {
        let mut line = buffered(line);
        announce(&mut line).await?;
        Ok(Guest { line })
    }

    /// Serves whatever host is at the other end, one after the other, and passes its connections on. A connection for which
    /// `connections` has no room waits; one whose client leaves meanwhile is nobody's.
    ///
    /// # Errors
    /// That of the line.
    pub async fn serve(mut self, connections: mpsc::Sender<Socket>) -> io::Result<Infallible> {
        loop {
            let generation = next_host(&mut self.line).await?;
            answer(&mut self.line, generation).await?;
            converse(&mut self.line, &connections).await;
        }
    }
}

async fn next_host<T: Line>(line: &mut Buffered<T>) -> io::Result<Generation> {
    let mut finder = Finder::of(Side::Host);
    loop {
        match hear(line, &mut finder).await {
            // What comes next is another host's.
            Err(error) if hung_up(&error) => finder = Finder::of(Side::Host),
            heard => return heard,
        }
    }
}

/// One conversation: until the host hangs up, or greets anew, which is no frame. Its connections end with it.
async fn converse<T: Line>(line: &mut Buffered<T>, connections: &mpsc::Sender<Socket>) {
    let (credit, line) = Credit::over(line);
    let mut multiplexer = yamux::Connection::new(line.compat(), config(), yamux::Mode::Server);
    let mut next = poll_fn(|cx| multiplexer.poll_next_inbound(cx));
    let Some(Ok(first)) = (&mut next).await else { return };
    tokio::spawn(Arc::clone(&credit).keep(first));
    let mut waiting: VecDeque<yamux::Stream> = VecDeque::new();
    loop {
        tokio::select! {
            stream = &mut next => {
                let Some(Ok(stream)) = stream else { return };
                // As many as have places at the host, of which some may have been given back since.
                waiting.retain(|stream| !stream.is_closed());
                waiting.push_back(stream);
            }
            room = connections.reserve(), if !waiting.is_empty() => {
                let (Ok(room), Some(stream)) = (room, waiting.pop_front()) else { return };
                // Without a descriptor for it the connection is reset, and the host may try again.
                let Ok((ours, theirs)) = pair() else { continue };
                room.send(theirs);
                tokio::spawn(pump::carry(stream, ours, Arc::clone(&credit)));
            }
        }
    }
}

/// Two connected sockets, neither of which blocks.
pub(crate) fn pair() -> io::Result<(UnixStream, Socket)> {
    let (ours, theirs) = Socket::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs))
}
