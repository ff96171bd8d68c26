//! Bytes in, frames out: the part of reading a connection that does no I/O.

use firstlight_protocol::frame::{FrameError, HEADER_LEN, Header};

/// Memory for a payload grows by at most this many bytes ahead of what arrived, so that a header's claim alone costs
/// nothing.
const GROWTH: usize = 64 * 1024;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// Its payload, as long as the header says.
    pub payload: Vec<u8>,
}

/// Collects one frame after the other, from pieces of any size.
#[derive(Debug)]
pub struct Deframer {
    header_bytes: [u8; HEADER_LEN],
    header: Option<Header>,
    payload: Vec<u8>,
    filled: usize,
    max_payload: u32,
}

impl Deframer {
    /// A deframer that refuses payloads longer than `max_payload` bytes.
    #[must_use]
    pub fn new(max_payload: u32) -> Deframer {
        Deframer { header_bytes: [0; HEADER_LEN], header: None, payload: Vec::new(), filled: 0, max_payload }
    }

    /// Changes the limit, from the next frame on.
    pub fn set_max_payload(&mut self, max_payload: u32) {
        self.max_payload = max_payload;
    }

    /// Whether a part of a frame has arrived.
    #[must_use]
    pub fn is_inside_frame(&self) -> bool {
        self.header.is_some() || self.filled > 0
    }

    /// Where the next bytes go. Never empty.
    pub fn space(&mut self) -> &mut [u8] {
        let Some(header) = self.header else { return &mut self.header_bytes[self.filled..] };
        let end = (header.length as usize).min(self.filled + GROWTH);
        self.payload.resize(end, 0);
        &mut self.payload[self.filled..]
    }

    /// Takes notice of `count` bytes written into [`Deframer::space`], and gives the frame they completed.
    ///
    /// # Errors
    /// [`FrameError`] when they completed a header that is refused. What follows is then no frame.
    pub fn advance(&mut self, count: usize) -> Result<Option<Frame>, FrameError> {
        self.filled += count;
        let header = match self.header {
            Some(header) => header,
            None if self.filled < HEADER_LEN => return Ok(None),
            None => {
                let header = Header::decode(&self.header_bytes)?;
                if header.length > self.max_payload {
                    return Err(FrameError::TooLong { length: header.length });
                }
                self.filled = 0;
                *self.header.insert(header)
            }
        };
        if self.filled < header.length as usize {
            return Ok(None);
        }
        self.header = None;
        self.filled = 0;
        Ok(Some(Frame { header, payload: std::mem::take(&mut self.payload) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_protocol::frame::MAX_PAYLOAD;
    use firstlight_protocol::message::Kind;
    use proptest::prelude::*;

    fn encoded(payload: &[u8], id: u64) -> Vec<u8> {
        let header = Header::new(Kind::Ping, id, payload.len()).unwrap();
        [&header.encode()[..], payload].concat()
    }

    /// Feeds `bytes` in pieces no longer than `piece`.
    fn feed(deframer: &mut Deframer, mut bytes: &[u8], piece: usize) -> Result<Vec<Frame>, FrameError> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let space = deframer.space();
            let count = space.len().min(piece).min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            frames.extend(deframer.advance(count)?);
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(payloads: Vec<Vec<u8>>, piece in 1..40_usize) {
            let bytes: Vec<u8> = payloads.iter().zip(0..).flat_map(|(payload, id)| encoded(payload, id)).collect();
            let mut deframer = Deframer::new(MAX_PAYLOAD);
            let frames = feed(&mut deframer, &bytes, piece).unwrap();
            let found: Vec<Vec<u8>> = frames.into_iter().map(|frame| frame.payload).collect();
            prop_assert_eq!(found, payloads);
            prop_assert!(!deframer.is_inside_frame());
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes: Vec<u8>) {
            let _ = feed(&mut Deframer::new(MAX_PAYLOAD), &bytes, 7);
        }
    }

    #[test]
    fn a_claimed_length_costs_no_memory_before_its_bytes_arrive() {
        let mut deframer = Deframer::new(MAX_PAYLOAD);
        let header = Header::new(Kind::Ping, 1, MAX_PAYLOAD as usize).unwrap();
        feed(&mut deframer, &header.encode(), 1).unwrap();
        assert!(deframer.space().len() <= GROWTH);
        assert!(deframer.payload.capacity() <= GROWTH);
    }

    #[test]
    fn a_payload_over_the_connection_s_own_limit_is_refused() {
        let mut deframer = Deframer::new(8);
        let refused = feed(&mut deframer, &encoded(&[0; 9], 1), 100);
        assert_eq!(refused, Err(FrameError::TooLong { length: 9 }));
    }
}
