//! The snapshots of a state directory. One is prepared in a hidden directory and appears by one `rename(2)` once all of
//! it is on disk, so nothing that looks whole ever is not.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::disks::link;
use super::manifest::{Disk, Manifest, Shared, VERSION};
use super::platform::{Platform, stamp};
use super::{Saved, Sealed, SnapshotError, name};
use crate::clock::{Stamp, rfc3339};
use crate::vm::hidden_dir::{self, HiddenDir};
use crate::vm::id::is_name;
use crate::vm::lock::Lock;
use crate::vm::spec::RootSpec;
use crate::vm::store::StoreError;
use crate::vm::{Store, VmDir};

/// All snapshots.
#[derive(Debug, Clone)]
pub struct Snapshots {
    dir: PathBuf,
}

/// A snapshot's name, and the snapshot if it can be read.
pub type Listed = (String, Result<Snapshot, SnapshotError>);

/// One snapshot, whole.
#[derive(Debug, Clone)]
pub struct Snapshot {
    dir: PathBuf,
    manifest: Manifest,
}

/// A snapshot that nobody sees yet. Dropping it removes it; so does the next draft when its process was killed.
#[derive(Debug)]
pub struct SnapshotDraft {
    dir: HiddenDir,
    target: PathBuf,
    name: String,
}

impl Snapshots {
    /// Those of the state directory of `store`.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn open(store: &Store) -> Result<Snapshots, SnapshotError> {
        Snapshots::in_directory(store.root().join("snapshots"))
    }

    /// Those in `dir`, which is made where it is missing. VMs can be made of them whose directories are in the same file
    /// system.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn in_directory(dir: PathBuf) -> Result<Snapshots, SnapshotError> {
        make_private_dir(&dir)?;
        Ok(Snapshots { dir })
    }

    /// Begins a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError::NameTaken`] already here, so that nobody is held still in vain.
    pub fn draft(&self, name: &str) -> Result<SnapshotDraft, SnapshotError> {
        if !is_name(name) {
            return Err(SnapshotError::BadName { name: name.to_owned() });
        }
        let target = self.dir.join(name);
        if target.exists() {
            return Err(SnapshotError::NameTaken { name: name.to_owned() });
        }
        hidden_dir::sweep(&self.dir, name::LOCK);
        let dir = HiddenDir::make(&self.dir, name, name::LOCK)?;
        Ok(SnapshotDraft { dir, target, name: name.to_owned() })
    }

    /// Every snapshot, by name. One that cannot be read is an inner error.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn list(&self) -> Result<Vec<Listed>, SnapshotError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(SnapshotError::io("read", &self.dir))? {
            let entry = entry.map_err(SnapshotError::io("read", &self.dir))?;
            names.extend(entry.file_name().into_string().ok().filter(|name| is_name(name)));
        }
        names.sort();
        Ok(names
            .into_iter()
            .map(|name| {
                let snapshot = self.find(&name);
                (name, snapshot)
            })
            .collect())
    }

    /// The snapshot `name`.
    ///
    /// # Errors
    /// [`SnapshotError::NotFound`], or [`SnapshotError::Corrupt`] without a manifest that can be read.
    pub fn find(&self, name: &str) -> Result<Snapshot, SnapshotError> {
        let dir = self.dir.join(name);
        if !is_name(name) || !dir.exists() {
            return Err(SnapshotError::NotFound { name: name.to_owned() });
        }
        let corrupt = |reason: String| SnapshotError::Corrupt { name: name.to_owned(), reason };
        let path = dir.join(name::MANIFEST);
        let text = fs::read(&path).map_err(|error| corrupt(format!("{}: {error}", name::MANIFEST)))?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| corrupt(format!("{}: {error}", name::MANIFEST)))?;
        if manifest.version != VERSION {
            return Err(corrupt(format!(
                "its version is {}, and this build reads {VERSION}",
                manifest.version
            )));
        }
        Ok(Snapshot { dir, manifest })
    }

    /// Removes the snapshot `name`. The VMs that were made of it keep what they need.
    ///
    /// # Errors
    /// [`SnapshotError::NotFound`].
    pub fn remove(&self, name: &str) -> Result<(), SnapshotError> {
        let dir = self.dir.join(name);
        if !is_name(name) || !dir.exists() {
            return Err(SnapshotError::NotFound { name: name.to_owned() });
        }
        let path = dir.join(name::LOCK);
        let removed = match Lock::try_take(&path) {
            Ok(Some(lock)) => hidden_dir::remove(&dir, name::LOCK, &lock),
            // Somebody else removes it.
            Ok(None) => return Err(SnapshotError::NotFound { name: name.to_owned() }),
            Err(source) => Err(StoreError::Io { operation: "lock", path, source }),
        };
        match removed {
            // Or has just done so.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(SnapshotError::NotFound { name: name.to_owned() })
            }
            removed => Ok(removed?),
        }
    }
}

