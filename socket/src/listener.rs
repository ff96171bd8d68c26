//! Who waits for connections.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use firstlight_protocol::message::forward::Address;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::Stream;

/// Connections the kernel keeps for us between two accepts.
const BACKLOG: i32 = 128;

/// A listening socket. Dropping it removes a unix socket's file, if it is still the one it made.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Listens at `address`. A unix socket's file gets this mode, and takes the place of a socket that nobody listens on
    /// any more, as a process that was killed leaves behind.
    ///
    /// # Errors
    /// `EADDRINUSE` when somebody listens there or another file has the path; otherwise as `bind(2)`.
    pub async fn bind(address: &Address, mode: u32) -> io::Result<Listener> {
        Ok(Listener(match address {
            Address::Loopback(port) => Kind::Tcp(TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).await?),
            Address::Tcp(address) => Kind::Tcp(TcpListener::bind(address).await?),
            Address::Unix(path) => {
                let path = Path::new(OsStr::from_bytes(path));
                let listener = bind_or_replace(path).await?;
                let file = SocketFile::of(path)?;
                std::fs::set_permissions(path, Permissions::from_mode(mode))?;
                Kind::Unix(listener, file)
            }
        }))
    }

    /// Where it listens, with the port the kernel chose.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn address(&self) -> io::Result<Address> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let address = listener.local_addr()?;
                let loopback = address.ip() == Ipv4Addr::LOCALHOST;
                Ok(if loopback { Address::Loopback(address.port()) } else { Address::Tcp(address) })
            }
            Kind::Unix(_, file) => Ok(Address::Unix(file.path.as_os_str().as_bytes().to_vec())),
        }
    }

    /// The next connection. Safe to drop and call again.
    ///
    /// # Errors
    /// As `accept(2)`: the listener stays good, but `EMFILE` and its like return at once until something is freed.
    pub async fn accept(&self) -> io::Result<Stream> {
        match &self.0 {
            Kind::Tcp(listener) => Stream::tcp(listener.accept().await?.0),
            Kind::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Tcp(listener) => listener.as_fd(),
            Kind::Unix(listener, _) => listener.as_fd(),
        }
    }
}

async fn bind_or_replace(path: &Path) -> io::Result<UnixListener> {
    let taken = match bind_unix(path) {
        Err(error) if error.raw_os_error() == Some(Errno::EADDRINUSE as i32) => error,
        bound => return bound,
    };
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let connected = UnixStream::connect(path).await;
    let abandoned = connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if !(is_socket && abandoned) {
        return Err(taken);
    }
    std::fs::remove_file(path)?;
    bind_unix(path)
}

/// Binds a socket that at first only its owner may connect to.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The file takes the mode of the socket it is made from, less the umask.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    UnixListener::from_std(socket.into())
}

/// The file of a unix socket, removed with its listener.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have put a file of theirs in its place.
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A file's device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn unix(path: &Path) -> Address {
        Address::Unix(path.as_os_str().as_bytes().to_vec())
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_unix_socket_is_private_from_its_first_moment() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("door");
        let _listener = bind_unix(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[tokio::test]
    async fn its_file_has_the_mode_asked_for_and_goes_with_it() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("door");
        let listener = Listener::bind(&unix(&path), 0o666).await.unwrap();
        assert_eq!(listener.address().unwrap(), unix(&path));
        assert_eq!(mode(&path), 0o666);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_took_its_place_is_left_alone() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("door");
        let listener = Listener::bind(&unix(&path), 0o600).await.unwrap();
        std::fs::write(dir.path().join("new"), "precious").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        drop(listener);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn only_a_socket_nobody_listens_on_is_replaced() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("door");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&unix(&path), 0o600).await.unwrap();
        let taken = Listener::bind(&unix(&path), 0o600).await.unwrap_err();
        assert_eq!(taken.raw_os_error(), Some(Errno::EADDRINUSE as i32));
        drop(listener);
        std::fs::write(&path, "precious").unwrap();
        let taken = Listener::bind(&unix(&path), 0o600).await.unwrap_err();
        assert_eq!(taken.raw_os_error(), Some(Errno::EADDRINUSE as i32));
    }
}
