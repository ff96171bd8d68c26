//! A regular file on its way in.

use firstlight_protocol::message::copy::{Entry, Extent};
use rustix::fs::{fsync, ftruncate};
use rustix::io::{Errno, pwrite};

use super::publish::Hidden;
use crate::metadata::apply;

/// A file whose bytes are arriving.
#[derive(Debug)]
pub(super) struct Incoming {
    hidden: Hidden,
    name: Vec<u8>,
    entry: Entry,
    size: u64,
    /// What has not arrived, the nearest piece last; that one may have arrived in part.
    missing: Vec<Extent>,
}

impl Incoming {
    pub(super) fn new(
        hidden: Hidden,
        name: Vec<u8>,
        entry: Entry,
        size: u64,
        extents: &[Extent],
    ) -> Incoming {
        Incoming { hidden, name, entry, size, missing: extents.iter().rev().copied().collect() }
    }

    /// Where the file will be below the source.
    pub(super) fn path(&self) -> &[u8] {
        &self.entry.path
    }

    /// Whether all its bytes have arrived.
    pub(super) fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    /// Takes bytes, and gives back those that are too many.
    pub(super) fn write<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], Errno> {
        while let (Some(extent), false) = (self.missing.last_mut(), bytes.is_empty()) {
            let wanted = usize::try_from(extent.length).unwrap_or(usize::MAX).min(bytes.len());
            let written = pwrite(self.hidden.file(), &bytes[..wanted], extent.offset)?;
            extent.offset += written as u64;
            extent.length -= written as u64;
            if extent.length == 0 {
                self.missing.pop();
            }
            bytes = &bytes[written..];
        }
        Ok(bytes)
    }

    /// Shows the whole file under its name, and counts the attributes that were lost.
    pub(super) fn publish(self, durable: bool) -> Result<u64, Errno> {
        // A hole at the end is no data and still counts.
        ftruncate(self.hidden.file(), self.size)?;
        let lost = apply(self.hidden.file(), &self.entry)?;
        if durable {
            fsync(self.hidden.file())?;
        }
        self.hidden.publish(&self.name)?;
        Ok(lost)
    }
}
