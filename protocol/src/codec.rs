//! The one place that turns control messages into bytes and back.
//!
//! bincode 2.0.1 with its standard configuration (variable-length integers, little-endian) behind a limit: without
//! one, nine hostile bytes that claim a huge length make it abort the process. `docs/decisions/0001-bincode.md`
//! says why bincode, and how to replace it: nothing outside this module names it but the derives on messages.

use crate::frame::MAX_PAYLOAD;

const LIMIT: usize = MAX_PAYLOAD as usize;

/// A control payload could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The value does not fit in one frame; the request has to be made smaller.
    #[error("{what} does not fit in a frame of {MAX_PAYLOAD} bytes")]
    TooLarge {
        /// The message's type.
        what: &'static str,
    },
    /// The peer sent bytes that are not this message.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// The message's type.
        what: &'static str,
        /// The decoder's own words.
        detail: String,
    },
    /// The message was followed by bytes that belong to nothing.
    #[error("{what} is followed by {extra} unexpected bytes")]
    TrailingBytes {
        /// The message's type.
        what: &'static str,
        /// How many.
        extra: usize,
    },
}

/// The name of a message's type without its module path.
fn name_of<T>() -> &'static str {
    let path = std::any::type_name::<T>();
    path.rsplit("::").next().unwrap_or(path)
}

/// Encodes a control message.
///
/// # Errors
/// [`CodecError::TooLarge`] when it would not fit in one frame.
pub fn encode<T: bincode::Encode>(message: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    encode_into(&mut bytes, message)?;
    Ok(bytes)
}

/// Encodes a control message in the place of what `buffer` holds, for whoever sends many of them.
///
/// # Errors
/// [`CodecError::TooLarge`] when it would not fit in one frame.
pub fn encode_into<T: bincode::Encode>(buffer: &mut Vec<u8>, message: &T) -> Result<(), CodecError> {
    buffer.clear();
    bincode::encode_into_std_write(message, buffer, bincode::config::standard())
        .map_err(|_| CodecError::TooLarge { what: name_of::<T>() })?;
    if buffer.len() > LIMIT {
        return Err(CodecError::TooLarge { what: name_of::<T>() });
    }
    Ok(())
}

/// Decodes a control message that must fill `bytes` exactly.
///
/// # Errors
/// [`CodecError::Malformed`] or [`CodecError::TrailingBytes`], naming the message. Never allocates more than a
/// frame's limit, whatever lengths the bytes claim.
pub fn decode<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (message, used) = bincode::decode_from_slice(bytes, config)
        .map_err(|error| CodecError::Malformed { what: name_of::<T>(), detail: error.to_string() })?;
    match bytes.len() - used {
        0 => Ok(message),
        extra => Err(CodecError::TrailingBytes { what: name_of::<T>(), extra }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::exec::ExecRequest;
    use proptest::prelude::*;

    #[test]
    fn a_hostile_length_is_an_error_and_not_an_abort() {
        let hostile = [0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(matches!(decode::<Vec<u8>>(&hostile), Err(CodecError::Malformed { .. })));
    }

    #[test]
    fn bytes_after_a_message_are_an_error_that_names_it() {
        let mut bytes = encode(&7_u32).unwrap();
        bytes.push(0);
        assert_eq!(decode::<u32>(&bytes), Err(CodecError::TrailingBytes { what: "u32", extra: 1 }));
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_the_sender() {
        let large = vec![0_u8; LIMIT + 1];
        assert!(matches!(encode(&large), Err(CodecError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes: Vec<u8>) {
            let _ = decode::<ExecRequest>(&bytes);
        }
    }
}
