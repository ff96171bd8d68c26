//! Starts processes so that none ever runs unrecorded.
//!
//! The child is forked, then recorded, and only then executes its program. A monitor killed before the record takes
//! the child with it; one killed after it leaves a process that its successor finds by the record.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Child, Command};

use crate::sys;
use crate::vm::ProcessId;

/// Bytes of a process's standard error that are quoted when it fails.
const QUOTED: u64 = 2048;

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError<E> {
    /// It could not be forked, or its program could not be executed.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// It could not be recorded, and was ended before it ran.
    #[error(transparent)]
    Record(E),
}

/// Starts `command` in a session of its own, with what it says going to the file `log`. What it reads is the caller's to say.
/// `record` has to have written its identity down when it returns.
///
/// # Errors
/// [`SpawnError`]; nothing is left running then.
pub fn spawn<E>(
    mut command: Command,
    log: &Path,
    record: impl FnOnce(ProcessId) -> Result<(), E>,
) -> Result<Child, SpawnError<E>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| SpawnError::Start { program: program.clone(), source };
    let stderr = File::create(log).map_err(failed)?;
    let stdout = stderr.try_clone().map_err(failed)?;
    command.stdout(stdout).stderr(stderr);
    let held = sys::Held::fork(command).map_err(failed)?;
    let identity = match ProcessId::of(held.pid()) {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            return Err(failed(held.release().err().unwrap_or_else(|| io::ErrorKind::NotFound.into())));
        }
        Err(error) => return Err(failed(error)),
    };
    record(identity).map_err(SpawnError::Record)?;
    held.release().map_err(failed)
}

/// The last words of a process, from its log: its last line that says anything.
#[must_use]
pub fn last_words(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(QUOTED))).ok()?;
    let mut tail = Vec::new();
    file.take(QUOTED).read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recorded_before_it_executes() {
        let dir = tempfile::tempdir().unwrap();
        let ran = dir.path().join("ran");
        let mut command = Command::new("touch");
        command.arg(&ran);
        let mut recorded = None;
        let mut child = spawn(command, &dir.path().join("log"), |identity| {
            assert!(!ran.exists());
            assert!(identity.is_alive().unwrap());
            recorded = Some(identity);
            Ok::<(), io::Error>(())
        })
        .unwrap();
        assert_eq!(recorded.unwrap().pid, child.id());
        assert!(child.wait().unwrap().success());
        assert!(ran.exists());
    }

    #[test]
    fn a_process_that_cannot_be_recorded_never_executes() {
        let dir = tempfile::tempdir().unwrap();
        let ran = dir.path().join("ran");
        let mut command = Command::new("touch");
        command.arg(&ran);
        let mut identity = None;
        let result = spawn(command, &dir.path().join("log"), |process| {
            identity = Some(process);
            Err("disk full")
        });
        assert!(matches!(result, Err(SpawnError::Record("disk full"))));
        assert!(!identity.unwrap().is_alive().unwrap());
        assert!(!ran.exists());
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let command = Command::new("/nowhere/vmm");
        let result = spawn(command, &dir.path().join("log"), |_| Ok::<(), io::Error>(()));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("/nowhere/vmm") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn the_last_line_that_says_anything_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(last_words(&log), None);
        std::fs::write(&log, "warning: x\nqemu: could not open 'disk.img'\n\n").unwrap();
        assert_eq!(last_words(&log).unwrap(), "qemu: could not open 'disk.img'");
    }
}
