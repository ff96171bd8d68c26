//! Unpacks a tar archive into a directory, and nowhere else.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::ImageError;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
}

/// Recognizes an archive by its start. Source: POSIX `ustar` (magic at offset 257) and RFC 1952.
pub(super) fn detect(start: &[u8]) -> Option<Compression> {
    if start.get(257..262) == Some(b"ustar") {
        Some(Compression::None)
    } else if start.starts_with(&[0x1f, 0x8b]) {
        Some(Compression::Gzip)
    } else {
        None
    }
}

/// Unpacks `archive` into the new directory `tree`.
pub(super) fn unpack(archive: &Path, compression: Compression, tree: &Path) -> Result<(), ImageError> {
    let file = File::open(archive).map_err(|error| ImageError::io("open", archive, error))?;
    std::fs::create_dir(tree).map_err(|error| ImageError::io("make", tree, error))?;
    let file = BufReader::new(file);
    let reader: Box<dyn Read> = match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
    };
    let mut entries = Archive::new(reader);
    let root = nix::unistd::geteuid().is_root();
    entries.set_preserve_permissions(true);
    entries.set_preserve_ownerships(root);
    entries.set_unpack_xattrs(root);
    let damaged =
        |error: io::Error| ImageError::Archive { archive: archive.to_owned(), reason: whole_reason(&error) };
    for entry in entries.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let link = entry.link_name().map_err(damaged)?.map(std::borrow::Cow::into_owned);
        let escapes = |path: &Path| ImageError::Escapes {
            archive: archive.to_owned(),
            entry: path.to_string_lossy().into_owned(),
        };
        if leaves(&path) {
            return Err(escapes(&path));
        }
        let kind = entry.header().entry_type();
        // A symbolic link may say anything: it is read inside the guest. A hard link is made here.
        if kind == EntryType::Link && link.as_deref().is_some_and(leaves) {
            return Err(escapes(link.as_deref().unwrap_or(&path)));
        }
        let device = matches!(kind, EntryType::Char | EntryType::Block);
        // The guest has its own /dev, and only root may make these.
        if device && !root {
            continue;
        }
        // It does not follow symbolic links of the archive either, and then says that nothing was unpacked.
        if !entry.unpack_in(tree).map_err(damaged)? {
            return Err(escapes(&path));
        }
    }
    Ok(())
}

/// An error with what caused it: the crate's own words name the entry, the cause says why.
fn whole_reason(error: &io::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        reason.push_str(&format!(": {error}"));
        cause = error.source();
    }
    reason
}

/// Whether a path of an archive is absolute or goes up. `./` in front is the habit of `tar .`.
fn leaves(path: &Path) -> bool {
    !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}
