//! This boot's sentinels, from the copy that init keeps for us.
//!
//! The agent has no key and proves nothing: it reads no more of a line than its sequence number, and the host
//! believes what it can prove.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use firstlight_protocol::frame::MAX_PAYLOAD;
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::events::{Events, EventsRequest};
use firstlight_protocol::sentinel::MAX_LINE;

use crate::agent::Agent;
use crate::failure;

/// Bytes of lines in one answer: a frame, less the few bytes of the message's own length. A host that gets a full
/// answer asks again from where it ends.
const MAX_LINES: usize = MAX_PAYLOAD as usize - 16;

/// The sentinels from `from_seq` on, as many as fit in one answer.
///
/// # Errors
/// When init's copy cannot be read.
pub fn answer(agent: &Agent, request: &EventsRequest) -> Result<Events, AgentError> {
    let error = |operation| move |error| failure::system(operation, Some(&agent.events), &error);
    let file = File::open(&agent.events).map_err(error("open"))?;
    let lines = select(BufReader::new(file), request.from_seq).map_err(error("read"))?;
    Ok(Events { lines })
}

fn select(mut file: impl BufRead, from_seq: u64) -> std::io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    let mut line = Vec::with_capacity(MAX_LINE);
    loop {
        line.clear();
        // A longer line is no sentinel; it is read in pieces, none of which has a sequence number of its own.
        file.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() || lines.len() + line.len() > MAX_LINES {
            return Ok(lines);
        }
        if line.ends_with(b"\n") && sequence(&line).is_some_and(|sequence| sequence >= from_seq) {
            lines.extend_from_slice(&line);
        }
    }
}

/// The value of the line's `seq` field, its second.
fn sequence(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    text.split(' ').nth(2)?.strip_prefix("seq=")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64) -> String {
        format!("FIRSTLIGHT-AGENT-READY boot=5f1c09ae seq={sequence} t=1 mac=9f0c2b77a1d4e893\n")
    }

    #[test]
    fn lines_come_in_order_from_the_one_asked_for() {
        let file: String = (1..=5).map(event).collect();
        let expected = event(4) + &event(5);
        assert_eq!(select(file.as_bytes(), 4).unwrap(), expected.as_bytes());
        assert_eq!(select(file.as_bytes(), 6).unwrap(), b"");
    }

    #[test]
    fn half_a_line_at_the_end_and_strange_lines_are_left_out() {
        let cut = event(2);
        let file = format!("{}\nseq=9 seq=9\n\u{fffd}\n{}", event(1), cut.trim_end());
        assert_eq!(select(file.as_bytes(), 0).unwrap(), event(1).as_bytes());
    }

    #[test]
    fn an_answer_never_outgrows_its_frame() {
        let file: String = (1..=20_000).map(event).collect();
        assert!(file.len() > MAX_LINES);
        let lines = select(file.as_bytes(), 0).unwrap();
        assert!(lines.len() <= MAX_LINES && lines.ends_with(b"\n"));
        assert!(firstlight_protocol::codec::encode(&Events { lines }).is_ok());
    }
}
