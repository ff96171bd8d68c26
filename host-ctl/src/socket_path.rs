//! Unix socket paths end at 107 bytes (`unix(7)`: `sun_path` holds 108 with the final NUL), state directories do not.
//!
//! A path that is too long is reached through its directory: an open descriptor of it has the short name
//! `/proc/self/fd/N`. Only the last component has to fit.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest path `connect(2)` and `bind(2)` take, in bytes.
pub const MAX_SOCKET_PATH: usize = 107;

/// A path that fits into a socket address for as long as this value lives.
#[derive(Debug)]
pub struct ShortPath {
    path: PathBuf,
    /// Keeps the number in `path` ours.
    _directory: Option<File>,
}

impl ShortPath {
    /// Finds a short name for `path`, whose directory must exist.
    ///
    /// # Errors
    /// The directory cannot be opened, or the last component alone is too long.
    pub fn of(path: &Path) -> io::Result<ShortPath> {
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(ShortPath { path: path.to_owned(), _directory: None });
        }
        let parts = path.parent().zip(path.file_name());
        let (directory, name) = parts.ok_or(io::ErrorKind::InvalidInput)?;
        let flags = (nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY).bits();
        let directory = File::options().read(true).custom_flags(flags).open(directory)?;
        let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
        if short.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(io::Error::new(
                io::ErrorKind::InvalidFilename,
                format!("the socket's name is {} bytes long", name.len()),
            ));
        }
        Ok(ShortPath { path: short, _directory: Some(directory) })
    }
}

// For the borrowed value alone: who takes a path by value may drop it before using the address made from it, and the
// number in it would by then be another file's.
impl AsRef<Path> for &ShortPath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_socket_in_a_deep_directory_is_bound_and_reached() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("agent.sock");
        assert!(UnixListener::bind(&path).is_err(), "the plain path is too long");
        let listener = UnixListener::bind(&ShortPath::of(&path).unwrap()).unwrap();
        let _client = UnixStream::connect(&ShortPath::of(&path).unwrap()).unwrap();
        listener.accept().unwrap();
        assert!(path.exists());
    }

    #[tokio::test]
    async fn an_asynchronous_connect_keeps_the_directory_open_until_it_is_through() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("agent.sock");
        let _listener = UnixListener::bind(&ShortPath::of(&path).unwrap()).unwrap();
        tokio::net::UnixStream::connect(&ShortPath::of(&path).unwrap()).await.unwrap();
    }

    #[test]
    fn a_name_that_cannot_be_shortened_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let error = ShortPath::of(&root.path().join("n".repeat(120))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidFilename);
    }
}
