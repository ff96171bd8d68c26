//! The golden snapshot: a VM of the pool as it was before it had any holder, which the others are reset to.
//!
//! It is taken of the first VM that is made, anew each time the pool is served, since the pool's VMs may then be made of
//! something else; those that follow are made from it. It is in the pool's own directory and goes with it.

use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

use super::news::News;
use crate::snapshot::{Snapshot, SnapshotError, Snapshots, TakeError, take};
use crate::vm::VmDir;

/// Attempts to take it that fail in a row before no more are made: each costs the VM in question some seconds.
const MOST_FAILURES: u32 = 3;

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
    /// The next VM that is made is to be saved.
    Missing { failures: u32 },
    /// It is there.
    Taken(Box<Snapshot>),
    /// There will be none: VMs are made anew instead.
    Never,
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

    /// Takes it of `vm`, which nobody ever held, unless it is there or somebody is at it. That it fails is told, and is
    /// no fault of the VM's.
    pub(super) async fn offer(&self, vm: &VmDir) {
        let Ok(mut state) = self.state.try_lock() else { return };
        let State::Missing { failures } = *state else { return };
        *state = match self.take(vm).await {
            Ok(snapshot) => State::Taken(Box::new(snapshot)),
            Err(error) => {
                (self.tell)(News::NoGolden { vm: vm.spec().name.clone(), reason: error.to_string() });
                let hopeless = matches!(error, TakeError::Obstacle(_)) || failures + 1 >= MOST_FAILURES;
                if hopeless { State::Never } else { State::Missing { failures: failures + 1 } }
            }
        };
    }

    async fn take(&self, vm: &VmDir) -> Result<Snapshot, TakeError> {
        let snapshots = Snapshots::in_directory(self.directory.clone())?;
        take(vm, &snapshots, &self.name).await?;
        Ok(snapshots.find(&self.name)?)
    }

    /// It, if it is there now. While it is being taken it is not: a VM boots sooner than somebody else's is saved.
    pub(super) fn at_hand(&self) -> Option<Snapshot> {
        self.state.try_lock().ok().and_then(|state| taken(&state))
    }

    /// It, if it is there. Waits while it is being taken.
    pub(super) async fn get(&self) -> Option<Snapshot> {
        taken(&*self.state.lock().await)
    }

    /// Gives it up, because VMs cannot be restored from it. The next VM that is made is saved in its place.
    pub(super) async fn discard(&self) {
        let mut state = self.state.lock().await;
        if let State::Taken(snapshot) = &*state {
            // One that stays in the way is told of by the next to be taken.
            let _ = std::fs::remove_dir_all(snapshot.dir());
            *state = State::Missing { failures: 0 };
        }
    }
}

fn taken(state: &State) -> Option<Snapshot> {
    match state {
        State::Taken(snapshot) => Some((**snapshot).clone()),
        State::Missing { .. } | State::Never => None,
    }
}
