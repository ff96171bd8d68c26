//! A tar archive as a copy.

use std::io::{self, BufRead as _, BufReader, Read};

use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{Attribute, CHUNK, Content, Entry, Extent, Totals, data_length};
use firstlight_protocol::message::file::Timestamp;
use firstlight_tree::Outlet as _;
use flate2::read::MultiGzDecoder;
use tar::EntryType;

use super::members::{Member, Members, undecodable};
use super::{ArchiveError, pax};
use crate::copy::push::Frames;

/// How a gzipped stream begins. Source: RFC 1952.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Mode of the source itself, which an archive does not have; nobody looks at it, because its destination exists.
const SOURCE_MODE: u32 = 0o755;

/// Sends every member of the archive, plain or gzipped, to its end mark.
pub(in crate::copy) fn read(
    reader: Box<dyn Read + Send>,
    frames: &mut Frames,
) -> Result<Totals, ArchiveError> {
    let mut reader = BufReader::with_capacity(CHUNK, reader);
    let start = reader.fill_buf();
    let start = start.map_err(|source| ArchiveError::Io { operation: "read", source })?;
    if start.starts_with(GZIP) { send(MultiGzDecoder::new(reader), frames) } else { send(reader, frames) }
}

fn send(reader: impl Read, frames: &mut Frames) -> Result<Totals, ArchiveError> {
    let mut totals = Totals { entries: 1, ..Totals::default() };
    frames.entry(&source())?;
    let mut members = Members::new(reader);
    while let Some(member) = members.next()? {
        let Some(entry) = describe(&member)? else {
            totals.special += 1;
            continue;
        };
        // The directory that the archive was made of; its destination stays as it is.
        if entry.path.is_empty() && entry.content == Content::Directory {
            continue;
        }
        entry.check()?;
        frames.entry(&entry)?;
        totals.entries += 1;
        if let Content::File { extents, .. } = &entry.content {
            let length = data_length(extents);
            if length != member.stored {
                return Err(ArchiveError::Damaged("a sparse file's map does not fit its data".into()));
            }
            send_data(&mut members, length, frames)?;
            totals.bytes += length;
        }
    }
    members.drain()?;
    Ok(totals)
}

fn source() -> Entry {
    Entry {
        path: Vec::new(),
        mode: SOURCE_MODE,
        uid: 0,
        gid: 0,
        modified: Timestamp { seconds: 0, nanos: 0 },
        attributes: Vec::new(),
        content: Content::Directory,
    }
}

/// A member as an entry, or `None` for those that are not copied.
fn describe(member: &Member) -> Result<Option<Entry>, ArchiveError> {
    let unsupported = |reason| {
        let path = String::from_utf8_lossy(&member.path).into_owned();
        Err(ArchiveError::Unsupported { path, reason })
    };
    let Member { header, records, .. } = member;
    let kind = header.entry_type();
    if records.iter().any(|(key, _)| key.starts_with(b"GNU.sparse.")) {
        return unsupported("is sparse in a PAX way; write the archive with tar --format=gnu");
    }
    let content = if kind.is_dir() {
        Content::Directory
    } else if let Some((size, extents)) = &member.sparse {
        Content::File { size: *size, extents: extents.clone() }
    } else if kind.is_file() || kind.is_contiguous() {
        dense(member.stored)
    } else if kind.is_symlink() {
        Content::Symlink(member.link.clone())
    } else if kind.is_hard_link() {
        Content::HardLink(below(&member.link))
    } else if [EntryType::Fifo, EntryType::Char, EntryType::Block].contains(&kind) {
        return Ok(None);
    } else {
        return unsupported("is of a kind that is no file, directory or link");
    };
    let id = |key: &[u8], field: io::Result<u64>| {
        let id = pax::number(records, key).map_or(field, Ok);
        id.ok().and_then(|id| u32::try_from(id).ok())
    };
    let (Some(uid), Some(gid)) = (id(b"uid", header.uid()), id(b"gid", header.gid())) else {
        return unsupported("has an owner that is no number of 32 bits");
    };
    let mode = header.mode().map_err(undecodable)? & 0o7777;
    let (path, modified) = (below(&member.path), modified(member)?);
    Ok(Some(Entry { path, mode, uid, gid, modified, attributes: attributes(records), content }))
}

fn dense(size: u64) -> Content {
    let whole = (size > 0).then_some(Extent { offset: 0, length: size });
    Content::File { size, extents: whole.into_iter().collect() }
}

fn modified(member: &Member) -> Result<Timestamp, ArchiveError> {
    let recorded = pax::value(&member.records, b"mtime").and_then(|value| std::str::from_utf8(value).ok());
    if let Some(time) = recorded.and_then(pax::parse_time) {
        return Ok(time);
    }
    let seconds = member.header.mtime().map_err(undecodable)?;
    Ok(Timestamp { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 })
}

fn attributes(records: &[pax::Record]) -> Vec<Attribute> {
    let attribute = |(key, value): &pax::Record| {
        let name = key.strip_prefix(pax::ATTRIBUTE)?.to_vec();
        Some(Attribute { name, value: value.clone() })
    };
    records.iter().filter_map(attribute).collect()
}

/// A member's path below the destination: archives may name members from `/` or from `.`.
fn below(path: &[u8]) -> Vec<u8> {
    let names: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    names.join(&b'/')
}

/// Sends a member's data, which leaves the holes out as a copy does.
fn send_data<R: Read>(
    members: &mut Members<R>,
    length: u64,
    frames: &mut Frames,
) -> Result<(), ArchiveError> {
    let mut left = length;
    while left > 0 {
        let chunk = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        frames.frame(Kind::CopyData, chunk, |space| members.read_exact(space))?;
        left -= chunk as u64;
    }
    members.end_data(length)
}
