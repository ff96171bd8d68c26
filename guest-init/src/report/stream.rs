//! The event stream's thread: dials the host, sends the log from its first byte, reads commands back.
//!
//! The stream is guest-initiated, so a host that restarts just listens again and hears the whole boot. Over a virtio-serial
//! port opening it stands for dialling. It stays open whatever becomes of the host, and because the guest can miss that one host
//! was followed by another, each asks for everything again.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use firstlight_protocol::boot_spec::Transport;
use firstlight_protocol::init_command::InitCommand;
use firstlight_protocol::port::{self, serial};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, VsockAddr, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::stat::Mode;

use super::Shared;
use super::commands::Lines;
use super::connection::{Connection, Received};
use crate::stage::devices::Uevents;
use crate::wait::{Backoff, Deadline, is_ready, lock, poll, readable};

/// How long one attempt to connect may take. The host answers in milliseconds or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);

/// How long the last attempt, at the end of the boot, may take when it is not the first: nobody has listened so far.
const LAST_CONNECT_TIMEOUT: Duration = Duration::from_millis(100);

/// The longest pause between two attempts, so that a restarted host hears of the guest within it.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// How long after the last word of a device it is dialled. The vsock's backend is another process, and a packet that comes
/// before it has its queues is never looked at, nor are those that follow.
const SETTLED: Duration = Duration::from_millis(20);

/// How long closing waits, in seconds, for the host's side to have taken everything; whole seconds are what
/// `SO_LINGER` has.
const LINGER_SECONDS: i32 = 1;

/// Bytes of the log that are copied out of its lock at a time.
const CHUNK: usize = 4 << 10;

/// Why a connection is over.
enum End {
    /// The log is closed and everything is sent.
    Done,
    /// It broke, or the host closed it.
    Broken,
}

/// Follows the log until it is closed, connecting as often as it takes. After the log was closed there is one more
/// attempt, for the boot that ends before the host listens.
pub(super) fn follow(shared: &Shared) {
    let mut backoff = Backoff::new(MAX_PAUSE);
    let mut plugs = None;
    let mut tried = false;
    loop {
        let connection = dial(shared, tried);
        tried = true;
        match connection {
            Ok(connection) => {
                plugs = None;
                backoff.reset();
                match serve(shared, connection) {
                    Ok(End::Done) => break,
                    Ok(End::Broken) | Err(_) => {}
                }
            }
            // The kernel has no vsock: trying again will not give it one.
            Err(Errno::EAFNOSUPPORT) => break,
            // The device was unplugged, for a snapshot, and that it is back is announced. It may have come back before we
            // listened.
            Err(Errno::ENODEV) if plugs.is_none() => {
                plugs = Uevents::listen().ok();
                if plugs.is_some() {
                    continue;
                }
            }
            Err(_) => {}
        }
        if lock(&shared.log).closing {
            break;
        }
        pause(shared, plugs.as_ref(), backoff.next());
    }
    lock(&shared.log).stream.end();
    shared.changed.notify_all();
}

/// Waits for `duration`, or until `plugs` announces something or the log is closed.
fn pause(shared: &Shared, plugs: Option<&Uevents>, duration: Duration) {
    let deadline = Deadline::after(duration);
    while !deadline.passed() && !lock(&shared.log).closing {
        shared.stream_wake.lower();
        let wake = readable(shared.as_fd());
        // Without a second descriptor the first is looked at twice.
        let mut fds = [plugs.map_or_else(|| readable(shared.as_fd()), |plugs| readable(plugs.as_fd())), wake];
        if poll(&mut fds, Some(deadline)).is_err() {
            return;
        }
        if let Some(plugs) = plugs.filter(|_| is_ready(&fds[0])) {
            plugs.settle(SETTLED);
            return;
        }
    }
}

fn dial(shared: &Shared, tried: bool) -> nix::Result<Connection> {
    match shared.transport {
        Transport::Vsock => dial_vsock(shared, tried),
        Transport::Serial => open_port(),
    }
}

