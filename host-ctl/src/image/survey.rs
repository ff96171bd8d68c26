//! `image inspect`: what an image carries.

use std::path::Path;

use serde::Serialize;

use super::ImageError;
use super::baked::{Marker, releases};
use super::tree::{Entry, Tree};

/// What an image carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// The version of this document; fields are added within one.
    pub version: u32,
    /// `directory` or `ext4`.
    pub kind: &'static str,
    /// `PRETTY_NAME` of `os-release(5)`.
    pub system: Option<String>,
    /// The modes of `run` that it can boot in.
    pub modes: Vec<&'static str>,
    /// The init that systemd mode would hand PID 1 to: where `/sbin/init` leads.
    pub init: Option<String>,
    /// The releases of the kernels in `/boot`, oldest first.
    pub kernels: Vec<String>,
    /// Those of the initrds there.
    pub initrds: Vec<String>,
    /// The kernel releases whose headers it has.
    pub headers: Vec<String>,
    /// What it was baked with.
    pub baked: Option<Marker>,
}

/// Looks at the image at `path`, a directory or an ext4 image.
///
/// # Errors
/// [`ImageError`].
pub fn survey(path: &Path) -> Result<Survey, ImageError> {
    let tree = Tree::open(path)?;
    let kind = match &tree {
        Tree::Directory(_) => "directory",
        Tree::Ext4 { .. } => "ext4",
    };
    let (kernels, initrds) = (releases(&tree, "vmlinuz-")?, releases(&tree, "initrd.img-")?);
    let (init, baked) = (init(&tree)?, Marker::of(&tree)?);
    let mut modes = vec!["exec"];
    if init.as_deref().is_some_and(|init| init.ends_with("/systemd")) {
        modes.push("systemd");
    }
    if baked.is_some() && !kernels.is_empty() && !initrds.is_empty() {
        modes.push("baked");
    }
    let (system, headers) = (system(&tree)?, headers(&tree)?);
    Ok(Survey { version: 1, kind, system, modes, init, kernels, initrds, headers, baked })
}

fn system(tree: &Tree) -> Result<Option<String>, ImageError> {
    // The first is a link to the second on most, which a directory's reader does not follow.
    let text = match tree.read("/etc/os-release")? {
        Some(text) => Some(text),
        None => tree.read("/usr/lib/os-release")?,
    };
    let text = text.map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    Ok(name.map(|name| name.trim_matches(['"', '\'']).to_owned()))
}

fn init(tree: &Tree) -> Result<Option<String>, ImageError> {
    for path in ["/sbin/init", "/usr/sbin/init"] {
        match tree.entry(path)? {
            Some(Entry::Link { target }) => return Ok(Some(target.display().to_string())),
            Some(Entry::File { .. }) => return Ok(Some(path.to_owned())),
            Some(Entry::Directory | Entry::Other) | None => {}
        }
    }
    Ok(None)
}

fn headers(tree: &Tree) -> Result<Vec<String>, ImageError> {
    let mut found = Vec::new();
    for directory in ["/usr/lib/modules", "/lib/modules"] {
        for release in tree.list(directory)? {
            if !found.contains(&release) && tree.entry(&format!("{directory}/{release}/build"))?.is_some() {
                found.push(release);
            }
        }
    }
    Ok(found)
}
