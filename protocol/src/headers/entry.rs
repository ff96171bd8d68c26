//! One member of a bundle: the strict part of POSIX `ustar` that a tree of headers needs.
//!
//! Directories, files and symbolic links, owned by root. Everything else that a tar archive can say (hard links, devices,
//! extensions, names that are absolute or go up) is refused by the reader, whoever wrote it.

use super::is_inside;

/// Bytes of a header; contents are padded to a multiple of it.
pub const BLOCK: usize = 512;

/// The two empty blocks that end an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The most names in a path. What is made has to be taken away again, directory by directory.
pub const MAX_DEPTH: usize = 30;

/// The largest file: far beyond any header, and below what an octal field holds.
const MAX_SIZE: u64 = 1 << 32;

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is in the bundle: see [`is_inside`].
    pub path: String,
    /// When it was last changed, in seconds since 1970.
    pub mtime: u64,
    /// What it is.
    pub kind: Kind,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory. It stands before what is in it.
    Directory,
    /// A file; its contents follow, padded to whole blocks.
    File {
        /// Bytes.
        size: u64,
        /// Whether it can be executed.
        executable: bool,
    },
    /// A symbolic link, to a place in the bundle.
    Symlink {
        /// What it says: relative.
        target: String,
    },
}

/// A member that no bundle has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The block is no header of a tar archive.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// The path is absolute, goes up, or is too deep or too long.
    #[error("member {path:?} does not belong in a bundle: {reason}")]
    Refused {
        /// The member.
        path: String,
        /// Why.
        reason: &'static str,
    },
}

/// Bytes that follow `size` bytes of contents up to the next block.
#[must_use]
pub fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

/// The fields of a header: offset and length. Source: POSIX.1-2017, `pax`, "ustar Interchange Format".
mod field {
    pub(super) const NAME: (usize, usize) = (0, 100);
    pub(super) const MODE: (usize, usize) = (100, 8);
    pub(super) const UID: (usize, usize) = (108, 8);
    pub(super) const GID: (usize, usize) = (116, 8);
    pub(super) const SIZE: (usize, usize) = (124, 12);
    pub(super) const MTIME: (usize, usize) = (136, 12);
    pub(super) const CHECKSUM: (usize, usize) = (148, 8);
    pub(super) const TYPE: (usize, usize) = (156, 1);
    pub(super) const LINK: (usize, usize) = (157, 100);
    pub(super) const MAGIC: (usize, usize) = (257, 8);
    pub(super) const PREFIX: (usize, usize) = (345, 155);
}

const MAGIC: &[u8] = b"ustar\x0000";

impl Entry {
    /// The header block.
    ///
    /// # Errors
    /// [`EntryError::Refused`] for what [`Entry::parse`] would refuse, and for names that do not fit.
    pub fn render(&self) -> Result<[u8; BLOCK], EntryError> {
        self.check()?;
        let mut block = [0; BLOCK];
        let (prefix, name) = self.split().ok_or_else(|| self.refused("its name is too long for a header"))?;
        put(&mut block, field::NAME, name.as_bytes());
        put(&mut block, field::PREFIX, prefix.as_bytes());
        let (kind, mode, size, link) = match &self.kind {
            Kind::Directory => (b'5', 0o755, 0, ""),
            Kind::File { size, executable: true } => (b'0', 0o755, *size, ""),
            Kind::File { size, executable: false } => (b'0', 0o644, *size, ""),
            Kind::Symlink { target } => (b'2', 0o777, 0, target.as_str()),
        };
        if link.len() > field::LINK.1 {
            return Err(self.refused("its link is too long for a header"));
        }
        put(&mut block, field::TYPE, &[kind]);
        put(&mut block, field::LINK, link.as_bytes());
        put(&mut block, field::MAGIC, MAGIC);
        for (place, number) in [
            (field::MODE, mode),
            (field::UID, 0),
            (field::GID, 0),
            (field::SIZE, size),
            (field::MTIME, self.mtime),
        ] {
            put(&mut block, place, format!("{number:0width$o}", width = place.1 - 1).as_bytes());
        }
        let sum = checksum(&block);
        put(&mut block, field::CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        Ok(block)
    }

    /// Reads a header block; `None` for the empty one that ends an archive.
    ///
    /// # Errors
    /// [`EntryError`] for anything that does not belong in a bundle.
    pub fn parse(block: &[u8; BLOCK]) -> Result<Option<Entry>, EntryError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if get(block, field::MAGIC) != MAGIC || octal(block, field::CHECKSUM)? != checksum(block) {
            return Err(EntryError::Damaged("not a header where one should be"));
        }
        let name = text(block, field::NAME)?;
        let prefix = text(block, field::PREFIX)?;
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let size = octal(block, field::SIZE)?;
        let kind = match get(block, field::TYPE) {
            b"5" => Some(Kind::Directory),
            b"0" => Some(Kind::File { size, executable: octal(block, field::MODE)? & 0o111 != 0 }),
            b"2" => Some(Kind::Symlink { target: text(block, field::LINK)? }),
            _ => None,
        };
        // `tar` writes a slash after a directory's name; ours does not, and both are the same.
        let path = path.strip_suffix('/').map(str::to_owned).unwrap_or(path);
        let refused = |reason| EntryError::Refused { path: path.clone(), reason };
        let kind = kind.ok_or_else(|| refused("it is no directory, file or symbolic link"))?;
        let has_contents = matches!(kind, Kind::File { .. });
        if size != 0 && !has_contents {
            return Err(refused("only files have contents"));
        }
        let entry = Entry { mtime: octal(block, field::MTIME)?, kind, path };
        entry.check()?;
        Ok(Some(entry))
    }

