//! Kernel headers: the bundle they travel in, and what the guest says of their installation.
//!
//! A bundle is a `.tar.gz` that any `tar` lists and unpacks, written so that a small reader is enough:
//!
//! ```text
//! gzip member 1:  manifest.json                              ([`Manifest`])
//! gzip member 2:  directories, files, symbolic links, end    ([`Entry`], [`END`]): the payload
//! ```
//!
//! Members have the plain ten-byte header ([`GZIP_HEADER`]). The first is a few hundred bytes, so whoever has the headers
//! installed already reads no more than that. The payload's length and SHA-256, as it is compressed, are in the manifest:
//! it ends where it says, whatever a disk is padded with.

mod entry;
mod manifest;
mod status;

pub use entry::{BLOCK, END, Entry, EntryError, Kind, MAX_DEPTH, padding};
pub use manifest::{Digest, Manifest, ManifestError, VERSION};
pub use status::{State, Status};

/// The virtio serial of the disk that is a bundle.
pub const SERIAL: &str = "headers";

/// The manifest's name in a bundle, and in an installation.
pub const MANIFEST_NAME: &str = "manifest.json";

/// The most bytes of a manifest.
pub const MAX_MANIFEST: usize = 4096;

/// How each gzip member of a bundle begins: deflate, no options, no time, Unix. Source: RFC 1952, section 2.3.
pub const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// Bytes after the compressed data of a gzip member: a CRC and the length. Source: RFC 1952, section 2.3.1.
pub const GZIP_TRAILER: usize = 8;

/// Where headers are installed, each bundle in a directory of its own.
pub const INSTALL_PARENT: &str = "/usr/src";

/// Where a kernel's modules are, and the `build` link to its headers.
pub const MODULES_PARENT: &str = "/lib/modules";

/// Where the guest says how the installation stands: a [`Status`] as JSON, replaced at once.
pub const STATUS_PATH: &str = "/run/firstlight/headers.status";

/// Whether a path of a bundle is one: relative, of plain names, without `.`, `..` and doubled slashes.
#[must_use]
pub fn is_inside(path: &str) -> bool {
    let plain = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains('\0');
    path.split('/').all(plain)
}
