//! Who this guest is: init's word at boot, and the host's after each restore from a snapshot.
//!
//! Init goes on knowing what it told the first agent, so a restore is written down beside its sentinels, on tmpfs, for
//! an agent that is started again.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use std::io::Write;

use firstlight_protocol::agent_config::AgentConfig;
use firstlight_protocol::hex::{BootId, Secret};
use serde_json::{Value, json};

/// Variables, by name and value.
pub type Environment = Vec<(Vec<u8>, Vec<u8>)>;

/// Who this guest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incarnation {
    /// The boot it serves.
    pub boot_id: BootId,
    /// What a host has to show.
    pub token: Secret,
    /// What every command starts with, before its own variables.
    pub environment: Environment,
}

impl Incarnation {
    /// What `path` says of a restore, or else what init says.
    #[must_use]
    pub fn resume(config: AgentConfig, path: &Path) -> Incarnation {
        let restored = fs::read(path).ok().and_then(|text| parse(&text));
        restored.unwrap_or_else(|| Incarnation {
            boot_id: config.boot_id,
            token: config.token,
            environment: Vec::new(),
        })
    }

    /// Writes it down, seen under its name only when whole.
    ///
    /// # Errors
    /// As `open(2)`, `write(2)` and `rename(2)`.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let draft: PathBuf = path.with_extension("new");
        let mut options = fs::File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        let document =
            json!({ "boot_id": self.boot_id, "token": self.token, "environment": self.environment });
        file.write_all(document.to_string().as_bytes())?;
        fs::rename(&draft, path)
    }
}

fn parse(text: &[u8]) -> Option<Incarnation> {
    let document: Value = serde_json::from_slice(text).ok()?;
    let field = |name: &str| document.get(name).cloned();
    Some(Incarnation {
        boot_id: serde_json::from_value(field("boot_id")?).ok()?,
        token: serde_json::from_value(field("token")?).ok()?,
        environment: serde_json::from_value(field("environment")?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_started_again_is_who_the_restore_made_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incarnation");
        let config = AgentConfig {
            boot_id: BootId([1; 4]),
            token: Secret([1; 32]),
            port: 1024,
            transport: firstlight_protocol::boot_spec::Transport::Vsock,
            program_output: None,
        };
        assert_eq!(Incarnation::resume(config.clone(), &path).boot_id, BootId([1; 4]));
        let environment = vec![(b"A".to_vec(), vec![0xff])];
        let restored = Incarnation { boot_id: BootId([2; 4]), token: Secret([2; 32]), environment };
        restored.write(&path).unwrap();
        assert_eq!(Incarnation::resume(config, &path), restored);
    }
}
