//! Ctrl-P Ctrl-Q: how a person leaves a terminal that goes on without them. As in docker.

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;

/// Looks for the two keys, one after the other, in what is typed.
#[derive(Debug, Default)]
pub(super) struct DetachKeys {
    /// Ctrl-P has come, and is kept until it is known whether it was meant for the program.
    armed: bool,
}

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Bytes for the program.
    Bytes(Vec<u8>),
    /// The keys, after these bytes.
    Detach(Vec<u8>),
}

impl DetachKeys {
    /// Takes what was typed next.
    pub(super) fn take(&mut self, typed: &[u8]) -> Typed {
        let mut bytes = Vec::with_capacity(typed.len() + 1);
        for byte in typed {
            if self.armed && *byte == CTRL_Q {
                return Typed::Detach(bytes);
            }
            if std::mem::replace(&mut self.armed, false) {
                bytes.push(CTRL_P);
            }
            if *byte == CTRL_P {
                self.armed = true;
            } else {
                bytes.push(*byte);
            }
        }
        Typed::Bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_detach_even_when_they_come_apart() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.take(b"ls\x10"), Typed::Bytes(b"ls".to_vec()));
        assert_eq!(keys.take(b"\x11never"), Typed::Detach(Vec::new()));
        assert_eq!(DetachKeys::default().take(b"a\x10\x11"), Typed::Detach(b"a".to_vec()));
    }

    #[test]
    fn a_key_that_was_meant_for_the_program_gets_there() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.take(b"\x10"), Typed::Bytes(Vec::new()));
        assert_eq!(keys.take(b"x\x11"), Typed::Bytes(b"\x10x\x11".to_vec()));
        assert_eq!(keys.take(b"\x10\x10"), Typed::Bytes(b"\x10".to_vec()));
        assert_eq!(keys.take(b"\x11"), Typed::Detach(Vec::new()));
    }
}
