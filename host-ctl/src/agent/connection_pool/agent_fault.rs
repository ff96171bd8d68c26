//! Which errors of a conversation with an agent spoil the connection.

use firstlight_protocol::message::error::{AgentError, Cause};

use super::error::{Fault, Poison};
use crate::agent::{Awaited, Error};

impl Fault for Error {
    fn fault(&self) -> Option<Poison> {
        match self {
            Error::Unreachable { .. } | Error::Lost(_) => Some(Poison::Transport),
            Error::Protocol(_) => Some(Poison::Framing),
            // The request may have been cut in the middle of its frame.
            Error::Timeout(Awaited::Connect | Awaited::Welcome | Awaited::Answer | Awaited::Copy) => {
                Some(Poison::Unfinished)
            }
            Error::Agent(AgentError { cause, .. }) => match cause {
                Cause::Protocol(_) => Some(Poison::Framing),
                Cause::Errno(_) | Cause::Invalid(_) | Cause::Busy(_) => None,
            },
            // Said before any request, or about one that was never sent.
            Error::Refused(_) | Error::TooLarge(_) | Error::Pool(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn agent(cause: Cause) -> Error {
        Error::Agent(AgentError { operation: "read".into(), path: None, cause })
    }

    #[test]
    fn the_same_errno_spoils_the_connection_only_when_it_is_the_transports() {
        assert_eq!(agent(Cause::Errno(epipe())).fault(), None);
        assert_eq!(Error::Lost(io::Error::from_raw_os_error(epipe())).fault(), Some(Poison::Transport));
    }

    #[test]
    fn an_agent_that_was_sent_a_broken_frame_is_left() {
        assert_eq!(agent(Cause::Protocol("unknown kind".into())).fault(), Some(Poison::Framing));
        assert_eq!(agent(Cause::Invalid("no argv".into())).fault(), None);
    }

    #[test]
    fn a_request_whose_answer_did_not_come_is_unfinished() {
        assert_eq!(Error::Timeout(Awaited::Answer).fault(), Some(Poison::Unfinished));
    }

    fn epipe() -> i32 {
        nix::errno::Errno::EPIPE as i32
    }
}
