//! Init's event stream: the guest dials the host, says every sentinel of its boot, and hears commands.

use std::io;
use std::path::{Path, PathBuf};

use firstlight_protocol::hex::BootId;
use firstlight_protocol::init_command::InitCommand;
use firstlight_protocol::port;
use firstlight_protocol::sentinel::{MacKey, Piece, Scanner, Sentinel};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep, sleep_until};
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

use super::closing::Closing;
use super::input::Input;
use super::road::Road;
use crate::agent::transport::Stream;
use crate::vm::record::Source;

/// Most streams at a time: init has one, and for a moment two when it dials again. Any program of the guest can dial,
/// but none can prove to be init.
const MAX_STREAMS: usize = 16;

/// How long a stream may take to its first authentic sentinel. Init says one within a second or two.
const PROOF_DEADLINE: Duration = Duration::from_secs(5);

/// How long a port is left alone after its VMM has refused us or hung up. It may be the VMM that ends, which is heard elsewhere.
const PORT_PAUSE: Duration = Duration::from_millis(20);

/// Commands that may wait for one stream.
const COMMANDS: usize = 16;

/// Whose sentinels count.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// The boot.
    pub(super) boot: BootId,
    /// The key of its sentinels.
    pub(super) key: MacKey,
    /// Of a copy: the boot that was saved, as which its init begins. What that says proves who speaks, and no more.
    pub(super) before: Option<Box<Identity>>,
}

/// Where the guest dials.
#[derive(Debug)]
pub(super) enum Listener {
    /// The vsock backend's unix socket for the port.
    Unix(UnixListener),
    /// The host's kernel; only this guest is let in.
    Kernel {
        /// The port.
        listener: VsockListener,
        /// The guest's context id.
        cid: u32,
    },
    /// The VMM's socket for a virtio-serial port, to which we connect: nobody dials there, and one of us is all it takes.
    Port {
        /// Where.
        path: PathBuf,
        /// The first of them, where that is there already.
        first: Option<UnixStream>,
    },
}

impl Listener {
    /// Listens where the backend dials for `path`'s guest. A socket of an earlier monitor is replaced.
    pub(super) fn unix(path: &Path) -> io::Result<Listener> {
        super::files::remove(path)?;
        UnixListener::bind(path).map(Listener::Unix)
    }

    /// Listens on the kernel's vsock; `None` when another VM's monitor does: the port is one for the whole host. The
    /// serial console then carries the events alone.
    pub(super) fn kernel(cid: u32) -> io::Result<Option<Listener>> {
        match VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port::EVENTS)) {
            Ok(listener) => Ok(Some(Listener::Kernel { listener, cid })),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next stream, which may be nobody's. `again`: this is not the first that is asked for.
    async fn accept(&mut self, again: bool) -> io::Result<Option<Stream>> {
        match self {
            Listener::Unix(listener) => Ok(Some(Box::new(listener.accept().await?.0))),
            Listener::Kernel { listener, cid } => {
                let (stream, peer) = listener.accept().await?;
                Ok((peer.cid() == *cid).then(|| Box::new(stream) as Stream))
            }
            Listener::Port { path, first } => {
                if again {
                    sleep(PORT_PAUSE).await;
                }
                let mut stream = match first.take() {
                    Some(first) => first,
                    None => UnixStream::connect(path).await?,
                };
                // Init may have missed that its last host has gone. What that one left unfinished ends here.
                stream.write_all(format!("\n{}", InitCommand::Repeat).as_bytes()).await?;
                Ok(Some(Box::new(stream)))
            }
        }
    }

    /// Most streams at a time.
    fn places(&self) -> usize {
        match self {
            Listener::Unix(_) | Listener::Kernel { .. } => MAX_STREAMS,
            Listener::Port { .. } => 1,
        }
    }

    /// How long a stream may take to prove to be init's. That of a port is left alone: the guest's kernel gives the port to nobody
    /// else, and a guest that is held still has nothing to say until it is let go.
    fn patience(&self) -> Option<Duration> {
        match self {
            Listener::Unix(_) | Listener::Kernel { .. } => Some(PROOF_DEADLINE),
            Listener::Port { .. } => None,
        }
    }
}

/// Takes streams until `closing`; then ends when each has ended.
pub(super) async fn listen(
    mut listener: Listener,
    identity: Identity,
    road: Road,
    inputs: mpsc::Sender<Input>,
    mut closing: Closing,
) {
    let mut streams = JoinSet::new();
    let mut next_id = 0;
    let mut again = false;
    loop {
        tokio::select! {
            accepted = listener.accept(again), if streams.len() < listener.places() => {
                again = true;
                if let Ok(Some(stream)) = accepted {
                    road.open();
                    let proof = listener.patience().map(|patience| Instant::now() + patience);
                    streams.spawn(hear(stream, next_id, proof, identity.clone(), inputs.clone()));
                    next_id += 1;
                }
            }
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
            () = closing.told() => break,
        }
    }
    while streams.join_next().await.is_some() {}
}

