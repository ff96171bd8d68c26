//! An append-only record, of a VM or of a pool: JSON lines, each on disk before anyone is told.
//!
//! Only the holder of a lock appends. Anyone reads, at any time: a last line without its end is one that
//! is being written, or was when its writer was killed, and does not count.

use std::fs::File;
use std::io::{self, Read as _};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::Record;

/// A journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A system call failed.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The journal.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A whole line is no record of this build.
    #[error("{}, line {line}: {reason}; it was written by a newer host-ctl or damaged", .path.display())]
    Malformed {
        /// The journal.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// A VM's journal.
pub type Journal = JsonLines<Record>;

/// A journal of records `R`, open for appending.
#[derive(Debug)]
pub struct JsonLines<R> {
    file: File,
    path: PathBuf,
    /// Bytes of whole records. What a failed write left after them is overwritten by the next.
    len: u64,
    records: PhantomData<fn(R) -> R>,
}

impl<R: Serialize + DeserializeOwned> JsonLines<R> {
    /// Reads every record. A missing journal is empty.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn read(path: &Path) -> Result<Vec<R>, JournalError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed("read", path, source)),
        };
        parse(path, whole_lines(&bytes))
    }

    /// Opens a journal to append to it, and cuts off a torn last line. The caller holds the lock.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(path: &Path) -> Result<(JsonLines<R>, Vec<R>), JournalError> {
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|source| failed("open", path, source))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|source| failed("read", path, source))?;
        let whole = whole_lines(&bytes);
        let records = parse(path, whole)?;
        let len = whole.len() as u64;
        if whole.len() < bytes.len() {
            file.set_len(len).map_err(|source| failed("truncate", path, source))?;
        }
        Ok((JsonLines { file, path: path.to_owned(), len, records: PhantomData }, records))
    }

    /// Appends records and waits until they are on disk. After an error none of them counts, and the call may be
    /// repeated.
    ///
    /// # Errors
    /// [`JournalError::Io`], such as a full disk.
    pub fn append(&mut self, records: &[R]) -> Result<(), JournalError> {
        let mut lines = Vec::new();
        for record in records {
            // Records hold no map with keys that are no strings, which is all that could fail.
            serde_json::to_writer(&mut lines, record)
                .map_err(|error| failed("encode a record for", &self.path, error.into()))?;
            lines.push(b'\n');
        }
        match self.write(&lines) {
            Ok(()) => {
                self.len += lines.len() as u64;
                Ok(())
            }
            Err(source) => {
                // Readers take whole lines for records, so none may stay. If even this fails the lines are written
                // again at the same place.
                let _ = self.file.set_len(self.len);
                Err(failed("append to", &self.path, source))
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests_that_is_full() -> JsonLines<R> {
        // /dev/full refuses every write with ENOSPC, as a full disk does.
        let file = File::options().write(true).open("/dev/full").unwrap();
        JsonLines { file, path: "/dev/full".into(), len: 0, records: PhantomData }
    }

    fn write(&self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all_at(lines, self.len)?;
        self.file.sync_data()
    }
}

/// What of `bytes` ends in a line end.
fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    &bytes[..end]
}

fn parse<R: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<Vec<R>, JournalError> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_slice(line).map_err(|error| JournalError::Malformed {
                path: path.to_owned(),
                line: index + 1,
                reason: error.to_string(),
            })
        })
        .collect()
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::vm::Entry;

    fn record(grace_ms: u32) -> Record {
        Record::now(Entry::StopRequested { grace_ms: Some(grace_ms) })
    }

    #[test]
    fn what_was_appended_is_read_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        assert_eq!(Journal::read(&path).unwrap(), []);
        let all = [record(1), record(2), record(3)];
        let (mut journal, before) = Journal::open(&path).unwrap();
        assert_eq!(before, []);
        journal.append(&all[..2]).unwrap();
        drop(journal);
        let (mut journal, before) = Journal::open(&path).unwrap();
        assert_eq!(before, all[..2]);
        journal.append(&all[2..]).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), all);
    }

    #[test]
    fn a_line_torn_at_any_byte_is_left_out_and_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let all = [record(1), record(2)];
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(&all[..1]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let second = serde_json::to_vec(&all[1]).unwrap();
        for cut in 1..=second.len() {
            std::fs::write(&path, [&whole[..], &second[..cut]].concat()).unwrap();
            assert_eq!(Journal::read(&path).unwrap(), all[..1], "cut after {cut}");
            let (mut journal, before) = Journal::open(&path).unwrap();
            assert_eq!(before, all[..1]);
            journal.append(&all[1..]).unwrap();
            assert_eq!(Journal::read(&path).unwrap(), all, "cut after {cut}");
        }
    }

    #[test]
    fn damage_in_the_middle_is_an_error_that_names_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(&[record(1)]).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"{\"at\":3}\n").unwrap();
        let error = Journal::read(&path).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_write_that_fails_leaves_the_journal_as_it_was() {
        let mut journal = Journal::for_tests_that_is_full();
        let error = journal.append(&[record(1)]).unwrap_err().to_string();
        assert!(error.contains("/dev/full") && error.contains("No space"), "{error}");
        assert_eq!(journal.len, 0);
    }
}
