//! The command line. In a VM it is empty: init says everything through descriptors.

use std::ffi::OsString;
use std::path::PathBuf;

use firstlight_protocol::agent_config::EVENTS_PATH;

/// How to start, for the one line a person gets who runs the agent by hand.
pub const USAGE: &str = "usage: guest-agent [--config PATH] [--listen unix:PATH] [--events PATH]";

/// The command line as understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the configuration is; `None` means the inherited descriptor.
    pub config: Option<PathBuf>,
    /// A unix socket to listen on in the vsock's place. The agent then knows it is not in a VM.
    pub unix_socket: Option<PathBuf>,
    /// Where init appends this boot's sentinels.
    pub events: PathBuf,
}

/// The command line made no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// No such option.
    #[error("unknown argument {0:?}; {USAGE}")]
    Unknown(OsString),
    /// An option came last, without its value.
    #[error("{0} needs a value; {USAGE}")]
    NoValue(&'static str),
    /// `--listen` takes a unix socket alone: the vsock port comes with the configuration.
    #[error("--listen {0:?} is not unix:PATH; {USAGE}")]
    Listen(OsString),
}

impl Options {
    /// Reads the arguments, the program's name not among them.
    ///
    /// # Errors
    /// [`OptionsError`], with the usage.
    pub fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Options, OptionsError> {
        let mut options = Options { config: None, unix_socket: None, events: EVENTS_PATH.into() };
        while let Some(argument) = arguments.next() {
            let mut value = |name| arguments.next().ok_or(OptionsError::NoValue(name));
            match argument.to_str() {
                Some("--config") => options.config = Some(value("--config")?.into()),
                Some("--events") => options.events = value("--events")?.into(),
                Some("--listen") => {
                    let address = value("--listen")?;
                    let path = address.to_str().and_then(|address| address.strip_prefix("unix:"));
                    options.unix_socket =
                        Some(path.ok_or_else(|| OptionsError::Listen(address.clone()))?.into());
                }
                Some(_) | None => return Err(OptionsError::Unknown(argument)),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, OptionsError> {
        Options::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn without_arguments_everything_comes_from_init() {
        let options = parse(&[]).unwrap();
        assert_eq!(options, Options { config: None, unix_socket: None, events: EVENTS_PATH.into() });
    }

    #[test]
    fn a_unix_socket_takes_the_vsock_s_place() {
        assert_eq!(parse(&["--listen", "unix:/x"]).unwrap().unix_socket, Some("/x".into()));
        assert_eq!(parse(&["--listen", "vsock:9"]), Err(OptionsError::Listen("vsock:9".into())));
    }

    #[test]
    fn an_argument_nobody_knows_is_named() {
        assert_eq!(parse(&["--port"]), Err(OptionsError::Unknown("--port".into())));
        assert_eq!(parse(&["--config"]), Err(OptionsError::NoValue("--config")));
    }
}
