//! The unit of the host-agent stream: a fixed header, then a payload whose length was checked before a byte of it
//! was allocated.
//!
//! ```text
//!  0        4      6      8                16
//!  | length | kind | flags |       id       | payload ...
//! ```
//!
//! All fields are little-endian. `length` counts the payload alone. `id` pairs an answer with its request on one
//! connection; a stream's frames carry the id of the request that opened it.

use crate::message::Kind;

/// Bytes of a header on the wire.
pub const HEADER_LEN: usize = 16;

/// The largest payload of any frame, in bytes. A longer one is refused from its header alone and ends the
/// connection, because what follows cannot be trusted to be a frame.
pub const MAX_PAYLOAD: u32 = 1 << 20;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload that follow, at most [`MAX_PAYLOAD`].
    pub length: u32,
    /// What the payload is.
    pub kind: Kind,
    /// Reserved: senders write zero and readers refuse anything else, so that a later generation can use it.
    pub flags: u16,
    /// Chosen by the end that opened the exchange.
    pub id: u64,
}

/// Why a header was refused. Every one of these ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The payload would be longer than [`MAX_PAYLOAD`].
    #[error("frame of {length} bytes is over the limit of {MAX_PAYLOAD}")]
    TooLong {
        /// The length the header claimed.
        length: u32,
    },
    /// No message of this build has this number.
    #[error("frame has unknown kind {kind}")]
    UnknownKind {
        /// The number the header carried.
        kind: u16,
    },
    /// A flag of a later generation was set.
    #[error("frame has unknown flags {flags:#06x}")]
    UnknownFlags {
        /// The flags the header carried.
        flags: u16,
    },
}

impl Header {
    /// A header for `length` bytes of `kind`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when `length` is over [`MAX_PAYLOAD`].
    pub fn new(kind: Kind, id: u64, length: usize) -> Result<Header, FrameError> {
        match u32::try_from(length) {
            Ok(length) if length <= MAX_PAYLOAD => Ok(Header { length, kind, flags: 0, id }),
            Ok(length) => Err(FrameError::TooLong { length }),
            Err(_) => Err(FrameError::TooLong { length: u32::MAX }),
        }
    }

    /// The header's bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.kind.number().to_le_bytes());
        bytes[6..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`FrameError`] when the length is over the limit, or the kind or a flag is unknown.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Header, FrameError> {
        let [l0, l1, l2, l3, k0, k1, f0, f1, id @ ..] = *bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let kind = u16::from_le_bytes([k0, k1]);
        let flags = u16::from_le_bytes([f0, f1]);
        if length > MAX_PAYLOAD {
            return Err(FrameError::TooLong { length });
        }
        let kind = Kind::from_number(kind).ok_or(FrameError::UnknownKind { kind })?;
        if flags != 0 {
            return Err(FrameError::UnknownFlags { flags });
        }
        Ok(Header { length, kind, flags, id: u64::from_le_bytes(id) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_header_s_bytes_are_frozen() {
        let header = Header::new(Kind::Ping, 0x0102_0304_0506_0708, 5).unwrap();
        assert_eq!(header.encode(), [5, 0, 0, 0, 4, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn a_hostile_length_is_refused_from_the_header_alone() {
        let mut bytes = Header::new(Kind::Ping, 1, 0).unwrap().encode();
        bytes[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(FrameError::TooLong { length: u32::MAX }));
    }

    #[test]
    fn flags_of_a_later_generation_are_refused() {
        let mut bytes = Header::new(Kind::Ping, 1, 0).unwrap().encode();
        bytes[7] = 0x80;
        assert_eq!(Header::decode(&bytes), Err(FrameError::UnknownFlags { flags: 0x8000 }));
    }

    proptest! {
        #[test]
        fn any_sixteen_bytes_are_refused_or_mean_themselves(bytes: [u8; HEADER_LEN]) {
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }
    }
}
