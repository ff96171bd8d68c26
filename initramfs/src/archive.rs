//! What goes where in an initramfs: the table "Inside the initramfs" of `docs/architecture.md`, as code.

use std::fs;
use std::path::Path;

use firstlight_protocol::boot_spec::{self, BootSpec};
use firstlight_protocol::module_manifest;

use crate::cpio::{Access, Archive, Kind};
use crate::modules::ModuleTree;
use crate::signature::{self, Signatures};
use crate::{Error, busybox, tree};

/// Where the agent is in an initramfs.
pub const AGENT_PATH: &str = "/firstlight/agent";

/// Where the built-in root file system is in an initramfs: the directory for
/// [`RootSource::Initramfs`](firstlight_protocol::boot_spec::RootSource::Initramfs).
pub const ROOT_PATH: &str = "/firstlight/root";

/// The archive that all VMs of one kind share.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// guest-init, a static binary of the host.
    pub init: &'a Path,
    /// guest-agent, a static binary of the host; `None` for VMs that run without one.
    pub agent: Option<&'a Path>,
    /// The `lib/modules/RELEASE` directory of the kernel that will be booted.
    pub modules_dir: &'a Path,
    /// The kernel modules to carry, by name, besides all that they need.
    pub modules: &'a [&'a str],
    /// Whether they keep their signatures.
    pub signatures: Signatures,
    /// The root file system to carry, at [`ROOT_PATH`].
    pub builtin_root: Option<BuiltinRoot<'a>>,
}

/// A root file system inside the initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltinRoot<'a> {
    /// A minimal one around this static busybox of the host.
    Busybox(&'a Path),
    /// A copy of this directory of the host.
    Directory(&'a Path),
}

impl Shared<'_> {
    /// Packs the archive.
    ///
    /// # Errors
    /// [`Error`], which names the file or the module.
    pub fn pack(&self) -> Result<Vec<u8>, Error> {
        let mut archive = Archive::new();
        // Without it, init would start without standard descriptors on a kernel whose own archive is empty.
        archive.add("/dev/console", Access::root(0o600), Kind::CharDevice { major: 5, minor: 1 })?;
        add_program(&mut archive, "/init", self.init)?;
        if let Some(agent) = self.agent {
            add_program(&mut archive, AGENT_PATH, agent)?;
        }
        self.add_modules(&mut archive)?;
        match self.builtin_root {
            Some(BuiltinRoot::Busybox(path)) => busybox::add(&mut archive, Path::new(ROOT_PATH), path)?,
            Some(BuiltinRoot::Directory(path)) => tree::add(&mut archive, path, Path::new(ROOT_PATH))?,
            None => {}
        }
        Ok(archive.finish())
    }

    fn add_modules(&self, archive: &mut Archive) -> Result<(), Error> {
        let tree = ModuleTree::read(self.modules_dir)?;
        let manifest = tree.resolve(self.modules)?;
        for name in manifest.names() {
            let mut module = tree.load(name)?;
            match self.signatures {
                Signatures::Keep => {}
                Signatures::Strip => signature::strip(&mut module),
            }
            archive.file(module_manifest::module_path(name), 0o644, &module)?;
        }
        archive.file(module_manifest::PATH, 0o644, manifest.text().as_bytes())
    }
}

/// The archive of one VM, to append to the shared one: its boot spec, readable by root alone because it holds the
/// boot's secrets.
///
/// # Errors
/// [`Error::BootSpec`] when init would refuse this boot spec: the host is a better place to hear it.
pub fn vm_segment(spec: &BootSpec) -> Result<Vec<u8>, Error> {
    let json = spec.to_json();
    BootSpec::from_json(json.as_bytes())?;
    let mut archive = Archive::new();
    archive.file(boot_spec::INITRAMFS_PATH, 0o600, json.as_bytes())?;
    Ok(archive.finish())
}

fn add_program(archive: &mut Archive, path: &str, source: &Path) -> Result<(), Error> {
    let program = fs::read(source).map_err(Error::io("read", source))?;
    archive.file(path, 0o755, &program)
}

#[cfg(test)]
mod tests;
