//! The golden snapshot: a VM of the pool as it was before it had any holder, which the others are reset to.
//!
//! It is taken of the first VM that is made, anew each time the pool is served, since the pool's VMs may then be made of
//! something else; those that follow are made from it. It is in the pool's own directory and goes with it.

use std::path::{Path, PathBuf};

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Duration, timeout};

use super::news::News;
use crate::snapshot::{Obstacle, Snapshot, SnapshotError, Snapshots, TakeError, take};
use crate::vm::VmDir;

/// Attempts to take it that fail in a row before no more are made: each costs the VM in question some seconds.
const MOST_FAILURES: u32 = 3;

/// How long a VM is not made because another is, from which it could then be restored: as long as a busy host under
/// emulation needs to boot it and to save it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where it is, in the pool's directory.
const DIRECTORY: &str = "golden";

/// Hears what happens.
pub(super) type Tell = Box<dyn Fn(News) + Send + Sync>;

/// The snapshot, or why there is none.
pub(super) struct Golden {
    directory: PathBuf,
    name: String,
    state: Mutex<State>,
    tell: Tell,
}

enum State {
    /// The next VM that is booted is to be saved.
    Missing { failures: u32 },
    /// It is there.
    Taken(Box<Snapshot>),
    /// There will be none: VMs are made anew instead.
    Never,
}

/// What a VM is made of.
pub(super) enum Source<'a> {
    /// It is restored from the golden snapshot.
    Golden(Box<Snapshot>),
    /// It is booted; with a turn it is to be saved then.
    Boot(Option<Turn<'a>>),
}

/// The right to make the VM that becomes the golden snapshot. Others wait for it to be used or dropped.
pub(super) struct Turn<'a> {
    golden: &'a Golden,
    state: MutexGuard<'a, State>,
}

impl Golden {
    /// That of `pool`, whose directory is `directory`. What an earlier process has left there may be of other VMs, and is
    /// removed.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub(super) fn new(pool: &str, directory: &Path, tell: Tell) -> Result<Golden, SnapshotError> {
        let directory = directory.join(DIRECTORY);
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SnapshotError::io("remove", &directory)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let state = Mutex::new(State::Missing { failures: 0 });
        Ok(Golden { directory, name: format!("{pool}-{DIRECTORY}"), state, tell })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What the next VM is to be made of. While another VM is made that is to be saved this waits for it: to be restored
    /// afterwards takes less of the host than to boot beside it.
    pub(super) async fn source(&self) -> Source<'_> {
        match timeout(PATIENCE, self.state.lock()).await {
            Ok(state) => self.source_in(state),
            Err(_) => Source::Boot(None),
        }
    }

    /// The turn to be saved, if that is nobody else's and there is need of it.
    pub(super) fn turn(&self) -> Option<Turn<'_>> {
        match self.source_in(self.state.try_lock().ok()?) {
            Source::Boot(turn) => turn,
            Source::Golden(_) => None,
        }
    }

    fn source_in<'a>(&'a self, state: MutexGuard<'a, State>) -> Source<'a> {
        match &*state {
            State::Taken(snapshot) => Source::Golden(snapshot.clone()),
            State::Missing { .. } => Source::Boot(Some(Turn { golden: self, state })),
            State::Never => Source::Boot(None),
        }
    }

    /// Gives `snapshot` up, because VMs cannot be restored from it. The next VM that is booted is saved in its place.
    pub(super) fn discard(&self, snapshot: &Snapshot) {
        // Whoever has the turn found none, so that it is given up already.
        let Ok(mut state) = self.state.try_lock() else { return };
        if let State::Taken(current) = &*state
            && current.manifest() == snapshot.manifest()
        {
            // One that stays in the way is told of by the next to be taken.
            let _ = std::fs::remove_dir_all(snapshot.dir());
            *state = State::Missing { failures: 0 };
        }
    }

    fn tell_of(&self, vm: &VmDir, error: &TakeError) {
        (self.tell)(News::NoGolden { vm: vm.spec().name.clone(), reason: error.to_string() });
    }

    async fn take(&self, vm: &VmDir) -> Result<Snapshot, TakeError> {
        let snapshots = Snapshots::in_directory(self.directory.clone())?;
        take(vm, &snapshots, &self.name).await?;
        Ok(snapshots.find(&self.name)?)
    }
}

impl Turn<'_> {
    /// Has nobody wait for a VM that cannot be saved, whatever it does.
    pub(super) fn unless_hopeless(mut self, vm: &VmDir) -> Option<Self> {
        let Some(obstacle) = Obstacle::of(vm.spec()) else { return Some(self) };
        self.golden.tell_of(vm, &TakeError::Obstacle(obstacle));
        *self.state = State::Never;
        None
    }

    /// Takes the snapshot of `vm`, which nobody ever held. That it fails is told, and is no fault of the VM's.
    pub(super) async fn save(mut self, vm: &VmDir) {
        let State::Missing { failures } = *self.state else { return };
        *self.state = match self.golden.take(vm).await {
            Ok(snapshot) => State::Taken(Box::new(snapshot)),
            Err(error) => {
                self.golden.tell_of(vm, &error);
                if failures + 1 >= MOST_FAILURES {
                    State::Never
                } else {
                    State::Missing { failures: failures + 1 }
                }
            }
        };
    }
}