fn open_port() -> nix::Result<Connection> {
    let ports = Dir::open(serial::PORTS, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names =
        ports.into_iter().flatten().filter_map(|entry| Some(entry.file_name().to_str().ok()?.to_owned()));
    let name = names.find(|name| serial::is_port(name, serial::EVENTS)).ok_or(Errno::ENOENT)?;
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    Connection::over_port(open(format!("/dev/{name}").as_str(), flags, Mode::empty())?)
}

fn dial_vsock(shared: &Shared, tried: bool) -> nix::Result<Connection> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let connection = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
    match connect(connection.as_raw_fd(), &VsockAddr::new(port::HOST_CID, port::EVENTS)) {
        Ok(()) => return Ok(Connection::over_socket(connection)),
        Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(errno),
    }
    let mut deadline = Deadline::after(CONNECT_TIMEOUT);
    loop {
        shared.stream_wake.lower();
        if tried && lock(&shared.log).closing {
            deadline = deadline.min(Deadline::after(LAST_CONNECT_TIMEOUT));
        }
        let mut fds = [PollFd::new(connection.as_fd(), PollFlags::POLLOUT), readable(shared.as_fd())];
        poll(&mut fds, Some(deadline))?;
        if is_ready(&fds[0]) {
            break;
        }
        if deadline.passed() {
            return Err(Errno::ETIMEDOUT);
        }
    }
    match getsockopt(&connection, sockopt::SocketError)? {
        0 => Ok(Connection::over_socket(connection)),
        error => Err(Errno::from_raw(error)),
    }
}

/// Sends the log and reads commands until the connection is over.
fn serve(shared: &Shared, mut connection: Connection) -> nix::Result<End> {
    let mut sent = Sent::default();
    let mut lines = Lines::default();
    loop {
        shared.stream_wake.lower();
        let (chunk, closing) = next_chunk(shared, &mut sent);
        if chunk.is_empty() && closing {
            close_slowly(connection);
            return Ok(End::Done);
        }
        let mut blocked = false;
        if !chunk.is_empty() {
            match connection.write(&chunk) {
                Ok(count) => {
                    sent.bytes += count;
                    continue;
                }
                Err(Errno::EAGAIN) => blocked = true,
                Err(errno) => return Err(errno),
            }
        }
        if closing && connection.is_hung_up() {
            return Ok(End::Broken);
        }
        if connection.wait(blocked, &shared.stream_wake)?
            && !receive(shared, &mut connection, &mut lines, &mut sent)?
        {
            return Ok(End::Broken);
        }
    }
}

/// How much of which log a connection has sent.
#[derive(Debug, Default)]
struct Sent {
    generation: u32,
    bytes: usize,
}

fn next_chunk(shared: &Shared, sent: &mut Sent) -> (Vec<u8>, bool) {
    let log = lock(&shared.log);
    if sent.generation != log.generation() {
        *sent = Sent { generation: log.generation(), bytes: 0 };
    }
    let rest = log.rest_from(sent.bytes);
    (rest.get(..CHUNK).unwrap_or(rest).to_vec(), log.closing)
}

/// Takes all that the host sent; `false` when it closed the connection or sent what no host would.
fn receive(
    shared: &Shared,
    connection: &mut Connection,
    lines: &mut Lines,
    sent: &mut Sent,
) -> nix::Result<bool> {
    let mut bytes = [0; 256];
    loop {
        let received = match connection.read(&mut bytes)? {
            Received::Bytes(count) => bytes.get(..count).unwrap_or_default(),
            Received::Nothing => return Ok(true),
            Received::End => return Ok(false),
        };
        if lines.push(received, |command| obey(shared, sent, command)).is_err() {
            return Ok(false);
        }
    }
}

/// What concerns nothing but the log is done here, so that it is done in a teardown too.
fn obey(shared: &Shared, sent: &mut Sent, command: InitCommand) {
    match command {
        InitCommand::Restore { boot } => {
            if lock(&shared.log).become_copy(boot) {
                shared.wake();
            }
        }
        InitCommand::Repeat => *sent = Sent::default(),
        InitCommand::Stop { .. } | InitCommand::Signal { .. } => shared.commands.push(command),
    }
}

/// Closes the connection and waits (bounded) until the host's side has taken what was sent: power-off comes next, and
/// what is still queued then is lost.
fn close_slowly(connection: Connection) {
    let connection = connection.into_inner();
    let linger = libc::linger { l_onoff: 1, l_linger: LINGER_SECONDS };
    // Without the option, closing is what it always was.
    let _ = setsockopt(&connection, sockopt::Linger, &linger);
    drop(connection);
}
