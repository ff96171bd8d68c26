//! What is known of a failure: enough for a FATAL sentinel, whichever module it comes from.

use std::fmt;

use nix::errno::Errno;

/// A failure as the FATAL sentinel says it, beside the stage's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The `errno`, where a system call failed.
    pub(crate) errno: Option<Errno>,
    /// The file or device concerned.
    pub(crate) path: Option<String>,
    /// What went wrong, in words that repeat neither.
    pub(crate) error: String,
}

/// An error that knows its errno and its path, as every module's error here does.
pub(crate) trait Cause: std::error::Error {
    /// The `errno`, where a system call failed.
    fn errno(&self) -> Option<Errno>;
    /// The file or device concerned.
    fn path(&self) -> Option<&str>;
}

impl<E: Cause> From<E> for Fault {
    fn from(error: E) -> Fault {
        Fault { errno: error.errno(), path: error.path().map(str::to_owned), error: error.to_string() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.error)?;
        match self.errno {
            Some(errno) => write!(f, " (errno {})", errno as i32),
            None => Ok(()),
        }
    }
}

/// A system call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {}", errno.desc())]
pub(crate) struct CallError {
    operation: &'static str,
    path: Option<String>,
    errno: Errno,
}

impl CallError {
    /// An error of `operation`, to be filled in with the errno: `.map_err(CallError::on("open", path))`.
    pub(crate) fn on(operation: &'static str, path: &str) -> impl FnOnce(Errno) -> CallError {
        move |errno| CallError { operation, path: Some(path.to_owned()), errno }
    }

    /// The same where no file is concerned.
    pub(crate) fn of(operation: &'static str) -> impl FnOnce(Errno) -> CallError {
        move |errno| CallError { operation, path: None, errno }
    }

    /// The same for the standard library's errors.
    pub(crate) fn io(operation: &'static str, path: &str) -> impl FnOnce(std::io::Error) -> CallError {
        move |error| CallError::on(operation, path)(io_errno(&error))
    }
}

impl Cause for CallError {
    fn errno(&self) -> Option<Errno> {
        Some(self.errno)
    }

    fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }
}

/// The errno inside an error of the standard library.
pub(crate) fn io_errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_path_operation_and_errno_once() {
        let fault = Fault::from(CallError::on("mount ext4", "/data")(Errno::EINVAL));
        assert_eq!(fault.to_string(), "/data: mount ext4: Invalid argument (errno 22)");
    }

    #[test]
    fn a_fault_without_a_path_starts_with_the_operation() {
        let fault = Fault::from(CallError::of("fork")(Errno::EAGAIN));
        assert_eq!(fault.to_string(), "fork: Try again (errno 11)");
    }
}
