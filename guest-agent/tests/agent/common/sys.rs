//! A file system that hangs, as far as whoever opens one file can tell.
#![allow(unsafe_code, reason = "the one module for it; each block says why it is sound")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Makes whoever opens the file wait, `execve` included, until the lease is dropped or the kernel's patience ends
/// (45 s). Source: `F_SETLEASE` in `fcntl(2)`.
pub struct Lease(File);

impl Lease {
    #[track_caller]
    pub fn take(path: &Path) -> Lease {
        let file = File::open(path).unwrap();
        let set = |command, value: libc::c_int| {
            // SAFETY: both commands take an integer and touch no memory.
            let result = unsafe { libc::fcntl(file.as_raw_fd(), command, value) };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        };
        // The kernel's word that somebody waits is ignored by default, unlike SIGIO, which it says otherwise.
        const F_SETSIG: libc::c_int = 10;
        set(F_SETSIG, libc::SIGURG);
        set(libc::F_SETLEASE, libc::F_WRLCK);
        Lease(file)
    }

    /// Waits until somebody waits for the lease.
    #[track_caller]
    pub fn wait_for_opener(&self) {
        let deadline = std::time::Instant::now() + super::DEADLINE;
        // `F_GETLEASE` says what the lease is about to become.
        loop {
            // SAFETY: the command takes no argument and touches no memory.
            let lease = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETLEASE) };
            if lease != libc::F_WRLCK {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "nobody opened the file");
            std::thread::yield_now();
        }
    }
}
