//! The host's side: it opens connections.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::unix::net::UnixStream as Socket;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::credit::{Counted, Credit};
use crate::greeting::{Generation, greet};
use crate::guest::pair;
use crate::{Buffered, Line, MAX_CONNECTIONS, buffered, config, pump};

/// Asks for one connection to the guest. It is dropped when none can be had.
pub type Request = oneshot::Sender<Socket>;

type Multiplexer<'a, T> = yamux::Connection<Compat<Counted<&'a mut Buffered<T>>>>;

/// Connects whoever asks through `requests` to the guest at the other end of `line`. A guest that begins anew is greeted anew;
/// requests wait meanwhile. `random` gives generations; `answered` is told of each greeting that the guest has answered.
///
/// # Errors
/// That of the line, its end included.
pub async fn dial<T: Line>(
    line: T,
    requests: &mut mpsc::Receiver<Request>,
    random: impl FnMut() -> io::Result<Generation>,
    answered: impl FnMut(),
) -> io::Result<Infallible> {
    dial_at_most(MAX_CONNECTIONS, line, requests, random, answered).await
}

pub(crate) async fn dial_at_most<T: Line>(
    places: usize,
    line: T,
    requests: &mut mpsc::Receiver<Request>,
    mut random: impl FnMut() -> io::Result<Generation>,
    mut answered: impl FnMut(),
) -> io::Result<Infallible> {
    let mut line = buffered(line);
    let places = Arc::new(Semaphore::new(places));
    loop {
        greet(&mut line, &mut random).await?;
        answered();
        let (credit, line) = Credit::over(&mut line);
        let multiplexer = yamux::Connection::new(line.compat(), config(), yamux::Mode::Client);
        converse(multiplexer, requests, &places, &credit).await;
    }
}

/// One conversation: until the guest begins anew, which is no frame, or the line ends. Its connections end with it.
async fn converse<T: Line>(
    mut multiplexer: Multiplexer<'_, T>,
    requests: &mut mpsc::Receiver<Request>,
    places: &Arc<Semaphore>,
    credit: &Arc<Credit>,
) {
    let Some(first) = poll_fn(|cx| advance(&mut multiplexer, true, cx)).await else { return };
    // Its first frame goes before any other stream's, on whatever runtime: the guest knows it by that.
    let mut keep = Box::pin(Arc::clone(credit).keep(first));
    if poll_fn(|cx| Poll::Ready(keep.as_mut().poll(cx))).await.is_pending() {
        tokio::spawn(keep);
    }
    let mut next = None;
    loop {
        let asked = async {
            // The semaphore is never closed.
            let place = Arc::clone(places).acquire_owned().await.ok();
            (requests.recv().await, place)
        };
        tokio::select! {
            // A guest that has begun anew has said so before anybody could know of it who asks now.
            biased;
            opened = poll_fn(|cx| advance(&mut multiplexer, next.is_some(), cx)) => match opened {
                Some(stream) => {
                    if let Some((request, place)) = next.take() {
                        connect(request, stream, place, Arc::clone(credit));
                    }
                }
                None => return,
            },
            (request, place) = asked, if next.is_none() => match request {
                Some(request) => next = Some((request, place)),
                // Nobody will ask any more, and nobody waits for those who did.
                None => return,
            },
        }
    }
}

/// Moves bytes, until a stream is open if one is `wanted`. `None` at the end of the conversation.
fn advance<T: Line>(
    multiplexer: &mut Multiplexer<'_, T>,
    wanted: bool,
    cx: &mut Context<'_>,
) -> Poll<Option<yamux::Stream>> {
    // A guest opens nothing; what it opens all the same is reset by being dropped.
    loop {
        match multiplexer.poll_next_inbound(cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => return Poll::Ready(None),
            Poll::Pending => break,
        }
    }
    // After it, because nobody is woken when a stream that has been dropped makes room for another.
    if wanted { multiplexer.poll_new_outbound(cx).map(Result::ok) } else { Poll::Pending }
}

fn connect(
    request: Request,
    stream: yamux::Stream,
    place: Option<OwnedSemaphorePermit>,
    credit: Arc<Credit>,
) {
    // Without a descriptor the request is dropped, which says that it was in vain.
    let Ok((ours, theirs)) = pair() else { return };
    if request.send(theirs).is_ok() {
        tokio::spawn(async move {
            pump::carry(stream, ours, credit).await;
            drop(place);
        });
    }
}