    /// What both ends hold to.
    fn check(&self) -> Result<(), EntryError> {
        if !is_inside(&self.path) {
            return Err(self.refused("its path is absolute or goes up"));
        }
        let depth = self.path.split('/').count();
        if depth > MAX_DEPTH {
            return Err(self.refused("it is too many directories down"));
        }
        match &self.kind {
            Kind::File { size, .. } if *size > MAX_SIZE => Err(self.refused("it is larger than 4 GiB")),
            // Resolved name by name, a link that never leaves the bundle may go up in between.
            Kind::Symlink { target } if !stays_inside(target, depth - 1) => {
                Err(self.refused("it is a link out of the bundle"))
            }
            Kind::Directory | Kind::File { .. } | Kind::Symlink { .. } => Ok(()),
        }
    }

    fn refused(&self, reason: &'static str) -> EntryError {
        EntryError::Refused { path: self.path.clone(), reason }
    }

    /// The path as prefix and name, split at a slash where it does not fit into the name alone.
    fn split(&self) -> Option<(&str, &str)> {
        if self.path.len() <= field::NAME.1 {
            return Some(("", &self.path));
        }
        let fits = |at: &usize| *at <= field::PREFIX.1 && self.path.len() - at - 1 <= field::NAME.1;
        let at = self.path.match_indices('/').map(|(at, _)| at).find(fits)?;
        Some((self.path.get(..at)?, self.path.get(at + 1..)?))
    }
}

/// Whether a link that stands `depth` directories down leads to somewhere at or below the top.
fn stays_inside(target: &str, depth: usize) -> bool {
    let step = |depth: usize, name: &str| match name {
        "" | "." => Some(depth),
        ".." => depth.checked_sub(1),
        _ => Some(depth + 1),
    };
    let plain = !target.is_empty() && !target.starts_with('/') && !target.contains('\0');
    plain && target.split('/').try_fold(depth, step).is_some()
}

fn get(block: &[u8; BLOCK], (offset, length): (usize, usize)) -> &[u8] {
    block.get(offset..offset + length).unwrap_or_default()
}

fn put(block: &mut [u8; BLOCK], (offset, length): (usize, usize), value: &[u8]) {
    if let Some(place) = block.get_mut(offset..offset + value.len().min(length)) {
        place.copy_from_slice(value.get(..place.len()).unwrap_or_default());
    }
}

fn text(block: &[u8; BLOCK], place: (usize, usize)) -> Result<String, EntryError> {
    let bytes = get(block, place).split(|byte| *byte == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(bytes).map_err(|_| EntryError::Damaged("a name that is not UTF-8"))?;
    Ok(text.to_owned())
}

fn octal(block: &[u8; BLOCK], place: (usize, usize)) -> Result<u64, EntryError> {
    let digits = std::str::from_utf8(get(block, place)).unwrap_or("?");
    let digits = digits.trim_matches(['\0', ' ']);
    // `from_str_radix` takes a sign, which no header has.
    let plain = !digits.starts_with('+');
    let number = u64::from_str_radix(digits, 8).ok().filter(|_| plain);
    number.ok_or(EntryError::Damaged("a number that is not octal"))
}

/// The sum of all bytes, with the sum's own field taken as blanks.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    let (start, length) = field::CHECKSUM;
    let own = |at: &usize| (start..start + length).contains(at);
    block.iter().enumerate().map(|(at, byte)| if own(&at) { 32 } else { u64::from(*byte) }).sum()
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
