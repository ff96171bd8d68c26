//! What is mounted where, for the root and for each volume.

use firstlight_protocol::boot_spec::{Disk, Mode, Root, RootSource, RootUpper, Volume, VolumeMode};

/// Directories of the initramfs in which the root is put together. They lie beneath the new root after the switch,
/// out of the program's sight, and init comes back to them to unmount.
pub(crate) const OLD_ROOT_DIRECTORIES: [&str; 3] = [LOWER, UPPER, NEW_ROOT];
const LOWER: &str = "/firstlight/mnt/lower";
const UPPER: &str = "/firstlight/mnt/upper";
/// Where the new root is mounted before the switch.
pub(crate) const NEW_ROOT: &str = "/firstlight/mnt/root";

/// One `mount(2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) what: What,
    pub(crate) place: Place,
    pub(crate) read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// The file system of a disk.
    Disk(Disk),
    /// An empty tmpfs, with the directories an overlay's upper layer needs.
    Scratch,
    /// A directory that is there already.
    Bind(String),
    /// An overlay of the directory `lower`, with what is written going below `scratch`.
    Overlay { lower: String, scratch: String },
}

/// Where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// At a path of init's own, made if missing.
    Own(String),
    /// At a path of the image's, made if missing, and never followed out of the root.
    InRoot(String),
    /// At a path of init's own from which it is taken away again once the overlay above it stands.
    Passing(String),
}

/// The mounts that make the root at [`NEW_ROOT`], in order.
///
/// Init comes back to an overlay's layers to unmount them. systemd never sees the place where they are mounted, so there
/// they pass: with the overlay's end their last user is gone.
pub(super) fn root(root: &Root, mode: Mode) -> Vec<Mount> {
    let own = |what, path: &str, read_only| Mount { what, place: Place::Own(path.to_owned()), read_only };
    let layer = |what, path: &str, read_only| {
        let place = match mode {
            Mode::Exec => Place::Own(path.to_owned()),
            Mode::Systemd => Place::Passing(path.to_owned()),
        };
        Mount { what, place, read_only }
    };
    let scratch = match &root.upper {
        RootUpper::Tmpfs => layer(What::Scratch, UPPER, false),
        RootUpper::Disk(disk) => layer(What::Disk(disk.clone()), UPPER, false),
        RootUpper::Direct | RootUpper::ReadOnly => {
            let read_only = root.upper == RootUpper::ReadOnly;
            return vec![own(source(root), NEW_ROOT, read_only)];
        }
    };
    let overlay = |lower: &str| What::Overlay { lower: lower.to_owned(), scratch: UPPER.to_owned() };
    match &root.source {
        RootSource::Initramfs(path) => vec![scratch, own(overlay(path), NEW_ROOT, false)],
        RootSource::Disk(_) => {
            vec![layer(source(root), LOWER, true), scratch, own(overlay(LOWER), NEW_ROOT, false)]
        }
    }
}

fn source(root: &Root) -> What {
    match &root.source {
        RootSource::Initramfs(path) => What::Bind(path.clone()),
        RootSource::Disk(disk) => What::Disk(disk.clone()),
    }
}

/// The mounts of the volume at `index`, in order.
pub(super) fn volume(index: usize, volume: &Volume, target: &str) -> Vec<Mount> {
    let disk = What::Disk(volume.disk.clone());
    let place = Place::InRoot(target.to_owned());
    match volume.mode {
        VolumeMode::Rw | VolumeMode::Ro => {
            vec![Mount { what: disk, place, read_only: volume.mode == VolumeMode::Ro }]
        }
        VolumeMode::Overlay => {
            let scratch = format!("/run/firstlight/volume{index}");
            let lower = format!("{scratch}/lower");
            vec![
                Mount { what: What::Scratch, place: Place::Passing(scratch.clone()), read_only: false },
                Mount { what: disk, place: Place::Passing(lower.clone()), read_only: true },
                Mount { what: What::Overlay { lower, scratch }, place, read_only: false },
            ]
        }
    }
}