impl Snapshot {
    /// What it is.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was known of its guest.
    ///
    /// # Errors
    /// [`SnapshotError::Corrupt`].
    pub fn saved(&self) -> Result<Saved, SnapshotError> {
        Saved::read(&self.dir.join(name::GUEST), &self.manifest.name)
    }
}

impl SnapshotDraft {
    /// The directory that the monitor fills.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the snapshot of `vm`, whose memory and `disks` are in place.
    ///
    /// # Errors
    /// [`SnapshotError`]; nothing is left then.
    pub fn commit(self, vm: &VmDir, disks: Vec<Disk>, platform: Platform) -> Result<Manifest, SnapshotError> {
        let linked = self.link_own_files(vm)?;
        let files = self.seal(&disks, &linked)?;
        self.make_read_only(&disks)?;
        let manifest = Manifest {
            version: VERSION,
            name: self.name.clone(),
            vm: vm.spec().name.clone(),
            vm_id: vm.spec().id,
            created_at: rfc3339(Stamp::now().wall_ns),
            size: files.iter().map(|sealed| sealed.seal.length).sum(),
            files,
            disks,
            linked,
            shared: shared(vm)?,
            platform,
            spec: vm.spec().clone(),
        };
        let path = self.dir().join(name::MANIFEST);
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| SnapshotError::io("encode", &path)(error.into()))?;
        fs::write(&path, text).map_err(SnapshotError::io("write", &path))?;
        sync_tree(self.dir()).map_err(SnapshotError::io("sync", self.dir()))?;
        self.dir.show(&self.target).map_err(|source| {
            if matches!(source.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) {
                SnapshotError::NameTaken { name: self.name.clone() }
            } else {
                SnapshotError::io("make", &self.target)(source)
            }
        })?;
        let parent = self.target.parent().unwrap_or(&self.target);
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(SnapshotError::io("sync", parent))?;
        Ok(manifest)
    }

    /// What the files are now: the guest goes on meanwhile, and never sees them again.
    fn seal(&self, disks: &[Disk], linked: &[PathBuf]) -> Result<Vec<Sealed>, SnapshotError> {
        let own = own_files(disks);
        own.chain(linked.iter().cloned()).map(|file| Sealed::of(self.dir(), &file)).collect()
    }

    /// Guards what VMs are to begin with against a slip. To map a memory privately QEMU wants to be allowed to write to the
    /// file (before 8.2, which has `rom=off`), although it never does; root always is.
    fn make_read_only(&self, disks: &[Disk]) -> Result<(), SnapshotError> {
        for file in own_files(disks) {
            let mode = if file == Path::new(name::MEMORY) && !geteuid().is_root() { 0o600 } else { 0o400 };
            let path = self.dir().join(file);
            let made = fs::set_permissions(&path, Permissions::from_mode(mode));
            made.map_err(SnapshotError::io("make read-only", &path))?;
        }
        Ok(())
    }

    /// A root that was made for the VM is in its directory, and goes with it.
    fn link_own_files(&self, vm: &VmDir) -> Result<Vec<PathBuf>, SnapshotError> {
        match &vm.spec().root {
            RootSpec::Image { path, .. } if path.is_relative() => {
                link(&vm.path().join(path), &self.dir().join(path))?;
                Ok(vec![path.clone()])
            }
            RootSpec::Image { .. } | RootSpec::Builtin => Ok(Vec::new()),
        }
    }
}

