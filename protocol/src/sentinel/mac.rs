//! What makes a sentinel believable: a truncated HMAC-SHA256 (RFC 2104, RFC 6234).
//!
//! 64 bits are enough because a forger has to be right at the first try: each wrong guess is just a line of output.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::hex::{BootId, Secret};

/// Bytes of a MAC on the line.
pub const MAC_LEN: usize = super::line::MAC_DIGITS / 2;

/// The key of one boot's sentinels, with its two key blocks hashed once.
#[derive(Clone)]
pub struct MacKey(Hmac<Sha256>);

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey(..)")
    }
}

impl MacKey {
    /// Makes the key of a boot spec's `mac_key`.
    #[must_use]
    pub fn new(secret: &Secret) -> MacKey {
        // A block-sized key is taken as it is and cannot be refused; zeroes after the secret change nothing, since
        // RFC 2104 pads a shorter key with zeroes.
        let mut block = [0; 64];
        block[..secret.0.len()].copy_from_slice(&secret.0);
        MacKey(Hmac::new(&block.into()))
    }

    /// The key of the boot `boot`, a copy of this key's boot that was restored from a snapshot.
    ///
    /// Host and init make it on their own, so no key crosses the guest's vsock, where any of its programs may dial. It
    /// is made of the boot's id, which differs in each copy. What is hashed is no line that a sentinel could have.
    #[must_use]
    pub fn of_copy(&self, boot: BootId) -> Secret {
        let label = format!("firstlight key of copy {boot}");
        Secret(self.0.clone().chain_update(label).finalize().into_bytes().into())
    }

    pub(super) fn mac(&self, signed: &[u8]) -> [u8; MAC_LEN] {
        let full = self.0.clone().chain_update(signed).finalize().into_bytes();
        let mut cut = [0; MAC_LEN];
        cut.copy_from_slice(&full[..MAC_LEN]);
        cut
    }

    pub(super) fn proves(&self, signed: &[u8], mac: [u8; MAC_LEN]) -> bool {
        self.0.clone().chain_update(signed).verify_truncated_left(&mac).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_has_a_key_of_its_own() {
        let key = MacKey::new(&Secret([7; 32]));
        let [first, second] = [1, 2].map(|copy| key.of_copy(BootId([copy; 4])));
        assert_ne!(first, second);
        assert_ne!(first, Secret([7; 32]));
        assert_eq!(first, key.of_copy(BootId([1; 4])));
    }

    #[test]
    fn the_mac_is_hmac_sha256() {
        // RFC 4231 has no case with a 32-byte key; computed with `openssl dgst -sha256 -mac HMAC`.
        let key = MacKey::new(&Secret([7; 32]));
        assert_eq!(key.mac(b"FIRSTLIGHT-INIT-START"), [0xfa, 0x46, 0x54, 0xb4, 0x70, 0x70, 0x95, 0x25]);
    }
}
