//! Standard input on its way to a command: queued, so that nothing else waits behind it.

use std::collections::VecDeque;

use firstlight_protocol::message::session::INPUT_WINDOW;
use tokio::sync::watch;

use crate::process::InputPipe;

/// The character that ends a terminal's input: what Ctrl-D is in the terminal's default mode. Source: `termios(3)`.
const END_OF_FILE: u8 = 4;

/// The input of one session.
#[derive(Debug)]
pub(super) struct Input {
    queue: watch::Sender<Queue>,
}

/// Input that the command has not read.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: VecDeque<u8>,
    taken: u64,
    /// No more comes.
    ended: bool,
    /// Nobody can read any more.
    closed: bool,
}

impl Queue {
    /// Bytes that the command has taken, those included that nobody could read any more.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes that have come.
    pub(super) fn received(&self) -> u64 {
        self.taken + self.bytes.len() as u64
    }

    fn has_room(&self) -> bool {
        self.closed || (self.bytes.len() as u64) < INPUT_WINDOW
    }

    fn take(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.taken += count as u64;
        if self.bytes.is_empty() {
            // Few commands read much, and none does for long.
            self.bytes = VecDeque::new();
        }
    }
}

impl Input {
    /// Begins to pass input on to `pipe`. Without one, whatever comes is as if nobody read it.
    pub(super) fn start(pipe: Option<InputPipe>, is_terminal: bool) -> Input {
        let closed = pipe.is_none();
        let queue = watch::Sender::new(Queue { closed, ended: closed, ..Queue::default() });
        if let Some(pipe) = pipe {
            tokio::spawn(pass_on(queue.clone(), pipe, is_terminal));
        }
        Input { queue }
    }

    /// What happens to the input.
    pub(super) fn watch(&self) -> watch::Receiver<Queue> {
        self.queue.subscribe()
    }

    /// Whether it can still be written.
    pub(super) fn is_open(&self) -> bool {
        let queue = self.queue.borrow();
        !queue.ended && !queue.closed
    }

    /// Adds bytes. Waits only for a sender that goes over its window.
    pub(super) async fn write(&self, bytes: &[u8]) {
        // It fails only with the last sender gone, which is ours.
        let _ = self.queue.subscribe().wait_for(Queue::has_room).await;
        self.queue.send_modify(|queue| {
            if queue.closed || queue.ended {
                queue.taken += bytes.len() as u64;
            } else {
                queue.bytes.extend(bytes);
            }
        });
    }

    /// No more comes.
    pub(super) fn end(&self) {
        self.queue.send_modify(|queue| queue.ended = true);
    }

    /// The command has ended. What it has not read, nobody will.
    pub(super) fn close(&self) {
        self.queue.send_modify(|queue| {
            queue.closed = true;
            queue.take(queue.bytes.len());
        });
    }
}

/// The first bytes of a queue.
struct Front<'a>(watch::Ref<'a, Queue>);

impl AsRef<[u8]> for Front<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes.as_slices().0
    }
}

/// Writes what is queued until the end, or until nobody can read it any more.
async fn pass_on(queue: watch::Sender<Queue>, pipe: InputPipe, is_terminal: bool) {
    let mut changes = queue.subscribe();
    let something = |queue: &Queue| queue.closed || queue.ended || !queue.bytes.is_empty();
    loop {
        if changes.wait_for(something).await.map_or(true, |queue| queue.closed) {
            return;
        }
        if queue.borrow().bytes.is_empty() {
            break;
        }
        let write = pipe.write_some(|| Front(queue.borrow()));
        let written = tokio::select! {
            written = write => written.ok(),
            _ = changes.wait_for(|queue| queue.closed) => return,
        };
        queue.send_modify(|queue| {
            queue.closed |= written.is_none();
            let count = written.unwrap_or(usize::MAX).min(queue.bytes.len());
            queue.take(count);
        });
    }
    if is_terminal {
        // Its other side is still to be read, so it is not closed; a program that has changed the character has asked for it.
        let _ = pipe.write_some(|| [END_OF_FILE]).await;
    }
}
