//! Finds authentic sentinels in any byte stream.
//!
//! A serial console carries kernel messages, a program's output and sentinels, cut at any byte by whoever reads it.
//! The scanner gives every byte back, in order, either as output or as part of an authentic sentinel, and never
//! holds more than [`MAX_LINE`] of them. It looks at each byte a bounded number of times, so a program that prints
//! prefixes all day costs no more than one that prints anything else.

use super::line::{MAC_DIGITS, MAX_LINE, PREFIX};
use super::{MacKey, Sentinel};

/// A piece of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes that belong to no sentinel.
    Output(&'a [u8]),
    /// A sentinel whose MAC holds. Whether its boot and sequence do is for the caller to say. Its line end is
    /// consumed with it.
    Sentinel(Sentinel),
}

/// Finds sentinels in one stream; see the module.
#[derive(Debug)]
pub struct Scanner {
    key: MacKey,
    /// Bytes that may yet turn out to be a sentinel: empty, or a beginning of [`PREFIX`], or [`PREFIX`] and more.
    held: Vec<u8>,
}

impl Scanner {
    /// A scanner for sentinels under `key`.
    #[must_use]
    pub fn new(key: MacKey) -> Scanner {
        Scanner { key, held: Vec::with_capacity(MAX_LINE) }
    }

