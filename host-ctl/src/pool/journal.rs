//! A pool's records on disk: what the policy wants remembered, on disk before it is acted on.
//!
//! Each record holds all there is to know of one VM, so the last one of each is enough, and a journal that has grown is
//! replaced by a short one: written beside it, synced, renamed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::policy::{Entry, Known, MemberId};
use crate::vm::journal::{JournalError, JsonLines};

/// The version of the records this build writes, and the only one it reads.
const VERSION: u32 = 1;

/// Records after which the journal is written anew.
const COMPACT_AFTER: usize = 4096;

/// The journal's name in the pool's directory.
const JOURNAL: &str = "journal";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
enum Line {
    /// The first one of each file.
    Pool {
        version: u32,
        /// The host's boot in which times and processes mean what they say.
        host_boot: String,
        next: MemberId,
    },
    #[serde(untagged)]
    Entry(Entry),
}

/// The records cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It is of another version.
    #[error("{}: its records are of version {found}, this build reads {VERSION}", .path.display())]
    Version {
        /// The journal.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A system call failed.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The records of a pool, open for more. The caller holds the pool's lock.
pub(super) struct Records {
    directory: PathBuf,
    host_boot: String,
    journal: JsonLines<Line>,
    known: Known,
    lines: usize,
}

impl Records {
    /// Reads what an earlier process of the pool left in `directory`, and begins a new file.
    pub(super) fn open(directory: &Path, host_boot: &str) -> Result<Records, RecordsError> {
        let path = directory.join(JOURNAL);
        let known = fold(&path, JsonLines::read(&path)?, host_boot)?;
        let journal = write_anew(directory, host_boot, &known)?;
        let (directory, host_boot) = (directory.to_owned(), host_boot.to_owned());
        Ok(Records { directory, host_boot, journal, known, lines: 0 })
    }

    /// What is known now.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// Adds records and waits until they are on disk. After an error none of them counts.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), RecordsError> {
        if entries.is_empty() {
            return Ok(());
        }
        let lines: Vec<Line> = entries.iter().copied().map(Line::Entry).collect();
        self.journal.append(&lines)?;
        entries.iter().for_each(|entry| self.known.apply(entry));
        self.lines += lines.len();
        if self.lines > COMPACT_AFTER + self.known.members.len() {
            self.journal = write_anew(&self.directory, &self.host_boot, &self.known)?;
            self.lines = 0;
        }
        Ok(())
    }
}

fn fold(path: &Path, lines: Vec<Line>, this_boot: &str) -> Result<Known, RecordsError> {
    let mut known = Known::default();
    let mut same_boot = true;
    for line in lines {
        match line {
            Line::Pool { version: VERSION, host_boot, next } => {
                same_boot = host_boot == this_boot;
                known.next = next;
            }
            Line::Pool { version, .. } => {
                return Err(RecordsError::Version { path: path.to_owned(), found: version });
            }
            Line::Entry(entry) => known.apply(&entry),
        }
    }
    if !same_boot {
        known.after_host_boot();
    }
    Ok(known)
}

/// Replaces the journal by one that says the same in as few lines as can be.
fn write_anew(directory: &Path, host_boot: &str, known: &Known) -> Result<JsonLines<Line>, RecordsError> {
    let (path, new) = (directory.join(JOURNAL), directory.join("journal.new"));
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| RecordsError::Io { operation, path, source }
    };
    // One that a crash left half-written.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &new)(error)),
        Ok(()) | Err(_) => {}
    }
    let first = Line::Pool { version: VERSION, host_boot: host_boot.to_owned(), next: known.next };
    let members = known.members.values().map(|saved| Line::Entry(Entry::Vm(*saved)));
    let lines: Vec<Line> = std::iter::once(first).chain(members).collect();
    JsonLines::open(&new)?.0.append(&lines)?;
    fs::rename(&new, &path).map_err(failed("rename", &new))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync", directory))?;
    Ok(JsonLines::open(&path)?.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::policy::{Saved, SavedPhase};
    use super::*;

    fn vm(number: u64, phase: SavedPhase) -> Entry {
        Entry::Vm(Saved { vm: MemberId(number), made_at: Duration::from_millis(17), uses: 3, phase })
    }

    #[test]
    fn what_was_appended_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let leased = SavedPhase::Leased { until: Duration::from_secs(99) };
        let mut records = Records::open(dir.path(), "boot").unwrap();
        records.append(&[vm(1, SavedPhase::Ready), vm(2, leased), vm(3, SavedPhase::Dirty)]).unwrap();
        records.append(&[Entry::Gone { vm: MemberId(3) }]).unwrap();
        let known = records.known().clone();
        drop(records);
        let again = Records::open(dir.path(), "boot").unwrap();
        assert_eq!(*again.known(), known);
        assert_eq!((again.known().next, again.known().members.len()), (MemberId(4), 2));
    }

    #[test]
    fn a_number_is_not_given_again_even_when_its_vm_and_its_record_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        Records::open(dir.path(), "boot").unwrap().append(&[vm(7, SavedPhase::Ready)]).unwrap();
        Records::open(dir.path(), "boot").unwrap().append(&[Entry::Gone { vm: MemberId(7) }]).unwrap();
        drop(Records::open(dir.path(), "boot").unwrap());
        assert_eq!(Records::open(dir.path(), "boot").unwrap().known().next, MemberId(8));
    }

    #[test]
    fn after_a_boot_of_the_host_every_vm_is_doubtful_and_no_lease_holds() {
        let dir = tempfile::tempdir().unwrap();
        let leased = SavedPhase::Leased { until: Duration::from_secs(99) };
        Records::open(dir.path(), "boot").unwrap().append(&[vm(1, leased)]).unwrap();
        let records = Records::open(dir.path(), "another boot").unwrap();
        assert_eq!(records.known().members[&MemberId(1)].phase, SavedPhase::Doubtful);
    }

    #[test]
    fn a_journal_that_has_grown_is_written_anew_and_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = Records::open(dir.path(), "boot").unwrap();
        for _ in 0..3 {
            records.append(&vec![vm(1, SavedPhase::Dirty); COMPACT_AFTER / 2]).unwrap();
        }
        let lines = std::fs::read_to_string(dir.path().join(JOURNAL)).unwrap().lines().count();
        assert!(lines < COMPACT_AFTER, "{lines} lines");
        let known = records.known().clone();
        drop(records);
        assert_eq!(*Records::open(dir.path(), "boot").unwrap().known(), known);
    }

    #[test]
    fn a_record_torn_at_any_byte_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JOURNAL);
        Records::open(dir.path(), "boot").unwrap().append(&[vm(1, SavedPhase::Ready)]).unwrap();
        let before = std::fs::read(&path).unwrap();
        Records::open(dir.path(), "boot").unwrap().append(&[vm(2, SavedPhase::Ready)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in before.len()..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let records = Records::open(dir.path(), "boot").unwrap();
            assert_eq!(records.known().members.len(), 1, "cut after {cut}");
        }
    }
}
