//! What the host says to init, back over the event stream that init opened.
//!
//! One line per command. The stream is trusted because init dialled it to the host's context id; nothing in the
//! guest can accept that connection. It works before the agent is up and when there is none.

use std::fmt;

use crate::hex::BootId;

/// Longest command line in bytes, newline included. Init drops the stream at a longer one.
pub const MAX_LINE: usize = 128;

/// A command from the host to init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitCommand {
    /// End the VM: the program gets its stop signal, then `grace_ms` milliseconds, then SIGKILL; then the ordered
    /// teardown. Repeating it is harmless; the shortest grace wins.
    Stop {
        /// Milliseconds between the stop signal and SIGKILL.
        grace_ms: u32,
    },
    /// Send a signal to the program's process group.
    Signal {
        /// The guest's signal number, 1 to 64.
        number: u8,
    },
    /// This guest is a copy, restored from a snapshot: its events belong to `boot` from now on, signed with the key that
    /// [`crate::sentinel::MacKey::of_copy`] makes of the old one. Repeating it is harmless.
    Restore {
        /// The copy's boot.
        boot: BootId,
    },
    /// Say all events of this boot again: another monitor listens, on a port that does not show it.
    Repeat,
}

/// A line was no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an init command: {line:?}")]
pub struct UnknownCommand {
    line: String,
}

impl fmt::Display for InitCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitCommand::Stop { grace_ms } => writeln!(f, "STOP grace_ms={grace_ms}"),
            InitCommand::Signal { number } => writeln!(f, "SIGNAL number={number}"),
            InitCommand::Restore { boot } => writeln!(f, "RESTORE boot={boot}"),
            InitCommand::Repeat => writeln!(f, "REPEAT"),
        }
    }
}

impl InitCommand {
    /// Parses one line, with or without its newline.
    ///
    /// # Errors
    /// [`UnknownCommand`], repeating at most [`MAX_LINE`] characters.
    pub fn parse(line: &str) -> Result<InitCommand, UnknownCommand> {
        let error = || UnknownCommand { line: line.chars().take(MAX_LINE).collect() };
        let text = line.strip_suffix('\n').unwrap_or(line);
        if text == "REPEAT" {
            return Ok(InitCommand::Repeat);
        }
        if let Some(grace) = text.strip_prefix("STOP grace_ms=") {
            return Ok(InitCommand::Stop { grace_ms: grace.parse().map_err(|_| error())? });
        }
        if let Some(boot) = text.strip_prefix("RESTORE boot=") {
            return Ok(InitCommand::Restore { boot: boot.parse().map_err(|_| error())? });
        }
        let number = text.strip_prefix("SIGNAL number=").and_then(|number| number.parse().ok());
        match number {
            Some(number @ 1..=64) => Ok(InitCommand::Signal { number }),
            Some(_) | None => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_survives_text() {
        for command in [
            InitCommand::Stop { grace_ms: 0 },
            InitCommand::Stop { grace_ms: u32::MAX },
            InitCommand::Signal { number: 1 },
            InitCommand::Signal { number: 64 },
            InitCommand::Repeat,
            InitCommand::Restore { boot: BootId([0x5f, 0x1c, 0x09, 0xae]) },
        ] {
            let line = command.to_string();
            assert!(line.len() <= MAX_LINE);
            assert_eq!(InitCommand::parse(&line), Ok(command));
        }
    }

    #[test]
    fn signals_that_do_not_exist_are_refused() {
        assert!(InitCommand::parse("SIGNAL number=0").is_err());
        assert!(InitCommand::parse("SIGNAL number=65").is_err());
        assert!(InitCommand::parse("REBOOT").is_err());
        assert!(InitCommand::parse("RESTORE boot=5f1c09").is_err());
    }
}