    /// Bytes held back because they may begin a sentinel.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes the next bytes of the stream and passes on what is decided.
    pub fn push(&mut self, bytes: &[u8], mut piece: impl FnMut(Piece<'_>)) {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if self.held.is_empty() {
                // The fast road: everything before the next possible prefix is output.
                let start = rest.iter().position(|&byte| byte == PREFIX.as_bytes()[0]).unwrap_or(rest.len());
                if start > 0 {
                    piece(Piece::Output(&rest[..start]));
                    rest = &rest[start..];
                    continue;
                }
            }
            self.held.push(first);
            rest = &rest[1..];
            self.decide(first, &mut piece);
        }
    }

    /// Ends the stream: what is still held is output.
    pub fn finish(&mut self, mut piece: impl FnMut(Piece<'_>)) {
        if !self.held.is_empty() {
            piece(Piece::Output(&self.held));
            self.held.clear();
        }
    }

    /// Decides what can be decided after `last` was added to `held`.
    fn decide(&mut self, last: u8, piece: &mut impl FnMut(Piece<'_>)) {
        if self.held.len() <= PREFIX.len() {
            if !PREFIX.as_bytes().starts_with(&self.held) {
                self.release(1, piece);
            }
        } else if last == b'\n' {
            self.decide_line(piece);
        } else if self.held.len() >= MAX_LINE {
            self.release(1, piece);
        }
    }

    /// A line ended. It is a sentinel from one of its prefixes on, or from none.
    fn decide_line(&mut self, piece: &mut impl FnMut(Piece<'_>)) {
        let end = self.held.len() - 1;
        // A terminal writes CR LF for LF.
        let end = if self.held.get(end.wrapping_sub(1)) == Some(&b'\r') { end - 1 } else { end };
        let ends_like_one = end
            .checked_sub(MAC_DIGITS)
            .is_some_and(|start| self.held.get(start - 1) == Some(&b'=') && start > PREFIX.len());
        let mut start = if ends_like_one { Some(0) } else { None };
        while let Some(at) = start {
            let line = self.held.get(at..end).unwrap_or_default();
            if let Ok(sentinel) = Sentinel::parse(line, &self.key) {
                if at > 0 {
                    piece(Piece::Output(&self.held[..at]));
                }
                piece(Piece::Sentinel(sentinel));
                self.held.clear();
                return;
            }
            start = find_prefix(&self.held, at + 1);
        }
        piece(Piece::Output(&self.held));
        self.held.clear();
    }

    /// Gives up the first `least` bytes held, and as many more as it takes for the rest to begin like a prefix.
    fn release(&mut self, least: usize, piece: &mut impl FnMut(Piece<'_>)) {
        let keep = (least..self.held.len())
            .find(|&at| {
                let tail = &self.held[at..];
                PREFIX.as_bytes().starts_with(tail) || tail.starts_with(PREFIX.as_bytes())
            })
            .unwrap_or(self.held.len());
        piece(Piece::Output(&self.held[..keep]));
        self.held.drain(..keep);
    }
}

fn find_prefix(bytes: &[u8], from: usize) -> Option<usize> {
    let prefix = PREFIX.as_bytes();
    let found = bytes.get(from..)?.windows(prefix.len()).position(|window| window == prefix)?;
    Some(from + found)
}

#[cfg(test)]
mod tests {
    use super::super::line::tests::{any_sentinel, key};
    use super::super::{Event, Sentinel};
    use super::*;
    use crate::hex::{BootId, Secret};
    use proptest::prelude::*;

    fn ready(seq: u64) -> Sentinel {
        Sentinel { boot: BootId([1, 2, 3, 4]), seq, t: 5, event: Event::AgentReady }
    }

    /// Scans `stream` in pieces of `step` bytes; gives the output and the sentinels.
    fn scan(stream: &[u8], step: usize) -> (Vec<u8>, Vec<Sentinel>) {
        let mut scanner = Scanner::new(key());
        let (mut output, mut sentinels) = (Vec::new(), Vec::new());
        let mut take = |piece: Piece<'_>| match piece {
            Piece::Output(bytes) => output.extend_from_slice(bytes),
            Piece::Sentinel(sentinel) => sentinels.push(sentinel),
        };
        for bytes in stream.chunks(step.max(1)) {
            scanner.push(bytes, &mut take);
            assert!(scanner.held() <= MAX_LINE);
        }
        scanner.finish(&mut take);
        (output, sentinels)
    }

    #[test]
    fn a_sentinel_is_found_wherever_the_stream_is_split() {
        let stream = format!("boot: ok\n{}after", ready(1).render(&key()));
        for step in 1..stream.len() {
            assert_eq!(
                scan(stream.as_bytes(), step),
                (b"boot: ok\nafter".to_vec(), vec![ready(1)]),
                "{step}"
            );
        }
    }

    #[test]
    fn a_sentinel_is_found_in_the_middle_of_a_program_s_line() {
        let stream = format!("loading 50%{}100%\n", ready(1).render(&key()));
        assert_eq!(scan(stream.as_bytes(), 7), (b"loading 50%100%\n".to_vec(), vec![ready(1)]));
    }

    #[test]
    fn a_terminal_s_carriage_return_is_part_of_the_line_end() {
        let stream = ready(1).render(&key()).replace('\n', "\r\n");
        assert_eq!(scan(stream.as_bytes(), 4096), (Vec::new(), vec![ready(1)]));
    }

    #[test]
    fn a_sentinel_is_found_after_nul_bytes_and_after_a_line_of_a_mebibyte() {
        let mut stream = vec![0; 100];
        stream.extend(std::iter::repeat_n(b'F', 1 << 20));
        stream.extend(ready(2).render(&key()).into_bytes());
        let (output, sentinels) = scan(&stream, 4096);
        assert_eq!(sentinels, [ready(2)]);
        assert_eq!(output.len(), 100 + (1 << 20));
    }

    #[test]
    fn prefixes_printed_before_a_sentinel_do_not_hide_it() {
        for noise in
            ["FIRSTLIGHT-", "FIRSTLIGHT-AGENT-READY boot=", "FIRSTFIRSTLIGHT", &"FIRSTLIGHT-".repeat(200)]
        {
            let stream = format!("{noise}{}", ready(3).render(&key()));
            for step in [1, 13, 4096] {
                assert_eq!(
                    scan(stream.as_bytes(), step),
                    (noise.as_bytes().to_vec(), vec![ready(3)]),
                    "{noise}"
                );
            }
        }
    }

    #[test]
    fn a_sentinel_under_another_key_is_output() {
        let forged = ready(1).render(&MacKey::new(&Secret([8; 32])));
        assert_eq!(scan(forged.as_bytes(), 64), (forged.into_bytes(), vec![]));
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_and_no_sentinel_missed(
            noise in proptest::collection::vec("[FIRSTLGH\\-\n\r\0a =]{0,40}", 1..6),
            sentinels in proptest::collection::vec(any_sentinel(), 0..5),
            step in 1..700_usize,
        ) {
            let mut stream = String::new();
            let mut expected = String::new();
            for (index, text) in noise.iter().enumerate() {
                stream.push_str(text);
                expected.push_str(text);
                if let Some(sentinel) = sentinels.get(index) {
                    stream.push_str(&sentinel.render(&key()));
                }
            }
            let known = sentinels[..sentinels.len().min(noise.len())].to_vec();
            prop_assert_eq!(scan(stream.as_bytes(), step), (expected.into_bytes(), known));
        }

        #[test]
        fn any_bytes_come_back_unchanged(bytes: Vec<u8>, step in 1..50_usize) {
            prop_assert_eq!(scan(&bytes, step), (bytes, vec![]));
        }
    }
}
