//! All VMs of a state directory: wakes when one appears, changes or goes.

use std::collections::HashMap;

use firstlight_host_ctl::vm::vm_dir::name;
use firstlight_host_ctl::vm::{Store, VmDir, VmId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::follow::{Follow, Step};
use crate::output::Failure;
use crate::watch::Watch;

/// One wake-up waits; more would say the same.
const QUEUE: usize = 1;

pub(crate) struct WatchAll {
    store: Store,
    names: Watch,
    followers: HashMap<VmId, JoinHandle<()>>,
    sender: mpsc::Sender<()>,
    changes: mpsc::Receiver<()>,
}

impl WatchAll {
    /// Begins to watch; changes from here on are not missed.
    pub(crate) fn new(store: &Store) -> Result<WatchAll, Failure> {
        let names = Watch::directory(&store.root().join("vms"))?;
        let (sender, changes) = mpsc::channel(QUEUE);
        let mut all = WatchAll { store: store.clone(), names, followers: HashMap::new(), sender, changes };
        all.follow()?;
        Ok(all)
    }

    /// Waits for the next change.
    pub(crate) async fn changed(&mut self) -> Result<(), Failure> {
        tokio::select! {
            changed = self.names.changed() => {
                changed?;
                self.follow()
            }
            _ = self.changes.recv() => Ok(()),
        }
    }

    /// Follows VMs that are new, and no longer those that are gone.
    fn follow(&mut self) -> Result<(), Failure> {
        let vms = self.store.list()?;
        self.followers.retain(|id, follower| {
            let stays = vms.iter().any(|vm| vm.spec().id == *id);
            if !stays {
                follower.abort();
            }
            stays
        });
        for vm in vms {
            let sender = &self.sender;
            self.followers.entry(vm.spec().id).or_insert_with(|| tokio::spawn(report(vm, sender.clone())));
        }
        Ok(())
    }
}

/// Reports each change of one VM, one boot after the other. An error ends it: the list shows what became of the VM.
async fn report(vm: VmDir, changes: mpsc::Sender<()>) {
    // Watched before the boot is followed, so that a start right after its end is not missed.
    while let Ok(watch) = Watch::file(&vm.file(name::JOURNAL)) {
        if follow_boot(&vm, &changes).await.is_err() || watch.changed().await.is_err() {
            return;
        }
    }
}

async fn follow_boot(vm: &VmDir, changes: &mpsc::Sender<()>) -> Result<(), Failure> {
    let mut follow = Follow::open(vm).await?;
    loop {
        let step = follow.next().await?;
        if step != Step::Output {
            // Full means that a wake-up waits already.
            let _ = changes.try_send(());
        }
        if step == Step::Ended {
            return Ok(());
        }
    }
}
