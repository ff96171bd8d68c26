//! An archive as a sequence of members, each with all that is said of it before its data.
//!
//! The `tar` crate decodes the headers. Their sequence is read here, because the crate's own reader takes a PAX record
//! for a line, which a binary attribute is not, and keeps a sparse file's map to itself.

use std::io::{self, Read};

use firstlight_protocol::message::copy::{Extent, MAX_EXTENTS};
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::{ArchiveError, BLOCK, padding, pax};

/// Bytes of records or of a long name before a member. All attributes of a file that can be sent are fewer.
const MAX_EXTENSION: u64 = 1 << 20;

/// Reads members. Between two, the caller reads all data of the first.
pub(super) struct Members<R> {
    reader: R,
}

/// A member before its data.
pub(super) struct Member {
    /// Its header.
    pub(super) header: Header,
    /// Its path, as long as it is.
    pub(super) path: Vec<u8>,
    /// Where it links to, if anywhere.
    pub(super) link: Vec<u8>,
    /// What the records before it say.
    pub(super) records: Vec<pax::Record>,
    /// Bytes of data that follow.
    pub(super) stored: u64,
    /// The size of a sparse file and its pieces.
    pub(super) sparse: Option<(u64, Vec<Extent>)>,
}

impl<R: Read> Members<R> {
    pub(super) fn new(reader: R) -> Members<R> {
        Members { reader }
    }

    /// The next member, or `None` at the end mark.
    pub(super) fn next(&mut self) -> Result<Option<Member>, ArchiveError> {
        let (mut long_path, mut long_link, mut records) = (None, None, Vec::new());
        loop {
            let block = self.block()?;
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let header = header(&block)?;
            let kind = header.entry_type();
            if kind == EntryType::XHeader {
                let extension = self.extension(&header)?;
                records = pax::parse(&extension).ok_or_else(|| damaged("a PAX record is malformed"))?;
            } else if kind == EntryType::XGlobalHeader {
                self.extension(&header)?;
            } else if kind == EntryType::GNULongName {
                long_path = Some(text(self.extension(&header)?));
            } else if kind == EntryType::GNULongLink {
                long_link = Some(text(self.extension(&header)?));
            } else {
                return self.member(header, records, long_path, long_link).map(Some);
            }
        }
    }

    /// Reads data of the last member.
    pub(super) fn read_exact(&mut self, space: &mut [u8]) -> Result<(), ArchiveError> {
        self.reader.read_exact(space).map_err(failed)
    }

    /// Reads over what fills the last block of `length` bytes of data.
    pub(super) fn end_data(&mut self, length: u64) -> Result<(), ArchiveError> {
        self.read_exact(&mut [0; BLOCK][..padding(length).len()])
    }

    /// Reads on to the end of the stream, which is padded behind the end mark: whoever writes it must not find a closed
    /// pipe.
    pub(super) fn drain(mut self) -> Result<(), ArchiveError> {
        io::copy(&mut self.reader, &mut io::sink()).map_err(failed)?;
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK], ArchiveError> {
        let mut block = [0; BLOCK];
        self.read_exact(&mut block)?;
        Ok(block)
    }

    /// The data of a header that only extends the next.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        let size = header.entry_size().map_err(undecodable)?;
        if size > MAX_EXTENSION {
            return Err(damaged("an extended header is larger than 1 MiB"));
        }
        let mut extension = vec![0; usize::try_from(size).unwrap_or(0)];
        self.read_exact(&mut extension)?;
        self.end_data(size)?;
        Ok(extension)
    }

    fn member(
        &mut self,
        header: Header,
        records: Vec<pax::Record>,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Member, ArchiveError> {
        let record = |key: &[u8]| pax::value(&records, key);
        let path = record(b"path").map(<[u8]>::to_vec).or(long_path);
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = record(b"linkpath").map(<[u8]>::to_vec).or(long_link);
        let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let stored = match pax::number(&records, b"size") {
            Some(size) => size,
            None => header.entry_size().map_err(undecodable)?,
        };
        let sparse = if header.entry_type().is_gnu_sparse() { Some(self.map(&header)?) } else { None };
        Ok(Member { header, path, link: link.unwrap_or_default(), records, stored, sparse })
    }

    /// A sparse file's size and map, which goes on in blocks of its own.
    fn map(&mut self, header: &Header) -> Result<(u64, Vec<Extent>), ArchiveError> {
        let Some(gnu) = header.as_gnu() else { return Err(damaged("a sparse file has no map")) };
        let size = gnu.real_size().map_err(undecodable)?;
        let mut extents = Vec::new();
        add_pieces(&mut extents, &gnu.sparse)?;
        let mut goes_on = gnu.is_extended();
        while goes_on {
            let mut block = GnuExtSparseHeader::new();
            self.read_exact(block.as_mut_bytes())?;
            add_pieces(&mut extents, block.sparse())?;
            goes_on = block.is_extended();
        }
        Ok((size, extents))
    }
}

fn add_pieces(extents: &mut Vec<Extent>, pieces: &[GnuSparseHeader]) -> Result<(), ArchiveError> {
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        let (offset, length) = (piece.offset().map_err(undecodable)?, piece.length().map_err(undecodable)?);
        if length > 0 {
            extents.push(Extent { offset, length });
        }
    }
    if extents.len() > MAX_EXTENTS {
        return Err(damaged("a sparse file has more than 4096 pieces"));
    }
    Ok(())
}

/// A block as a header, if its checksum says that it is one. Source: `tar(5)`.
fn header(block: &[u8; BLOCK]) -> Result<Header, ArchiveError> {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let counted =
        |(at, byte): (usize, &u8)| if CHECKSUM.contains(&at) { u32::from(b' ') } else { u32::from(*byte) };
    let sum: u32 = block.iter().enumerate().map(counted).sum();
    let header = Header::from_byte_slice(block).clone();
    match header.cksum() {
        Ok(said) if said == sum => Ok(header),
        Ok(_) | Err(_) => Err(damaged("a header's checksum is wrong, so these bytes are no tar archive")),
    }
}

/// A name that ends at its NUL.
fn text(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    name.truncate(end);
    name
}

fn damaged(reason: &str) -> ArchiveError {
    ArchiveError::Damaged(reason.to_owned())
}

/// A field that cannot be decoded.
#[allow(clippy::needless_pass_by_value, reason = "it is made to be given to map_err")]
pub(super) fn undecodable(error: io::Error) -> ArchiveError {
    ArchiveError::Damaged(error.to_string())
}

fn failed(source: io::Error) -> ArchiveError {
    if source.kind() == io::ErrorKind::UnexpectedEof {
        return ArchiveError::Truncated;
    }
    ArchiveError::Io { operation: "read", source }
}
