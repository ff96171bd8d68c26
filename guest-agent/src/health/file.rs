//! The checks, kept for the agent's successor.

use std::fs;
use std::io;
use std::path::Path;

use firstlight_protocol::codec;
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::health::Check;

use crate::failure;

/// The checks in the file; none when there is no file.
///
/// # Errors
/// As `read(2)`, or when an agent of another age wrote it.
pub(super) fn load(path: &Path) -> Result<Vec<Check>, AgentError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failure::system("read", Some(path), &error)),
    };
    codec::decode(&bytes).map_err(|error| failure::invalid("read health checks", error.to_string()))
}

/// Replaces the file whole, so that an agent killed meanwhile leaves the old one or the new one.
///
/// # Errors
/// As `open(2)`, `write(2)` and `rename(2)`.
pub(super) fn save(path: &Path, checks: &[Check]) -> Result<(), AgentError> {
    let bytes = codec::encode(&checks.to_vec());
    let bytes = bytes.map_err(|error| failure::invalid("keep health checks", error.to_string()))?;
    let temporary = path.with_extension("new");
    let saved = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    saved.map_err(|error| failure::system("write", Some(path), &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_protocol::message::health::Probe;

    #[test]
    fn what_was_saved_is_loaded_and_garbage_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("health");
        assert_eq!(load(&path), Ok(Vec::new()));
        let check = Check {
            name: "web".into(),
            probe: Probe::Http { port: 80, path: "/".into() },
            interval_ms: 1000,
            timeout_ms: 2000,
            failures: 3,
            successes: 1,
            grace_ms: 4,
        };
        save(&path, std::slice::from_ref(&check)).unwrap();
        assert_eq!(load(&path), Ok(vec![check]));
        fs::write(&path, [0xff; 20]).unwrap();
        assert!(load(&path).is_err());
    }
}
