//! One line of the program's output, in the format of Kubernetes' Container Runtime Interface:
//!
//! ```text
//! 2026-01-31T09:05:00.000000001Z stdout F a whole line
//! 2026-01-31T09:05:00.000000002Z stdout P a line whose end
//! 2026-01-31T09:05:00.000000003Z stdout F  came later
//! 2026-01-31T09:05:00.000000004Z gap F stdout 4096
//! ```
//!
//! `F` lines end a line of output, `P` lines do not. A `gap` line, which is ours, says how many bytes of a stream were
//! overwritten in the guest before a monitor read them.

use firstlight_protocol::message::output::Stream;

use crate::clock::rfc3339;

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// When the host received it, in RFC 3339.
    pub time: &'a str,
    /// What it says.
    pub entry: Entry<'a>,
}

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The program wrote this.
    Output {
        /// On which stream.
        stream: Stream,
        /// What, without its line end.
        text: &'a [u8],
        /// Whether a line end followed.
        ends: bool,
    },
    /// Bytes were lost here.
    Gap {
        /// Of which stream.
        stream: Stream,
        /// How many.
        bytes: u64,
    },
}

impl Entry<'_> {
    /// Which stream it is about, and how many bytes of that it stands for.
    #[must_use]
    pub fn advance(&self) -> (Stream, u64) {
        match self {
            Entry::Output { stream, text, ends } => (*stream, text.len() as u64 + u64::from(*ends)),
            Entry::Gap { stream, bytes } => (*stream, *bytes),
        }
    }
}

/// Appends `bytes` of `stream`, received at `wall_ns`, to `log` as lines.
pub fn write(log: &mut Vec<u8>, wall_ns: u64, stream: Stream, bytes: &[u8]) {
    let time = rfc3339(wall_ns);
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (text, tag) = match piece.strip_suffix(b"\n") {
            Some(line) => (line, "F"),
            None => (piece, "P"),
        };
        log.extend_from_slice(format!("{time} {} {tag} ", stream.name()).as_bytes());
        log.extend_from_slice(text);
        log.push(b'\n');
    }
}

/// Appends a gap of `bytes` of `stream` to `log`.
pub fn write_gap(log: &mut Vec<u8>, wall_ns: u64, stream: Stream, bytes: u64) {
    log.extend_from_slice(format!("{} gap F {} {bytes}\n", rfc3339(wall_ns), stream.name()).as_bytes());
}

/// Reads a line without its end; `None` when it is none of ours.
#[must_use]
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let (name, tag, text) = (fields.next()?, fields.next()?, fields.next()?);
    let entry = if name == b"gap" {
        let (name, bytes) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        Entry::Gap { stream: stream(name.as_bytes())?, bytes: bytes.parse().ok()? }
    } else {
        let ends = match tag {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Entry::Output { stream: stream(name)?, text, ends }
    };
    Some(Line { time, entry })
}

fn stream(name: &[u8]) -> Option<Stream> {
    [Stream::Stdout, Stream::Stderr].into_iter().find(|stream| stream.name().as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_format_is_the_one_others_read() {
        let mut log = Vec::new();
        write(&mut log, 1, Stream::Stdout, b"one\ntw");
        write(&mut log, 2, Stream::Stderr, b"\n");
        write_gap(&mut log, 3, Stream::Stdout, 42);
        assert_eq!(
            String::from_utf8(log).unwrap(),
            "1970-01-01T00:00:00.000000001Z stdout F one\n\
             1970-01-01T00:00:00.000000001Z stdout P tw\n\
             1970-01-01T00:00:00.000000002Z stderr F \n\
             1970-01-01T00:00:00.000000003Z gap F stdout 42\n"
        );
    }

    #[test]
    fn lines_of_others_are_not_misread() {
        for line in [
            &b""[..],
            b"x",
            b"t stdout F",
            b"t stdin F x",
            b"t stdout Q x",
            b"t gap F stdout",
            b"t gap F x 1",
        ] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_comes_back_in_whatever_chunks_it_came(
            chunks in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40), 0..8),
        ) {
            let mut log = Vec::new();
            for chunk in &chunks {
                write(&mut log, 0, Stream::Stdout, chunk);
            }
            let mut back = Vec::new();
            let mut counted = 0;
            for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let entry = parse(line).unwrap().entry;
                let (_, bytes) = entry.advance();
                counted += bytes;
                let Entry::Output { text, ends, .. } = entry else { panic!("a gap") };
                back.extend_from_slice(text);
                back.extend(ends.then_some(b'\n'));
            }
            prop_assert_eq!(counted, back.len() as u64);
            prop_assert_eq!(back, chunks.concat());
        }
    }
}
