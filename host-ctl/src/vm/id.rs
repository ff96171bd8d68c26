//! The id and the name of a VM.

use std::fmt;
use std::io;
use std::str::FromStr;

use firstlight_protocol::hex::{self, HexError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name. It becomes a directory, and a label of the guest's host name.
pub const MAX_NAME: usize = 63;

/// Names a VM for ever: 48 random bits, twelve hexadecimal digits in text. Commands take any unique prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VmId([u8; 6]);

impl VmId {
    /// A new one.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn random() -> io::Result<VmId> {
        crate::random::bytes().map(VmId)
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for VmId {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        hex::decode(text).map(VmId)
    }
}

impl Serialize for VmId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VmId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether `name` can be a VM's: a letter or digit, then letters, digits, `_`, `.` and `-`, [`MAX_NAME`] bytes in all.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(plain)
}

/// The name, where it is a host name too. Source: RFC 1123, section 2.1.
#[must_use]
pub fn hostname(name: &str) -> Option<String> {
    let label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    (plain && name.split('.').all(label)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text() {
        let id = VmId([0, 1, 0x2a, 0xff, 4, 5]);
        assert_eq!(id.to_string(), "00012aff0405");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn names_that_would_leave_the_directory_or_look_like_flags_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "-rf", ".hidden", "a b", "ä", &"n".repeat(64)] {
            assert!(!is_name(name), "{name:?}");
        }
        assert!(is_name("web-1.example_com"));
        assert!(is_name(&"n".repeat(63)));
    }
}
