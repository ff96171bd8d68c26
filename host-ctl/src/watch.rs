//! Waits until a file or a directory changes. Source: `inotify(7)`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::output::Failure;

/// Room for many events at once; what they say is not looked at.
const BUFFER: usize = 4096;

/// Watched from the moment it is made, so a change between making it and waiting for it is not missed.
pub(crate) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Watches the contents of a file.
    pub(crate) fn file(path: &Path) -> Result<Watch, Failure> {
        Watch::new(path, WatchFlags::MODIFY | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF)
    }

    /// Watches which entries a directory has.
    pub(crate) fn directory(path: &Path) -> Result<Watch, Failure> {
        Watch::new(path, WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE)
    }

    fn new(path: &Path, flags: WatchFlags) -> Result<Watch, Failure> {
        let watch = || -> io::Result<Watch> {
            let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            add_watch(&inotify, path, flags)?;
            #[expect(
                deprecated,
                reason = "an OwnedFd stays what it is while registered; the successor is unsafe"
            )]
            Ok(Watch(AsyncFd::new(inotify)?))
        };
        watch().map_err(|error| failed(&path.display().to_string(), &error))
    }

    /// Waits for a change. Several that came since the last call are one.
    pub(crate) async fn changed(&self) -> Result<(), Failure> {
        let read = |inotify: &OwnedFd| Ok(rustix::io::read(inotify, &mut [0; BUFFER])?);
        self.0.async_io(Interest::READABLE, read).await.map(drop).map_err(|error| failed("a VM", &error))
    }
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot watch {what} for changes: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_before_the_wait_is_not_missed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal");
        std::fs::write(&file, "a").unwrap();
        let watch = Watch::file(&file).unwrap();
        std::fs::write(&file, "b").unwrap();
        watch.changed().await.unwrap();
    }

    #[tokio::test]
    async fn a_new_entry_is_a_change_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::directory(dir.path()).unwrap();
        std::fs::rename(tempfile::NamedTempFile::new_in(dir.path()).unwrap().path(), dir.path().join("vm"))
            .unwrap();
        watch.changed().await.unwrap();
    }
}
