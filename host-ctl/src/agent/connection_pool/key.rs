//! What a connection leads to.

use std::fmt;
use std::sync::Arc;

/// How many times a VM was booted or restored before this time. A later boot or restore has the greater number.
///
/// Boot ids are random and a restored VM may show an old one, so they cannot tell which of two boots is the later;
/// the order of the VM's journal can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One boot of one VM: what connections are pooled by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The VM's id. A name will not do: it may be another VM's tomorrow.
    pub vm: Arc<str>,
    /// Which of its boots.
    pub generation: Generation,
}

impl Key {
    /// The key of boot `generation` of VM `vm`.
    pub fn new(vm: impl Into<Arc<str>>, generation: Generation) -> Key {
        Key { vm: vm.into(), generation }
    }

    /// Whether both name the same VM and `self` the earlier boot.
    #[must_use]
    pub fn is_older_than(&self, other: &Key) -> bool {
        self.vm == other.vm && self.generation < other.generation
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VM {} boot {}", self.vm, self.generation)
    }
}