/// One stream. It becomes init's with its first authentic sentinel, for which it has until `proof`.
async fn hear(
    stream: Stream,
    id: u64,
    proof: Option<Instant>,
    identity: Identity,
    inputs: mpsc::Sender<Input>,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (commands, mut queue) = mpsc::channel::<InitCommand>(COMMANDS);
    let mut unproven = Some(commands);
    let mut scanner = Scanner::new(identity.key);
    let mut before = identity.before.map(|before| (Scanner::new(before.key), before.boot));
    let mut buffer = [0; 4096];
    loop {
        let read = tokio::select! {
            read = reader.read(&mut buffer) => read,
            () = until(proof), if unproven.is_some() => return,
            Some(command) = queue.recv() => {
                if writer.write_all(command.to_string().as_bytes()).await.is_err() {
                    break;
                }
                continue;
            }
        };
        let Ok(length @ 1..) = read else { break };
        if let Some((scanner, boot)) = before.as_mut().filter(|_| unproven.is_some())
            && !authentic(scanner, &buffer[..length], *boot).is_empty()
            && let Some(commands) = unproven.take()
        {
            let _ = inputs.send(Input::StreamOpened { id, commands }).await;
        }
        for sentinel in authentic(&mut scanner, &buffer[..length], identity.boot) {
            if let Some(commands) = unproven.take() {
                let _ = inputs.send(Input::StreamOpened { id, commands }).await;
            }
            let _ = inputs.send(Input::Heard { sentinel, source: Source::Vsock }).await;
        }
    }
    let _ = inputs.send(Input::StreamClosed { id }).await;
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The sentinels of `boot` that `bytes` complete.
pub(super) fn authentic(scanner: &mut Scanner, bytes: &[u8], boot: BootId) -> Vec<Sentinel> {
    let mut sentinels = Vec::new();
    scanner.push(bytes, |piece| match piece {
        Piece::Sentinel(sentinel) if sentinel.boot == boot => sentinels.push(sentinel),
        Piece::Sentinel(_) | Piece::Output(_) => {}
    });
    sentinels
}

#[cfg(test)]
mod tests {
    use super::super::closing::Close;
    use super::*;
    use firstlight_protocol::hex::Secret;
    use firstlight_protocol::sentinel::Event;

    const BOOT: BootId = BootId([1; 4]);

    fn line(seq: u64, key: u8) -> String {
        let sentinel = Sentinel { boot: BOOT, seq, t: 0, event: Event::InitStart };
        sentinel.render(&MacKey::new(&Secret([key; 32])))
    }

    struct Lab {
        _dir: tempfile::TempDir,
        path: std::path::PathBuf,
        inputs: mpsc::Receiver<Input>,
        close: Close,
        task: tokio::task::JoinHandle<()>,
    }

    fn lab() -> Lab {
        lab_with(|path| Listener::unix(path).unwrap())
    }

    /// A monitor, and where it listens or connects to.
    fn lab_with(listener: impl FnOnce(&Path) -> Listener) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = listener(&path);
        let (sender, inputs) = mpsc::channel(64);
        let close = Close::new();
        let closing = close.closing();
        let identity = Identity { boot: BOOT, key: MacKey::new(&Secret([7; 32])), before: None };
        let task = tokio::spawn(listen(listener, identity, Road::new(), sender, closing));
        Lab { _dir: dir, path, inputs, close, task }
    }

    #[tokio::test]
    async fn a_stream_that_proves_to_be_init_s_gets_commands() {
        let mut lab = lab();
        let mut guest = UnixStream::connect(&lab.path).await.unwrap();
        guest.write_all(line(1, 7).as_bytes()).await.unwrap();
        let Some(Input::StreamOpened { commands, .. }) = lab.inputs.recv().await else { panic!() };
        assert!(matches!(lab.inputs.recv().await, Some(Input::Heard { sentinel, .. }) if sentinel.seq == 1));
        commands.send(InitCommand::Stop { grace_ms: 5 }).await.unwrap();
        let mut heard = [0; 16];
        guest.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"STOP grace_ms=5\n");
        drop(guest);
        assert!(matches!(lab.inputs.recv().await, Some(Input::StreamClosed { .. })));
        lab.close.tell();
        lab.task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_forges_is_heard_by_nobody_and_hung_up_on() {
        let mut lab = lab();
        let mut guest = UnixStream::connect(&lab.path).await.unwrap();
        guest.write_all(line(1, 8).as_bytes()).await.unwrap();
        // Its end comes by the deadline alone: time is virtual here.
        assert_eq!(guest.read(&mut [0; 16]).await.unwrap(), 0);
        lab.close.tell();
        lab.task.await.unwrap();
        assert!(lab.inputs.recv().await.is_none());
    }

    /// A monitor, and its VMM's end of the port. Time is virtual, and passes when everybody waits.
    fn port() -> (Lab, UnixListener) {
        let mut vmm = None;
        let lab = lab_with(|path| {
            vmm = Some(UnixListener::bind(path).unwrap());
            Listener::Port { path: path.to_owned(), first: None }
        });
        (lab, vmm.unwrap())
    }

    async fn connected(vmm: &UnixListener) -> UnixStream {
        let (mut stream, _) = vmm.accept().await.unwrap();
        let mut heard = [0; 8];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"\nREPEAT\n");
        stream
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_is_connected_to_at_once_and_again_only_after_a_pause() {
        let (_lab, vmm) = port();
        let begun = Instant::now();
        drop(connected(&vmm).await);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        drop(connected(&vmm).await);
        assert!(begun.elapsed() >= PORT_PAUSE, "a VMM that hangs up would keep a processor busy");
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_whose_guest_is_held_still_is_not_hung_up_on() {
        let (mut lab, vmm) = port();
        let mut stream = connected(&vmm).await;
        sleep(PROOF_DEADLINE * 100).await;
        stream.write_all(line(1, 7).as_bytes()).await.unwrap();
        assert!(matches!(lab.inputs.recv().await, Some(Input::StreamOpened { .. })));
    }
}
