//! What the event stream runs over: a connection to the host, or an open virtio-serial port.
//!
//! A connection that breaks is over. A port hangs up while nobody is at the host's end, goes on when somebody is, and says both
//! to who waits for edges (`epoll(7)`); to `poll(2)` a hang-up is ready for as long as it lasts. Source:
//! `drivers/char/virtio_console.c` in the kernel.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::{read, write};

use crate::wait::{Flag, is_ready, poll, readable};

/// An open way to the host and back.
#[derive(Debug)]
pub(super) struct Connection {
    stream: OwnedFd,
    port: Option<Port>,
}

/// What a port has besides a connection.
#[derive(Debug)]
struct Port {
    /// Readable when something has happened to the port since it was asked last.
    edges: Epoll,
    /// Whether nobody was at the host's end when it was asked last.
    hung_up: bool,
}

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes, and maybe there are more.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The host closed the connection.
    End,
}

impl Connection {
    /// Over a socket that is connected and does not block.
    pub(super) fn over_socket(stream: OwnedFd) -> Connection {
        Connection { stream, port: None }
    }

    /// Over a port that is open and does not block.
    ///
    /// # Errors
    /// As `epoll_create1(2)` and `epoll_ctl(2)`.
    pub(super) fn over_port(stream: OwnedFd) -> nix::Result<Connection> {
        let edges = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        edges.add(&stream, EpollEvent::new(events, 0))?;
        Ok(Connection { stream, port: Some(Port { edges, hung_up: false }) })
    }

    /// Whether nobody hears what is written, for now.
    pub(super) fn is_hung_up(&self) -> bool {
        self.port.as_ref().is_some_and(|port| port.hung_up)
    }

    /// Waits until there may be something to read, room to write if it was `blocked`, or the flag is raised; says whether it is
    /// worth while to read.
    ///
    /// # Errors
    /// Those of `ppoll(2)` and `epoll_wait(2)`.
    pub(super) fn wait(&self, blocked: bool, wake: &Flag) -> nix::Result<bool> {
        let Some(Port { edges, .. }) = &self.port else {
            let room = if blocked { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
            let mut fds = [PollFd::new(self.stream.as_fd(), room), readable(wake.as_fd())];
            poll(&mut fds, None)?;
            return Ok(fds[0].revents().is_none_or(|events| events.intersects(!PollFlags::POLLOUT)));
        };
        let mut fds = [readable(edges.0.as_fd()), readable(wake.as_fd())];
        poll(&mut fds, None)?;
        Ok(is_ready(&fds[0]) && edges.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO)? > 0)
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// As `write(2)`: `EAGAIN` where there is none, as in a port that is hung up. This program ignores SIGPIPE.
    pub(super) fn write(&self, bytes: &[u8]) -> nix::Result<usize> {
        write(&self.stream, bytes)
    }

    /// Reads what is there. Of a port all is to be read before the next wait.
    ///
    /// # Errors
    /// As `read(2)`.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> nix::Result<Received> {
        let received = match read(&self.stream, bytes) {
            Ok(0) => Received::End,
            Ok(count) => Received::Bytes(count),
            Err(Errno::EAGAIN) => Received::Nothing,
            Err(errno) => return Err(errno),
        };
        let Some(port) = &mut self.port else { return Ok(received) };
        port.hung_up = received == Received::End;
        Ok(if port.hung_up { Received::Nothing } else { received })
    }

    /// The socket or the port itself.
    pub(super) fn into_inner(self) -> OwnedFd {
        self.stream
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (OwnedFd, UnixStream) {
        let (ours, host) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours.into(), host)
    }

    #[test]
    fn a_port_says_once_that_it_has_hung_up_and_is_no_end() {
        // A socket in its place hangs up too, though for good.
        let (port, host) = pair();
        let mut connection = Connection::over_port(port).unwrap();
        let wake = Flag::new().unwrap();
        drop(host);
        assert!(connection.wait(false, &wake).unwrap());
        assert_eq!(connection.read(&mut [0; 8]), Ok(Received::Nothing));
        assert!(connection.is_hung_up());
        // That lasts, and nothing has happened since.
        wake.raise();
        assert!(!connection.wait(true, &wake).unwrap());
    }

    #[test]
    fn a_port_that_was_full_is_waited_for_until_there_is_room() {
        let (port, mut host) = pair();
        let connection = Connection::over_port(port).unwrap();
        let wake = Flag::new().unwrap();
        let mut written = 0;
        while let Ok(count) = connection.write(&[7; 4096]) {
            written += count;
        }
        let reader = std::thread::spawn(move || {
            host.read_exact(&mut vec![0; written]).unwrap();
            host.write_all(b"STOP").unwrap();
            host
        });
        while connection.write(b"more") == Err(Errno::EAGAIN) {
            connection.wait(true, &wake).unwrap();
        }
        reader.join().unwrap();
    }

    #[test]
    fn a_connection_ends_with_its_host() {
        let (socket, mut host) = pair();
        let mut connection = Connection::over_socket(socket);
        let wake = Flag::new().unwrap();
        host.write_all(b"STOP").unwrap();
        drop(host);
        let mut bytes = [0; 8];
        assert!(connection.wait(false, &wake).unwrap());
        assert_eq!(connection.read(&mut bytes), Ok(Received::Bytes(4)));
        assert!(connection.wait(false, &wake).unwrap());
        assert_eq!(connection.read(&mut bytes), Ok(Received::End));
        assert!(!connection.is_hung_up());
    }
}
