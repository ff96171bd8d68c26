//! What the host says back over the event stream, on its way to the supervisor.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use firstlight_protocol::init_command::{InitCommand, MAX_LINE};

use crate::wait::{Flag, lock};

/// Commands that may wait for the supervisor. It is idle but for events, so more than these mean that it is stuck,
/// and then the oldest are worth as much as the newest: the newest are dropped.
const MAX_WAITING: usize = 64;

/// A queue of commands that wakes its reader.
#[derive(Debug)]
pub(crate) struct Commands {
    waiting: Mutex<VecDeque<InitCommand>>,
    wake: Arc<Flag>,
}

impl Commands {
    /// An empty queue, which raises `wake` when there is something in it.
    pub(crate) fn new(wake: Arc<Flag>) -> Commands {
        Commands { waiting: Mutex::default(), wake }
    }

    /// Adds a command.
    pub(super) fn push(&self, command: InitCommand) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() < MAX_WAITING {
            waiting.push_back(command);
            self.wake.raise();
        }
    }

    /// Takes the oldest command.
    pub(crate) fn take(&self) -> Option<InitCommand> {
        lock(&self.waiting).pop_front()
    }
}

/// Cuts what is received into commands.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

/// The host sent a line longer than any command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LineTooLong;

impl Lines {
    /// Takes the next bytes and passes on the commands they complete. Lines that are no command are left out: a newer
    /// host may know more than this init.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        mut command: impl FnMut(InitCommand),
    ) -> Result<(), LineTooLong> {
        for &byte in bytes {
            self.partial.push(byte);
            if byte == b'\n' {
                let parsed = std::str::from_utf8(&self.partial).ok().map(InitCommand::parse);
                if let Some(Ok(parsed)) = parsed {
                    command(parsed);
                }
                self.partial.clear();
            } else if self.partial.len() >= MAX_LINE {
                return Err(LineTooLong);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_wherever_the_stream_is_cut() {
        let stream = b"STOP grace_ms=5\nNOVELTY\n\xff\nSIGNAL number=1\n";
        for step in 1..=stream.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in stream.chunks(step) {
                lines.push(piece, |command| found.push(command)).unwrap();
            }
            assert_eq!(found, [InitCommand::Stop { grace_ms: 5 }, InitCommand::Signal { number: 1 }]);
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        assert_eq!(Lines::default().push(&[b'x'; MAX_LINE], |_| ()), Err(LineTooLong));
    }

    #[test]
    fn a_full_queue_keeps_the_oldest() {
        let commands = Commands::new(Arc::new(Flag::new().unwrap()));
        for grace_ms in 0..1_000 {
            commands.push(InitCommand::Stop { grace_ms });
        }
        let taken: Vec<InitCommand> = std::iter::from_fn(|| commands.take()).collect();
        assert_eq!(taken.len(), MAX_WAITING);
        assert_eq!(taken[0], InitCommand::Stop { grace_ms: 0 });
    }
}