/// The files that are the snapshot's alone, its manifest apart.
fn own_files(disks: &[Disk]) -> impl Iterator<Item = PathBuf> {
    let layers = disks.iter().flat_map(|disk| &disk.layers).map(|layer| Path::new(name::DISKS).join(layer));
    name::BEGINNING.map(PathBuf::from).into_iter().chain(layers)
}

/// The images that stay where they are.
fn shared(vm: &VmDir) -> Result<Vec<Shared>, SnapshotError> {
    let disks = crate::boot::machine::disks(vm.spec());
    let stays = |disk: &crate::driver::config::DiskConfig| disk.read_only && disk.image.is_absolute();
    let shared = |image: PathBuf| Ok(Shared { stamp: stamp(&image)?, path: image });
    disks.into_iter().filter(stays).map(|disk| shared(disk.image)).collect()
}

fn make_private_dir(path: &Path) -> Result<(), SnapshotError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(SnapshotError::io("make", path))
}

/// Waits until everything in `dir`, and its names, are on disk.
fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshots() -> (tempfile::TempDir, Snapshots) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let snapshots = Snapshots::open(&store).unwrap();
        (dir, snapshots)
    }

    fn entries(snapshots: &Snapshots) -> usize {
        fs::read_dir(&snapshots.dir).unwrap().count()
    }

    #[test]
    fn a_draft_is_no_snapshot_and_leaves_nothing() {
        let (_dir, snapshots) = snapshots();
        let draft = snapshots.draft("one").unwrap();
        fs::write(draft.dir().join(name::MEMORY), b"half").unwrap();
        assert!(snapshots.list().unwrap().is_empty());
        assert!(matches!(snapshots.find("one"), Err(SnapshotError::NotFound { .. })));
        drop(draft);
        assert_eq!(entries(&snapshots), 0);
    }

    #[test]
    fn of_many_who_remove_a_snapshot_one_has_and_the_others_find_none() {
        let (_dir, snapshots) = snapshots();
        let together = std::sync::Barrier::new(8);
        for _ in 0..200 {
            fs::create_dir(snapshots.dir.join("old")).unwrap();
            let removed = std::thread::scope(|scope| {
                let remove = || {
                    together.wait();
                    snapshots.remove("old")
                };
                let tries: Vec<_> = (0..8).map(|_| scope.spawn(remove)).collect();
                let results = tries.into_iter().map(|removal| removal.join().unwrap());
                let done = results.filter(|result| match result {
                    Ok(()) => true,
                    Err(SnapshotError::NotFound { .. }) => false,
                    Err(error) => panic!("{error}"),
                });
                done.count()
            });
            assert_eq!((removed, entries(&snapshots)), (1, 0));
        }
    }

    #[test]
    fn a_snapshot_without_a_manifest_is_damaged_and_can_be_removed() {
        let (_dir, snapshots) = snapshots();
        fs::create_dir(snapshots.dir.join("bad")).unwrap();
        assert!(matches!(snapshots.find("bad"), Err(SnapshotError::Corrupt { .. })));
        assert!(matches!(snapshots.draft("bad"), Err(SnapshotError::NameTaken { .. })));
        snapshots.remove("bad").unwrap();
        assert_eq!(entries(&snapshots), 0);
        assert!(matches!(snapshots.remove("bad"), Err(SnapshotError::NotFound { .. })));
        assert!(matches!(snapshots.remove("../vms"), Err(SnapshotError::NotFound { .. })));
    }
}
