//! Reading a bundle: its manifest, then member by member. What is read is believed no further than the manifest goes.

use std::io::{self, ErrorKind, Read};

use firstlight_protocol::headers::{
    BLOCK, END, Entry, EntryError, Kind, MANIFEST_NAME, MAX_MANIFEST, Manifest, padding,
};

use super::error::HeadersError;
use super::inflate::Inflate;
use crate::error::{CallError, io_errno};

/// A bundle, read from its beginning to its end.
pub(super) struct Bundle<R> {
    members: Members<R>,
    manifest: Manifest,
    in_payload: bool,
    entries: u64,
    bytes: u64,
}

/// The members of an archive, of whichever gzip member `stream` is in.
struct Members<R> {
    stream: Inflate<R>,
    /// What it is read from, for errors.
    device: String,
    /// What is left of the current file, and what pads it.
    left: u64,
    padding: usize,
}

impl<R: Read> Bundle<R> {
    /// Reads the manifest, and no more of `source` than it takes.
    ///
    /// # Errors
    /// [`HeadersError`] with `device` where it is no bundle.
    pub(super) fn open(source: R, device: &str) -> Result<Bundle<R>, HeadersError> {
        let stream = Inflate::new(source).map_err(|error| unreadable(&error, device))?;
        let mut members = Members { stream, device: device.to_owned(), left: 0, padding: 0 };
        let manifest = members.manifest()?;
        Ok(Bundle { members, manifest, in_payload: false, entries: 0, bytes: 0 })
    }

    /// What the bundle says it is.
    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The next member, once the contents of the one before were read; `None` when the payload was whole.
    ///
    /// # Errors
    /// [`HeadersError`] for what is damaged, refused, or more than the manifest says.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, HeadersError> {
        if !self.in_payload {
            let next = self.members.stream.next_member();
            next.map_err(|error| unreadable(&error, &self.members.device))?;
            self.in_payload = true;
        }
        let Some(entry) = self.members.header()? else { return self.finish().map(|()| None) };
        self.entries += 1;
        self.bytes += self.members.left;
        if self.entries > self.manifest.entries || self.bytes > self.manifest.bytes {
            return Err(self.members.damaged("it holds more than its manifest says"));
        }
        Ok(Some(entry))
    }

    /// Contents of the current file; nothing at its end.
    ///
    /// # Errors
    /// As [`Bundle::next`].
    pub(super) fn contents(&mut self, buffer: &mut [u8]) -> Result<usize, HeadersError> {
        self.members.contents(buffer)
    }

    /// Behind the first of the two blocks that end the archive: is the payload what the manifest says?
    fn finish(&mut self) -> Result<(), HeadersError> {
        let members = &mut self.members;
        let mut second = [0; END.len() - BLOCK];
        members.exact(&mut second)?;
        if !members.ends_here()? || second.iter().any(|byte| *byte != 0) {
            return Err(members.damaged("something follows its end"));
        }
        if members.stream.taken() != (self.manifest.payload, self.manifest.sha256) {
            return Err(members.damaged("its contents are not those its manifest was made for"));
        }
        if (self.entries, self.bytes) != (self.manifest.entries, self.manifest.bytes) {
            return Err(members.damaged("it holds less than its manifest says"));
        }
        Ok(())
    }
}

impl<R: Read> Members<R> {
    fn manifest(&mut self) -> Result<Manifest, HeadersError> {
        let is_manifest = self.header()?.is_some_and(|entry| entry.path == MANIFEST_NAME);
        if !is_manifest || self.left > MAX_MANIFEST as u64 {
            return Err(self.damaged("it does not begin with its manifest"));
        }
        let mut text = vec![0; usize::try_from(self.left).unwrap_or(MAX_MANIFEST)];
        self.exact(&mut text)?;
        self.left = 0;
        self.skip_padding()?;
        if !self.ends_here()? {
            return Err(self.damaged("more than its manifest stands before the payload"));
        }
        Ok(Manifest::from_json(&text)?)
    }

    fn header(&mut self) -> Result<Option<Entry>, HeadersError> {
        self.skip_padding()?;
        let mut block = [0; BLOCK];
        self.exact(&mut block)?;
        let entry = Entry::parse(&block).map_err(|error| match error {
            EntryError::Damaged(reason) => self.damaged(reason),
            refused @ EntryError::Refused { .. } => refused.into(),
        })?;
        let size = match &entry {
            Some(Entry { kind: Kind::File { size, .. }, .. }) => *size,
            Some(_) | None => 0,
        };
        (self.left, self.padding) = (size, padding(size));
        Ok(entry)
    }

    fn contents(&mut self, buffer: &mut [u8]) -> Result<usize, HeadersError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.read(buffer.get_mut(..most).unwrap_or_default())?;
        if count == 0 && most > 0 {
            return Err(self.damaged("a file ends early"));
        }
        self.left -= count as u64;
        Ok(count)
    }

    fn skip_padding(&mut self) -> Result<(), HeadersError> {
        let padding = std::mem::take(&mut self.padding);
        self.exact([0; BLOCK].get_mut(..padding).unwrap_or_default())
    }

    fn ends_here(&mut self) -> Result<bool, HeadersError> {
        self.read(&mut [0]).map(|count| count == 0)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, HeadersError> {
        self.stream.read(buffer).map_err(|error| unreadable(&error, &self.device))
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), HeadersError> {
        self.stream.read_exact(buffer).map_err(|error| unreadable(&error, &self.device))
    }

    fn damaged(&self, reason: &'static str) -> HeadersError {
        HeadersError::Damaged { device: self.device.clone(), reason }
    }
}

fn unreadable(error: &io::Error, device: &str) -> HeadersError {
    let damaged = |reason| HeadersError::Damaged { device: device.to_owned(), reason };
    // A match on the kind would need a wildcard.
    if error.kind() == ErrorKind::UnexpectedEof {
        damaged("it ends early")
    } else if error.kind() == ErrorKind::InvalidData {
        damaged("it cannot be decompressed")
    } else {
        CallError::on("read", device)(io_errno(error)).into()
    }
}
