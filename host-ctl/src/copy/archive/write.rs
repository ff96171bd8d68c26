//! A copy as a tar archive.

use std::io::{self, Write};

use firstlight_protocol::message::copy::{Content, Entry, Extent, Shape, Totals, data_length};
use tar::{EntryType, GnuExtSparseHeader, Header};

use super::{ArchiveError, BLOCK, padding, pax};

/// Pieces of a sparse file that its header has place for; others follow in blocks of their own. Source: `tar(5)`.
const IN_HEADER: usize = 4;
const IN_BLOCK: usize = 21;

/// The longest name, and the longest target of a link, in a header of the old kind.
const SHORT: usize = 100;

/// Writes entries as members.
pub(in crate::copy) struct Writer {
    writer: Box<dyn Write + Send>,
    /// What stands before each path: the source's name, or `.`.
    name: Vec<u8>,
    totals: Totals,
    /// Bytes of the last member that have not come yet, and all of them.
    missing: u64,
    length: u64,
}

impl Writer {
    /// An archive of a source that has this shape.
    pub(in crate::copy) fn new(writer: Box<dyn Write + Send>, shape: &Shape) -> Writer {
        let name = match shape {
            Shape::Named(name) => name.clone(),
            Shape::Contents | Shape::Archive => b".".to_vec(),
        };
        Writer { writer, name, totals: Totals::default(), missing: 0, length: 0 }
    }

    /// Writes an entry's header.
    pub(in crate::copy) fn entry(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        entry.check()?;
        if self.missing > 0 {
            return Err(ArchiveError::Stream("an entry comes before the last byte of the file before it"));
        }
        self.totals.entries += 1;
        let member = Member::of(entry, &self.name);
        if !member.records.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            header.set_size(member.records.len() as u64);
            name_field(&mut header, b"PaxHeaders");
            header.set_cksum();
            self.put(header.as_bytes())?;
            self.put(&member.records)?;
            self.put(padding(member.records.len() as u64))?;
        }
        self.put(member.header.as_bytes())?;
        for block in &member.map {
            self.put(block.as_bytes())?;
        }
        (self.missing, self.length) = (member.length, member.length);
        Ok(())
    }

    /// Writes bytes of the last member.
    pub(in crate::copy) fn data(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let Some(missing) = self.missing.checked_sub(bytes.len() as u64) else {
            return Err(ArchiveError::Stream("there are more bytes than the file has"));
        };
        self.put(bytes)?;
        self.totals.bytes += bytes.len() as u64;
        self.missing = missing;
        if missing == 0 {
            self.put(padding(self.length))?;
        }
        Ok(())
    }

    /// Writes the end mark, two blocks of zeros.
    pub(in crate::copy) fn finish(mut self) -> Result<Totals, ArchiveError> {
        if self.missing > 0 {
            return Err(ArchiveError::Stream("it ends inside a file"));
        }
        self.put(&[0; 2 * BLOCK])?;
        self.writer.flush().map_err(failed)?;
        Ok(self.totals)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.writer.write_all(bytes).map_err(failed)
    }
}

fn failed(source: io::Error) -> ArchiveError {
    ArchiveError::Io { operation: "write", source }
}

/// A member before its data.
struct Member {
    records: Vec<u8>,
    header: Header,
    /// Blocks with the rest of a sparse file's map.
    map: Vec<GnuExtSparseHeader>,
    /// Bytes of data that follow.
    length: u64,
}

impl Member {
    fn of(entry: &Entry, name: &[u8]) -> Member {
        let mut member =
            Member { records: Vec::new(), header: Header::new_gnu(), map: Vec::new(), length: 0 };
        let mut path = if entry.path.is_empty() { name.to_vec() } else { [name, b"/", &entry.path].concat() };
        if entry.content == Content::Directory {
            path.push(b'/');
        }
        member.name(&path);
        member.metadata(entry);
        match &entry.content {
            Content::Directory => member.header.set_entry_type(EntryType::Directory),
            Content::File { size, extents } => member.file(*size, extents),
            Content::Symlink(target) => member.link(EntryType::Symlink, target),
            Content::HardLink(target) => member.link(EntryType::Link, &[name, b"/", target].concat()),
        }
        member.header.set_cksum();
        member
    }

    fn name(&mut self, path: &[u8]) {
        if path.len() > SHORT {
            pax::push(&mut self.records, b"path", path);
        }
        name_field(&mut self.header, path);
    }

    fn metadata(&mut self, entry: &Entry) {
        let header = &mut self.header;
        header.set_mode(entry.mode);
        header.set_uid(u64::from(entry.uid));
        header.set_gid(u64::from(entry.gid));
        header.set_size(0);
        // A header has no times before the epoch, and no fractions.
        header.set_mtime(u64::try_from(entry.modified.seconds).unwrap_or(0));
        if entry.modified.nanos > 0 || entry.modified.seconds < 0 {
            pax::push(&mut self.records, b"mtime", pax::show_time(entry.modified).as_bytes());
        }
        for attribute in &entry.attributes {
            pax::push_attribute(&mut self.records, attribute);
        }
    }

    fn link(&mut self, kind: EntryType, target: &[u8]) {
        self.header.set_entry_type(kind);
        if target.len() > SHORT {
            pax::push(&mut self.records, b"linkpath", target);
        }
        let field = &mut self.header.as_old_mut().linkname;
        let length = target.len().min(field.len());
        field[..length].copy_from_slice(&target[..length]);
    }

    fn file(&mut self, size: u64, extents: &[Extent]) {
        self.length = data_length(extents);
        self.header.set_size(self.length);
        self.header.set_entry_type(EntryType::Regular);
        if self.length == size {
            return;
        }
        self.header.set_entry_type(EntryType::GNUSparse);
        // The last piece says where the file ends, if that is behind a hole.
        let ends_with_data = extents.last().is_some_and(|last| last.offset + last.length == size);
        let end = (!ends_with_data).then_some(Extent { offset: size, length: 0 });
        let pieces: Vec<Extent> = extents.iter().copied().chain(end).collect();
        let (first, rest) = pieces.split_at(pieces.len().min(IN_HEADER));
        let blocks: Vec<&[Extent]> = rest.chunks(IN_BLOCK).collect();
        if let Some(gnu) = self.header.as_gnu_mut() {
            gnu.set_real_size(size);
            gnu.set_is_extended(!blocks.is_empty());
            for (field, piece) in gnu.sparse.iter_mut().zip(first) {
                field.set_offset(piece.offset);
                field.set_length(piece.length);
            }
        }
        let count = blocks.len();
        for (number, pieces) in blocks.into_iter().enumerate() {
            let mut block = GnuExtSparseHeader::new();
            block.set_is_extended(number + 1 < count);
            for (field, piece) in block.sparse_mut().iter_mut().zip(pieces) {
                field.set_offset(piece.offset);
                field.set_length(piece.length);
            }
            self.map.push(block);
        }
    }
}

/// Puts as much of a name into a header as fits.
fn name_field(header: &mut Header, path: &[u8]) {
    let field = &mut header.as_old_mut().name;
    let length = path.len().min(field.len());
    field[..length].copy_from_slice(&path[..length]);
}
