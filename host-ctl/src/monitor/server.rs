//! The monitor's socket: clients that ask, and hear what happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::closing::Closing;
use super::input::Input;
use super::wire::{MAX_REQUEST, Message, Request};

/// Most clients at a time. More wait in the socket's own queue.
const MAX_CLIENTS: usize = 128;

/// Messages that may wait for one client. One that is further behind is disconnected, and may come back: it then hears
/// everything again.
const CLIENT_QUEUE: usize = 4096;

/// A client, as far as the monitor's owner cares.
#[derive(Debug, Clone)]
pub(super) struct Client {
    messages: mpsc::Sender<Outgoing>,
    flags: Arc<Flags>,
}

#[derive(Debug, Default)]
struct Flags {
    /// A [`Message::Output`] waits in the queue: one is enough.
    output_waits: AtomicBool,
    /// It did not keep up.
    behind: AtomicBool,
    /// It asks nothing any more: its connection has ended.
    left: AtomicBool,
}

#[derive(Debug)]
enum Outgoing {
    /// A message as it goes over the wire, shared by all who hear it.
    Line(Arc<[u8]>),
    /// [`Message::Output`].
    Output,
}

impl Client {
    /// Says `message` to it.
    pub(super) fn say(&self, message: &Message) {
        self.queue(Outgoing::Line(line(message)));
    }

    fn say_output(&self) {
        if !self.flags.output_waits.swap(true, Ordering::Relaxed) {
            self.queue(Outgoing::Output);
        }
    }

    fn queue(&self, message: Outgoing) {
        if self.messages.try_send(message).is_err() {
            self.flags.behind.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it has ended its connection. An answer to it may still be on its way.
    pub(super) fn has_left(&self) -> bool {
        self.flags.left.load(Ordering::Relaxed)
    }

    fn is_lost(&self) -> bool {
        self.messages.is_closed() || self.flags.behind.load(Ordering::Relaxed)
    }
}

/// Those who subscribed.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    clients: Vec<Client>,
}

impl Subscribers {
    /// Adds one.
    pub(super) fn add(&mut self, client: Client) {
        self.clients.push(client);
    }

    /// Says `message` to each.
    pub(super) fn say(&mut self, message: &Message) {
        let line = line(message);
        for client in &self.clients {
            client.queue(Outgoing::Line(line.clone()));
        }
        self.clients.retain(|client| !client.is_lost());
    }

    /// Tells each that there is more output.
    pub(super) fn say_output(&mut self) {
        self.clients.iter().for_each(Client::say_output);
    }
}

fn line(message: &Message) -> Arc<[u8]> {
    // Messages hold no map with keys that are no strings, which is all that could fail.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// Takes clients until `closing`; then ends when each has heard all that was said to it and has gone.
pub(super) async fn serve(listener: UnixListener, inputs: mpsc::Sender<Input>, mut closing: Closing) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < MAX_CLIENTS => {
                if let Ok((stream, _)) = accepted {
                    clients.spawn(attend(stream, inputs.clone(), closing.clone()));
                }
            }
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
            () = closing.told() => break,
        }
    }
    drop((listener, inputs));
    while clients.join_next().await.is_some() {}
}

/// One client, from its first request to its end.
async fn attend(stream: UnixStream, inputs: mpsc::Sender<Input>, closing: Closing) {
    let (reader, writer) = stream.into_split();
    let (messages, queue) = mpsc::channel(CLIENT_QUEUE);
    let client = Client { messages, flags: Arc::default() };
    let flags = client.flags.clone();
    // The queue ends when the reader and the subscribers have let go of the client; what is in it is still written.
    let reads = async {
        read(reader, client, inputs, closing).await;
        flags.left.store(true, Ordering::Relaxed);
    };
    tokio::join!(reads, write(writer, queue, &flags));
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Outgoing>, flags: &Flags) {
    while let Some(message) = queue.recv().await {
        let written = match message {
            Outgoing::Line(line) => writer.write_all(&line).await,
            Outgoing::Output => {
                // Before the write: output that comes during it is news again.
                flags.output_waits.store(false, Ordering::Relaxed);
                writer.write_all(&line(&Message::Output)).await
            }
        };
        if written.is_err() || flags.behind.load(Ordering::Relaxed) {
            return;
        }
    }
}

async fn read(reader: OwnedReadHalf, client: Client, inputs: mpsc::Sender<Input>, mut closing: Closing) {
    let mut reader = BufReader::with_capacity(MAX_REQUEST, reader);
    let mut request = Vec::new();
    loop {
        tokio::select! {
            read = read_request(&mut reader, &mut request) => match read {
                Some(Ok(request)) => {
                    if inputs.send(Input::Request { client: client.clone(), request }).await.is_err() {
                        break;
                    }
                }
                Some(Err(reason)) => {
                    client.say(&Message::Refused { reason });
                    return;
                }
                None => return,
            },
            () = closing.told() => break,
        }
    }
    drop((client, inputs));
    // It goes when it has read everything.
    while matches!(read_request(&mut reader, &mut request).await, Some(Ok(_))) {}
}

/// The next request; `None` when there will be no more. What was read of it stays in `line` when this is dropped.
async fn read_request(
    reader: &mut BufReader<OwnedReadHalf>,
    line: &mut Vec<u8>,
) -> Option<Result<Request, String>> {
    let room = (MAX_REQUEST - line.len()) as u64;
    reader.take(room).read_until(b'\n', line).await.ok()?;
    if line.last() != Some(&b'\n') {
        let too_long = line.len() >= MAX_REQUEST;
        return too_long.then(|| Err(format!("a request of more than {MAX_REQUEST} bytes")));
    }
    let request = serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"));
    line.clear();
    Some(request)
}

/// A client without a socket, and what it was told.
#[cfg(test)]
pub(super) mod double {
    use super::*;

    /// What a client was told.
    pub(in crate::monitor) struct Told {
        queue: mpsc::Receiver<Outgoing>,
        flags: Arc<Flags>,
    }

    pub(in crate::monitor) fn client() -> (Client, Told) {
        let (messages, queue) = mpsc::channel(CLIENT_QUEUE);
        let flags = Arc::<Flags>::default();
        (Client { messages, flags: flags.clone() }, Told { queue, flags })
    }

    impl Told {
        /// The next message, if there is one.
        pub(in crate::monitor) fn next(&mut self) -> Option<Message> {
            match self.queue.try_recv().ok()? {
                Outgoing::Line(line) => Some(serde_json::from_slice(&line).unwrap()),
                Outgoing::Output => Some(Message::Output),
            }
        }

        /// The client ends its connection.
        pub(in crate::monitor) fn leave(&self) {
            self.flags.left.store(true, Ordering::Relaxed);
        }
    }
}
