//! What the monitor knows, and whether it is on disk.

use std::path::Path;

use crate::vm::journal::JournalError;
use crate::vm::{Entry, Fold, Journal, Record};

/// The journal, what it adds up to, and what could not be written to it yet.
#[derive(Debug)]
pub(super) struct Ledger {
    journal: Journal,
    fold: Fold,
    /// The records of the latest boot, for those who subscribe.
    boot: Vec<Record>,
    /// How many at the end of `boot` are not on disk.
    unpersisted: usize,
}

/// What became of records.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The new ones.
    pub(super) records: Vec<Record>,
    /// Whether they are on disk.
    pub(super) persisted: bool,
}

impl Ledger {
    /// Opens the journal at `path`. The caller holds the monitor's lock.
    pub(super) fn open(path: &Path) -> Result<Ledger, JournalError> {
        let (journal, records) = Journal::open(path)?;
        let is_start = |record: &Record| matches!(record.entry, Entry::BootStarted { .. });
        let start = records.iter().rposition(is_start).unwrap_or(records.len());
        let fold = Fold::of(&records);
        Ok(Ledger { journal, fold, boot: records[start..].to_vec(), unpersisted: 0 })
    }

    /// What is known.
    pub(super) fn fold(&self) -> &Fold {
        &self.fold
    }

    /// The latest boot's records, and how many of them, at the end, are not on disk.
    pub(super) fn boot(&self) -> (&[Record], usize) {
        (&self.boot, self.unpersisted)
    }

    /// Writes one record down or fails: for what must not happen unrecorded.
    pub(super) fn require(&mut self, entry: Entry) -> Result<(), JournalError> {
        let record = Record::now(entry);
        self.journal.append(std::slice::from_ref(&record))?;
        self.add(&record);
        Ok(())
    }

    /// Writes records down, or keeps them in memory for [`Ledger::retry`] when the disk takes none. An event that is
    /// known already is no record.
    pub(super) fn keep(&mut self, entries: Vec<Entry>) -> Kept {
        let mut records = Vec::new();
        for entry in entries {
            let record = Record::now(entry);
            if !self.is_known(&record) {
                self.add(&record);
                records.push(record);
            }
        }
        self.unpersisted += records.len();
        // Behind earlier ones that wait: the journal keeps their order.
        let persisted = records.is_empty() || self.retry();
        Kept { records, persisted }
    }

    /// Tries again to write down what is not yet; `true` when everything is on disk.
    pub(super) fn retry(&mut self) -> bool {
        self.flush().is_ok()
    }

    /// Writes down what is not yet.
    pub(super) fn flush(&mut self) -> Result<(), JournalError> {
        let from = self.boot.len() - self.unpersisted;
        if self.unpersisted > 0 {
            self.journal.append(&self.boot[from..])?;
            self.unpersisted = 0;
        }
        Ok(())
    }

    fn is_known(&self, record: &Record) -> bool {
        let Entry::Event { sentinel, .. } = &record.entry else { return false };
        let boot = self.fold.boot().filter(|boot| boot.id == sentinel.boot);
        boot.is_none_or(|boot| boot.events.contains_key(&sentinel.seq))
    }

    fn add(&mut self, record: &Record) {
        if matches!(record.entry, Entry::BootStarted { .. }) {
            self.boot.clear();
        }
        self.fold.apply(record);
        self.boot.push(record.clone());
    }
}

#[cfg(test)]
mod tests {
    use firstlight_protocol::hex::BootId;
    use firstlight_protocol::sentinel::{Event, Sentinel};

    use super::*;
    use crate::vm::record::Source;

    const BOOT: BootId = BootId([1; 4]);

    fn event(boot: BootId, seq: u64) -> Entry {
        let sentinel = Sentinel { boot, seq, t: seq, event: Event::AgentReady };
        Entry::Event { sentinel, source: Source::Vsock }
    }

    fn ledger(dir: &Path) -> Ledger {
        let mut ledger = Ledger::open(&dir.join("journal")).unwrap();
        ledger.require(Entry::BootStarted { boot_id: BOOT, host_boot: "h".into() }).unwrap();
        ledger
    }

    #[test]
    fn an_event_heard_twice_or_of_another_boot_is_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = ledger(dir.path());
        let kept = ledger.keep(vec![event(BOOT, 1), event(BOOT, 1), event(BootId([9; 4]), 2)]);
        assert_eq!(kept.records.len(), 1);
        assert!(kept.persisted);
        assert_eq!(ledger.keep(vec![event(BOOT, 1)]).records, []);
        assert_eq!(Journal::read(&dir.path().join("journal")).unwrap().len(), 2);
    }

    #[test]
    fn what_a_full_disk_refuses_is_known_said_to_be_unpersisted_and_written_in_order_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut ledger = ledger(dir.path());
        // Refuses every write with ENOSPC, as a full disk does.
        let full = Journal::for_tests_that_is_full();
        let good = std::mem::replace(&mut ledger.journal, full);
        for seq in 1..=2 {
            assert!(!ledger.keep(vec![event(BOOT, seq)]).persisted);
        }
        assert_eq!(ledger.fold().boot().unwrap().events.len(), 2);
        assert_eq!(ledger.boot().1, 2);
        ledger.journal = good;
        assert!(ledger.keep(vec![event(BOOT, 3)]).persisted);
        let records = Journal::read(&path).unwrap();
        assert_eq!(records, ledger.boot().0);
        assert_eq!(records.len(), 4);
    }
}
