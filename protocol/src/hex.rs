//! Fixed-size values that travel as lower-case hexadecimal: boot ids, keys and tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A hexadecimal value had the wrong length or a character outside `0-9a-f`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} lower-case hexadecimal digits, found {found:?}")]
pub struct HexError {
    expected: usize,
    found: String,
}

/// Renders bytes as lower-case hexadecimal.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 0x0f)]));
    }
    text
}

/// Parses exactly `2 * N` lower-case hexadecimal digits.
///
/// # Errors
/// [`HexError`] for any other length or character. At most 16 characters of the input are repeated in it, and
/// callers that parse secrets replace it by an error that repeats nothing.
pub fn decode<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let mut bytes = [0; N];
    match decode_into(text, &mut bytes) {
        Some(()) => Ok(bytes),
        None => Err(HexError { expected: N * 2, found: text.chars().take(16).collect() }),
    }
}

/// The same for every length; `None` when the text does not fill `bytes`, or more.
fn decode_into(text: &str, bytes: &mut [u8]) -> Option<()> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != bytes.len() * 2 {
        return None;
    }
    for (slot, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *slot = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

/// Names one boot of one VM: 32 random bits from the host, eight hexadecimal digits in text.
///
/// It tells boots apart; it is no secret and no proof. Sentinels carry a MAC for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, bincode::Encode, bincode::Decode)]
pub struct BootId(pub [u8; 4]);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl FromStr for BootId {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        decode(text).map(BootId)
    }
}

impl Serialize for BootId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for BootId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// 256 secret bits made by the host for one boot: the key of the sentinels' MAC, or the token of the agent.
///
/// `Debug` shows nothing of it, and comparison takes the same time wherever two secrets differ.
#[derive(Clone, bincode::Encode, bincode::Decode)]
pub struct Secret(pub [u8; 32]);

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        decode(&text)
            .map(Secret)
            .map_err(|_| serde::de::Error::custom("expected 64 lower-case hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_survives_text() {
        let id = BootId([0x5f, 0x1c, 0x09, 0xae]);
        assert_eq!(id.to_string(), "5f1c09ae");
        assert_eq!("5f1c09ae".parse(), Ok(id));
    }

    #[test]
    fn upper_case_and_short_ids_are_refused() {
        assert!("5F1C09AE".parse::<BootId>().is_err());
        assert!("5f1c09a".parse::<BootId>().is_err());
        assert!("5f1c09ag".parse::<BootId>().is_err());
    }

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = Secret([0xab; 32]);
        assert!(!format!("{secret:?}").contains("ab"));
        let error = serde_json::from_str::<Secret>("\"abab\"").unwrap_err().to_string();
        assert!(!error.contains("abab"), "{error}");
    }
}
