//! What baking puts into an image, and what an image needs to boot by itself.

use std::fs;
use std::path::{Path, PathBuf};

use firstlight_protocol::hex;
use firstlight_protocol::units::{Layout, Settings, WANTED_BY};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::tree::{Entry, Tree};
use super::{ImageError, sparse};
use crate::vm::Draft;
use crate::vm::spec::BakedSpec;

/// Where everything of ours is in an image.
pub(super) const HOME: &str = "/usr/lib/firstlight";
/// Where vendors put units. Source: `systemd.unit(5)`.
pub(super) const UNITS: &str = "/usr/lib/systemd/system";
/// What says that an image is baked, and with what.
const MARKER: &str = "/usr/lib/firstlight/baked.json";

const INIT: &str = "/usr/lib/firstlight/guest-init";
const AGENT: &str = "/usr/lib/firstlight/guest-agent";

/// How long a baked agent may take to listen: systemd's own default.
const READY_TIMEOUT_MS: u32 = 90_000;

/// The files that a VM made from a baked image has of its own, in its directory.
const ROOT: &str = "root.ext4";
const KERNEL: &str = "kernel";
const INITRD: &str = "initrd";

/// The content of the marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The version of host-ctl that baked.
    pub version: String,
    /// SHA-256 of guest-init, in hexadecimal.
    pub guest_init: String,
    /// SHA-256 of guest-agent, in hexadecimal.
    pub guest_agent: String,
}

impl Marker {
    /// The marker of an image, if it is baked.
    pub(super) fn of(tree: &Tree) -> Result<Option<Marker>, ImageError> {
        Ok(tree.read(MARKER)?.and_then(|text| serde_json::from_slice(&text).ok()))
    }
}

/// One file that baking installs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Its absolute path in the image.
    pub(super) path: String,
    /// What it is to be.
    pub(super) entry: Entry,
}

/// Everything baking installs, parents before what is in them and the marker last: an image with it is whole.
pub(super) fn items(init: &Path, agent: &Path) -> Result<Vec<Item>, ImageError> {
    let read = |path: &Path| fs::read(path).map_err(|error| ImageError::io("read", path, error));
    let (init, agent) = (read(init)?, read(agent)?);
    let digest = |bytes: &[u8]| hex::encode(&Sha256::digest(bytes));
    let marker = Marker {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        guest_init: digest(&init),
        guest_agent: digest(&agent),
    };
    // Strings alone, which are always JSON.
    let marker = serde_json::to_string_pretty(&marker).unwrap_or_default() + "\n";
    let item = |path: String, entry| Item { path, entry };
    let file = |path: &str, mode, bytes: Vec<u8>| item(path.to_owned(), Entry::File { mode, bytes });
    let wants = format!("{UNITS}/{WANTED_BY}.wants");
    let mut items = vec![
        item(HOME.to_owned(), Entry::Directory),
        file(INIT, 0o755, init),
        file(AGENT, 0o755, agent),
        item(wants.clone(), Entry::Directory),
    ];
    let layout = Layout {
        init: INIT,
        agent: Some(AGENT),
        settings: Settings::Credential,
        ready_timeout_ms: READY_TIMEOUT_MS,
    };
    for unit in layout.units() {
        items.push(file(&format!("{UNITS}/{}", unit.name), 0o644, unit.text.into_bytes()));
        let target = PathBuf::from(format!("../{}", unit.name));
        items.push(item(format!("{wants}/{}", unit.name), Entry::Link { target }));
    }
    items.push(file(MARKER, 0o644, marker.into_bytes()));
    Ok(items)
}

/// Makes the VM in `draft` its own copy of the baked image `image`, and takes the image's newest kernel and initrd out of
/// it where none are given.
///
/// # Errors
/// [`ImageError`], which says how to mend it.
pub fn prepare(
    image: &Path,
    kernel: Option<&Path>,
    initrd: Option<&Path>,
    draft: &Draft,
) -> Result<BakedSpec, ImageError> {
    let tree = Tree::open(image)?;
    let not_baked = || ImageError::NotBaked { path: image.to_owned() };
    let Tree::Ext4 { file_system, .. } = &tree else { return Err(not_baked()) };
    if Marker::of(&tree)?.is_none() {
        return Err(not_baked());
    }
    if !tree.is_clean()? {
        return Err(ImageError::NotClean { path: image.to_owned() });
    }
    let place = |name: &str, given: Option<&Path>, prefix: &'static str, what| match given {
        Some(path) => path.canonicalize().map_err(|error| ImageError::io("find", path, error)),
        None => extract(&tree, prefix, what, &draft.path().join(name)).map(|()| PathBuf::from(name)),
    };
    let baked = BakedSpec {
        root: ROOT.into(),
        root_uuid: file_system.uuid().to_string(),
        kernel: place(KERNEL, kernel, "vmlinuz-", "kernel")?,
        initrd: place(INITRD, initrd, "initrd.img-", "initrd")?,
    };
    sparse::copy(image, &draft.path().join(ROOT))?;
    Ok(baked)
}

/// Takes the newest file of `/boot` whose name begins with `prefix` out of an image.
fn extract(tree: &Tree, prefix: &str, what: &'static str, to: &Path) -> Result<(), ImageError> {
    let missing = || ImageError::NoKernel { path: tree.path().to_owned(), what };
    let releases = releases(tree, prefix)?;
    let newest = releases.last().ok_or_else(missing)?;
    let bytes = tree.read(&format!("/boot/{prefix}{newest}"))?.ok_or_else(missing)?;
    fs::write(to, bytes).map_err(|error| ImageError::io("write", to, error))
}

/// The releases of which `/boot` has a file with this prefix, oldest first.
pub(super) fn releases(tree: &Tree, prefix: &str) -> Result<Vec<String>, ImageError> {
    let names = tree.list("/boot")?;
    let mut releases: Vec<String> =
        names.iter().filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned).collect();
    releases.sort_by_key(|release| numbers(release));
    Ok(releases)
}

/// The numbers in a release, by which 6.1.0-9 is older than 6.1.0-10.
fn numbers(release: &str) -> Vec<u64> {
    release
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_told_by_its_numbers() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("boot")).unwrap();
        for release in ["6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64", "5.10.0-30-amd64"] {
            fs::write(directory.path().join("boot").join(format!("vmlinuz-{release}")), "").unwrap();
        }
        let tree = Tree::open(directory.path()).unwrap();
        let releases = releases(&tree, "vmlinuz-").unwrap();
        assert_eq!(releases, ["5.10.0-30-amd64", "6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64"]);
    }
}
