//! What was known of a guest when it was saved.

use std::path::Path;

use firstlight_protocol::boot_spec::BootSpec;
use firstlight_protocol::message::output::Position;
use firstlight_protocol::message::snapshot::StepDone;
use serde::{Deserialize, Serialize};

use super::SnapshotError;

/// The guest. It holds secrets of the boot that was saved, which the guest's memory holds too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// What its boot was told.
    pub boot: BootSpec,
    /// Bytes of standard output that its program had written.
    pub stdout: u64,
    /// Bytes of standard error.
    pub stderr: u64,
    /// What the guest did to get ready, and how long each step took.
    pub steps: Vec<TimedStep>,
}

/// A step of the guest's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimedStep {
    /// Its name, such as `freeze`.
    pub step: String,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
}

impl From<&StepDone> for TimedStep {
    fn from(done: &StepDone) -> TimedStep {
        TimedStep { step: done.step.name().to_owned(), duration_ns: done.duration_ns }
    }
}

impl Saved {
    /// How far the program's output had come.
    #[must_use]
    pub fn output(&self) -> Position {
        Position { stdout: self.stdout, stderr: self.stderr }
    }

    /// Reads the file at `path`, of the snapshot `name`.
    ///
    /// # Errors
    /// [`SnapshotError`]; [`SnapshotError::Corrupt`] when it is no such document.
    pub fn read(path: &Path, name: &str) -> Result<Saved, SnapshotError> {
        let bytes = std::fs::read(path).map_err(SnapshotError::io("read", path))?;
        serde_json::from_slice(&bytes).map_err(|error| SnapshotError::Corrupt {
            name: name.to_owned(),
            reason: format!("{}: {error}", path.display()),
        })
    }
}
