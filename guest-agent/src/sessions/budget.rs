//! Bytes that all sessions together may keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is left of an allowance; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// An allowance of so many bytes.
    pub(super) fn new(bytes: usize) -> Budget {
        Budget(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Takes so many bytes or none, and says which.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let enough = |left: usize| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough).is_ok()
    }

    /// Gives bytes back.
    pub(super) fn give(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
