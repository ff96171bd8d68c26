//! How the installation of headers stands, for programs in the guest.

use serde::{Deserialize, Serialize};

/// The content of [`super::STATUS_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// How it stands.
    pub state: State,
    /// Why they were skipped, or could not be installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long the worker took, in nanoseconds, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dur: Option<u64>,
}

/// How an installation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The worker was not started yet.
    Pending,
    /// The worker is at it.
    Running,
    /// The headers are installed.
    Ready,
    /// There was nothing to install.
    Skipped,
    /// The headers could not be installed.
    Failed,
}

impl Status {
    /// A status that needs no reason, of work that has not ended.
    #[must_use]
    pub fn of(state: State) -> Status {
        Status { state, reason: None, dur: None }
    }

    /// The installation failed for this reason.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Status {
        Status { reason: Some(reason.into()), ..Status::of(State::Failed) }
    }

    /// There was nothing to install for this reason.
    #[must_use]
    pub fn skipped(reason: impl Into<String>) -> Status {
        Status { reason: Some(reason.into()), ..Status::of(State::Skipped) }
    }

    /// The document as JSON, on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Only a map with keys that are no strings could fail here, and there is none.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// Parses a document; `None` when it is none.
    #[must_use]
    pub fn from_json(bytes: &[u8]) -> Option<Status> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_json_and_reads_well_in_a_shell() {
        let status = Status { dur: Some(7), ..Status::failed("no space left") };
        assert_eq!(status.to_json(), "{\"state\":\"failed\",\"reason\":\"no space left\",\"dur\":7}\n");
        assert_eq!(Status::from_json(status.to_json().as_bytes()), Some(status));
        assert_eq!(Status::of(State::Pending).to_json(), "{\"state\":\"pending\"}\n");
    }
}
