//! Reading what init tells the agent.

use std::env::VarError;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use firstlight_protocol::agent_config::{AgentConfig, CONFIG_FD_ENV};

use crate::sys;

/// The largest configuration read, in bytes; a real one has a few hundred.
const MAX_CONFIG: usize = 64 * 1024;

/// The configuration could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither road was given.
    #[error("no configuration: init sets {CONFIG_FD_ENV}; by hand, pass --config PATH")]
    Missing,
    /// The variable holds no descriptor's number.
    #[error("{CONFIG_FD_ENV}={0:?} is not the number of a descriptor")]
    NotANumber(String),
    /// The descriptor or file could not be opened or read.
    #[error("read configuration {from}: {source}")]
    Read {
        /// The path, or the descriptor's number.
        from: String,
        /// Why.
        source: io::Error,
    },
    /// It is larger than any configuration can be.
    #[error("configuration {from} is over {MAX_CONFIG} bytes")]
    TooLarge {
        /// The path, or the descriptor's number.
        from: String,
    },
    /// It is no configuration of this build.
    #[error("configuration {from}: {source}")]
    Malformed {
        /// The path, or the descriptor's number.
        from: String,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// Reads the configuration from `path`, or else from the descriptor that init names in the environment.
///
/// # Errors
/// [`ConfigError`]. None of its texts repeats the configuration, which holds the token.
pub fn load(path: Option<&Path>) -> Result<AgentConfig, ConfigError> {
    let (file, from) = match path {
        Some(path) => {
            let from = path.display().to_string();
            (File::open(path).map_err(|source| ConfigError::Read { from: from.clone(), source })?, from)
        }
        None => inherited()?,
    };
    let text = read(&file, &from)?;
    serde_json::from_slice(&text).map_err(|source| ConfigError::Malformed { from, source })
}

fn inherited() -> Result<(File, String), ConfigError> {
    let number = match std::env::var(CONFIG_FD_ENV) {
        Ok(number) => number,
        Err(VarError::NotPresent) => return Err(ConfigError::Missing),
        Err(VarError::NotUnicode(number)) => {
            return Err(ConfigError::NotANumber(PathBuf::from(number).display().to_string()));
        }
    };
    let descriptor: RawFd = number.parse().map_err(|_| ConfigError::NotANumber(number.clone()))?;
    let from = format!("descriptor {descriptor}");
    match sys::adopt_descriptor(descriptor) {
        Ok(descriptor) => Ok((File::from(descriptor), from)),
        Err(source) => Err(ConfigError::Read { from, source }),
    }
}

/// Reads from the start whatever the file position is: the agent before this one has moved it.
fn read(file: &File, from: &str) -> Result<Vec<u8>, ConfigError> {
    let mut text = vec![0; MAX_CONFIG + 1];
    let mut filled = 0;
    while filled < text.len() {
        match file.read_at(&mut text[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(ConfigError::Read { from: from.to_owned(), source }),
        }
    }
    if filled > MAX_CONFIG {
        return Err(ConfigError::TooLarge { from: from.to_owned() });
    }
    text.truncate(filled);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<AgentConfig, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(Some(file.path()))
    }

    #[test]
    fn a_configuration_survives_its_file() {
        let text = format!(r#"{{"boot_id":"5f1c09ae","token":"{}","port":1024}}"#, "ab".repeat(32));
        assert_eq!(load_text(&text).unwrap().port, 1024);
    }

    #[test]
    fn an_error_names_the_file_and_hides_the_token() {
        let text = format!(r#"{{"boot_id":"5f1c09ae","token":"{}","porto":1}}"#, "ab".repeat(32));
        let error = load_text(&text).unwrap_err().to_string();
        assert!(error.contains("porto") && !error.contains("abab"), "{error}");
        let error = load(Some(Path::new("/no/such/file"))).unwrap_err().to_string();
        assert_eq!(error, "read configuration /no/such/file: No such file or directory (os error 2)");
    }

    #[test]
    fn a_file_of_any_length_is_read_within_bounds() {
        assert!(matches!(load_text(&" ".repeat(MAX_CONFIG + 1)), Err(ConfigError::TooLarge { .. })));
    }
}
