//! What a bundle is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{INSTALL_PARENT, MAX_MANIFEST, is_inside};
use crate::hex::{self, HexError};

/// The version of the manifest this build writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// The longest release of a kernel: `__NEW_UTS_LEN` of `linux/utsname.h`.
const MAX_RELEASE: usize = 64;

/// A manifest could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is of another version than [`VERSION`].
    #[error("headers manifest: field `version`: this build reads version {VERSION}, the bundle is version {found}; {}",
        if *found > u64::from(VERSION) { "use a newer Firstlight" } else { "make the bundle anew" })]
    Version {
        /// The version it carries.
        found: u64,
    },
    /// A field is missing, unknown or malformed, or the text is no JSON.
    #[error("headers manifest: {reason}")]
    Malformed {
        /// What is wrong, and where.
        reason: String,
    },
}

/// What a bundle is. An installation keeps the manifest of the bundle it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`VERSION`].
    pub version: u32,
    /// The kernel's release, as `uname -r` has it.
    pub release: String,
    /// The machine, as `uname -m` has it.
    pub arch: String,
    /// The directory in the bundle that `/lib/modules/RELEASE/build` leads to.
    pub build: String,
    /// Directories, files and links in the payload.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Bytes they take on a file system with blocks of 4 KiB, directories included.
    pub space: u64,
    /// Bytes of the payload, compressed.
    pub payload: u64,
    /// SHA-256 of the payload, compressed.
    pub sha256: Digest,
}

impl Manifest {
    /// The document as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Only a map with keys that are no strings could fail here, and there is none.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Parses and validates a document.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn from_json(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let malformed = |reason: String| ManifestError::Malformed { reason };
        if bytes.len() > MAX_MANIFEST {
            return Err(malformed(format!("{} bytes is over the limit of {MAX_MANIFEST}", bytes.len())));
        }
        let parsed: Result<Manifest, _> = serde_json::from_slice(bytes);
        let manifest = parsed.map_err(|error| {
            // A newer version brings fields that this build refuses, and is what there is to tell.
            let newer = version_of(bytes).map(|found| ManifestError::Version { found });
            newer.unwrap_or_else(|| malformed(error.to_string()))
        })?;
        if manifest.version != VERSION {
            return Err(ManifestError::Version { found: manifest.version.into() });
        }
        let field = |name: &str| malformed(format!("field `{name}` is not a plain name or path"));
        if !is_release(&manifest.release) {
            return Err(field("release"));
        }
        if !is_inside(&manifest.build) {
            return Err(field("build"));
        }
        Ok(manifest)
    }

    /// The directory the bundle is installed in. Its name says which bundle: another one of the same release never
    /// gets in its way.
    #[must_use]
    pub fn directory(&self) -> String {
        let digest = self.sha256.to_string();
        format!("firstlight-headers-{}-{}", self.release, digest.get(..12).unwrap_or_default())
    }

    /// Where `/lib/modules/RELEASE/build` leads.
    #[must_use]
    pub fn build_link(&self) -> String {
        format!("{INSTALL_PARENT}/{}/{}", self.directory(), self.build)
    }
}

/// The version of a document that is of another one.
fn version_of(bytes: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct VersionOnly {
        version: u64,
    }
    let document: VersionOnly = serde_json::from_slice(bytes).ok()?;
    (document.version != u64::from(VERSION)).then_some(document.version)
}

/// Whether the text can be a kernel's release, which becomes a name in paths.
fn is_release(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte);
    !text.is_empty() && text.len() <= MAX_RELEASE && !text.starts_with('.') && text.bytes().all(plain)
}

/// A SHA-256 sum; lower-case hexadecimal in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for Digest {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        hex::decode(text).map(Digest)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            version: VERSION,
            release: "6.1.0-56-cloud-amd64".into(),
            arch: "x86_64".into(),
            build: "usr/src/linux-headers-6.1.0-56-cloud-amd64".into(),
            entries: 3,
            bytes: 10,
            space: 8192,
            payload: 300,
            sha256: Digest([0xab; 32]),
        }
    }

    fn refused(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut document = serde_json::to_value(manifest()).unwrap();
        change(&mut document);
        Manifest::from_json(document.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_survives_json() {
        assert_eq!(Manifest::from_json(manifest().to_json().as_bytes()), Ok(manifest()));
    }

    #[test]
    fn names_that_would_leave_their_directory_are_refused() {
        for release in ["../x", "", ".", "a/b", "a b"] {
            assert!(
                refused(|document| document["release"] = release.into()).contains("`release`"),
                "{release}"
            );
        }
        for build in ["/usr/src", "../x", "a/../b", "", "a//b"] {
            assert!(refused(|document| document["build"] = build.into()).contains("`build`"), "{build}");
        }
    }

    #[test]
    fn a_newer_version_is_named_before_any_field_it_brings() {
        let error = refused(|document| {
            document["version"] = 2.into();
            document["novelty"] = true.into();
        });
        assert!(error.contains("version 2") && error.contains("newer Firstlight"), "{error}");
        assert!(refused(|document| document["novelty"] = true.into()).contains("novelty"));
    }

    #[test]
    fn two_bundles_of_one_release_have_directories_of_their_own() {
        let other = Manifest { sha256: Digest([0xcd; 32]), ..manifest() };
        assert_ne!(manifest().directory(), other.directory());
        assert!(manifest().build_link().starts_with("/usr/src/firstlight-headers-6.1.0-56-cloud-amd64-abab"));
    }
}
