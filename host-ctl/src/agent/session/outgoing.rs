//! What goes to a session: written by a task, so that nobody who gives up waiting leaves half a frame behind.

use firstlight_protocol::message::Kind;
use firstlight_protocol::message::exec::MAX_CHUNK;
use firstlight_protocol::message::session::{INPUT_WINDOW, SessionAck};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::super::connection::Sender;
use super::super::error::Error;

/// Pieces of input between the caller and the task; the window bounds what follows.
const QUEUE: usize = 2;

/// What goes to the command.
pub struct Input {
    pieces: mpsc::Sender<Piece>,
    taken: watch::Receiver<u64>,
    sent: u64,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// The task, and how it is told what has been read.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) acks: watch::Sender<SessionAck>,
    pub(super) task: JoinHandle<()>,
}

pub(super) fn start(sender: Sender, id: u64, sent: u64, taken: watch::Receiver<u64>) -> (Input, Outgoing) {
    let (pieces, queue) = mpsc::channel(QUEUE);
    let (acks, acknowledged) = watch::channel(SessionAck { through: 0, end: false });
    let task = tokio::spawn(run(sender, id, queue, acknowledged));
    (Input { pieces, taken, sent }, Outgoing { acks, task })
}

impl Input {
    /// Sends bytes of standard input; waits while the command does not read what came before.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(MAX_CHUNK) {
            let length = piece.len() as u64;
            let sent = self.sent;
            let fits = |taken: &u64| sent + length <= taken + INPUT_WINDOW;
            self.taken.wait_for(fits).await.map_err(|_| gone())?;
            self.pieces.send(Piece::Bytes(piece.to_vec())).await.map_err(|_| gone())?;
            self.sent += length;
        }
        Ok(())
    }

    /// Ends standard input.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn end(&mut self) -> Result<(), Error> {
        self.pieces.send(Piece::End).await.map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::Lost(std::io::ErrorKind::BrokenPipe.into())
}

/// Sends until the end has been acknowledged, or nobody is left to send for. A connection that breaks is told by its other
/// direction.
async fn run(
    mut sender: Sender,
    id: u64,
    mut pieces: mpsc::Receiver<Piece>,
    mut acks: watch::Receiver<SessionAck>,
) {
    let mut has_input = true;
    loop {
        let sent = tokio::select! {
            // Acknowledgements first: the command may wait for one in order to read its input.
            biased;
            changed = acks.changed() => {
                let ack = *acks.borrow_and_update();
                let sent = sender.send(Kind::SessionAck, id, &ack).await;
                if ack.end || changed.is_err() {
                    return;
                }
                sent
            }
            piece = pieces.recv(), if has_input => match piece {
                Some(Piece::Bytes(bytes)) => sender.send_bytes(Kind::Stdin, id, &bytes).await,
                Some(Piece::End) => sender.send_bytes(Kind::StdinEnd, id, &[]).await,
                None => {
                    has_input = false;
                    Ok(())
                }
            },
        };
        if sent.is_err() {
            return;
        }
    }
}
