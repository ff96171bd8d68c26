//! A VM from a snapshot: made here, whole but not started. Its first boot loads the memory, later ones start anew on its
//! disks.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use firstlight_protocol::boot_spec::{Mac, Transport};

use super::platform::{Platform, stamp};
use super::{Memory, Plan, Sealed, Snapshot, SnapshotError, disks, name};
use crate::boot::machine;
use crate::vm::lock::Lock;
use crate::vm::spec::{NetworkSpec, UpperSpec, VmSpec};
use crate::vm::store::StoreError;
use crate::vm::{Store, VmDir, VmId};

/// Addresses of QEMU's user-mode network that restored guests get, by their last number. The boot that was saved has 15.
const HOSTS: std::ops::RangeInclusive<u8> = 16..=254;

/// How the new VM differs.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: VmId,
    /// Its host name; `None` keeps the snapshot's.
    pub hostname: Option<String>,
    /// Its network; `None` is the snapshot's kind, with addresses of its own.
    pub network: Option<NetworkSpec>,
    /// Variables for what runs in it from now on.
    pub environment: Vec<(String, String)>,
    /// Its labels, in place of the snapshot's.
    pub labels: BTreeMap<String, String>,
    /// How it gets its memory.
    pub memory: Memory,
    /// Whether it is held still until somebody resumes it.
    pub paused: bool,
}

/// Makes a VM that begins where `snapshot` was taken.
///
/// # Errors
/// [`SnapshotError`]; nothing is left then.
pub async fn make(store: &Store, snapshot: &Snapshot, identity: Identity) -> Result<VmDir, SnapshotError> {
    let manifest = snapshot.manifest();
    let here = Platform::of(&manifest.spec, Some(&manifest.platform)).await?;
    manifest.platform.check(&here, &manifest.name)?;
    if identity.memory == Memory::Mapped && manifest.spec.boot.transport != Transport::Serial {
        return Err(SnapshotError::Unmappable { name: manifest.name.clone() });
    }
    check_files(snapshot)?;
    // Two at a time could choose the same address.
    let lock = snapshot.dir().join(name::LOCK);
    let _choosing = Lock::take(&lock).await.map_err(SnapshotError::io("lock", &lock))?;
    let spec = spec(store, snapshot, &identity)?;
    let draft = store.draft(&identity.name)?;
    give_memory(snapshot, &identity, draft.path())?;
    for file in &manifest.linked {
        disks::link(&snapshot.dir().join(file), &draft.path().join(file))?;
    }
    disks::give(&manifest.disks, snapshot.dir(), draft.path()).await?;
    Ok(draft.commit(&spec)?)
}

/// The cheap half of looking for damage; the monitor reads every file whole before the guest moves.
fn check_files(snapshot: &Snapshot) -> Result<(), SnapshotError> {
    let manifest = snapshot.manifest();
    for sealed in &manifest.files {
        sealed.check_length(snapshot.dir(), &manifest.name)?;
    }
    for shared in &manifest.shared {
        let here = stamp(&shared.path)?;
        if here != shared.stamp {
            let (saved, name) = (shared.stamp.clone(), manifest.name.clone());
            return Err(SnapshotError::Mismatch { name, what: "the image", saved, here });
        }
    }
    snapshot.saved().map(drop)
}

fn give_memory(snapshot: &Snapshot, identity: &Identity, vm: &Path) -> Result<(), SnapshotError> {
    let into = vm.join(name::RESTORE);
    fs::create_dir(&into).map_err(SnapshotError::io("make", &into))?;
    for file in name::BEGINNING {
        disks::link(&snapshot.dir().join(file), &into.join(file))?;
    }
    let files = snapshot.manifest().files.iter().map(in_vm).collect();
    Plan { files, memory: identity.memory, paused: identity.paused }.write(vm)
}

/// The same file in a VM that begins with it, relative to the VM's directory.
fn in_vm(sealed: &Sealed) -> Sealed {
    let begins = name::BEGINNING.iter().any(|file| sealed.file == Path::new(file));
    let file = if begins { Path::new(name::RESTORE).join(&sealed.file) } else { sealed.file.clone() };
    Sealed { file, ..sealed.clone() }
}

fn spec(store: &Store, snapshot: &Snapshot, identity: &Identity) -> Result<VmSpec, SnapshotError> {
    let mut spec = snapshot.manifest().spec.clone();
    for (index, volume) in spec.volumes.iter_mut().enumerate() {
        let serial = machine::volume_disk(index);
        if snapshot.manifest().disks.iter().any(|disk| disk.serial == serial) {
            volume.image = disks::overlay(&serial);
        }
    }
    if let UpperSpec::Disk(image) = &mut spec.upper {
        *image = disks::overlay(machine::UPPER_DISK);
    }
    spec.network = network(store, &spec.network, identity)?;
    spec.name.clone_from(&identity.name);
    spec.id = identity.id;
    spec.hostname = identity.hostname.clone().or(spec.hostname);
    spec.program.env.extend(identity.environment.iter().cloned());
    spec.labels.clone_from(&identity.labels);
    spec.restored_from = Some(snapshot.manifest().name.clone());
    Ok(spec)
}

fn network(store: &Store, saved: &NetworkSpec, identity: &Identity) -> Result<NetworkSpec, SnapshotError> {
    let name = &identity.name;
    match (saved, &identity.network) {
        (NetworkSpec::None, None | Some(NetworkSpec::None)) => Ok(NetworkSpec::None),
        (NetworkSpec::None, Some(_)) => Err(SnapshotError::Network(format!(
            "{name} cannot have a network: the snapshot was taken without one, and a card cannot be added"
        ))),
        (_, Some(NetworkSpec::None)) => Err(SnapshotError::Network(format!(
            "{name} cannot be without a network: the snapshot was taken with a card"
        ))),
        (_, Some(tap @ NetworkSpec::Tap { .. })) => Ok(tap.clone()),
        (NetworkSpec::Tap { .. }, None) => Err(SnapshotError::Network(format!(
            "{name} needs a tap device and an address of its own: give them with --net tap:IF,address=CIDR"
        ))),
        (_, Some(NetworkSpec::User | NetworkSpec::Copy { .. }))
        | (NetworkSpec::User | NetworkSpec::Copy { .. }, None) => own_address(store),
    }
}

/// An address that no other VM of the state directory has.
fn own_address(store: &Store) -> Result<NetworkSpec, SnapshotError> {
    let taken: Vec<Ipv4Addr> =
        store.list()?.iter().filter_map(|vm| copy_address(&vm.spec().network)).collect();
    let mut free = HOSTS.map(|host| Ipv4Addr::new(10, 0, 2, host)).filter(|address| !taken.contains(address));
    // Each guest is alone in its network, so that two with one address are a nuisance and no fault.
    let address = free.next().unwrap_or(Ipv4Addr::new(10, 0, 2, *HOSTS.end()));
    let random = crate::random::bytes::<3>().map_err(|source| StoreError::Io {
        operation: "read",
        path: "/dev/urandom".into(),
        source,
    })?;
    Ok(NetworkSpec::Copy { mac: Mac([0x52, 0x54, 0x00, random[0], random[1], random[2]]), address })
}

fn copy_address(network: &NetworkSpec) -> Option<Ipv4Addr> {
    match network {
        NetworkSpec::Copy { address, .. } => Some(*address),
        NetworkSpec::None | NetworkSpec::User | NetworkSpec::Tap { .. } => None,
    }
}
