//! Kernel modules, from the initramfs into the kernel.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use firstlight_protocol::module_manifest::{ManifestError, ModuleManifest, PATH, module_path};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sys::stat::Mode;

use crate::error::{CallError, Cause};
use crate::files;
use crate::wait::lock;

/// A module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Cause for ModuleError {
    fn errno(&self) -> Option<Errno> {
        match self {
            ModuleError::Call(error) => error.errno(),
            ModuleError::Manifest(_) => None,
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            ModuleError::Call(error) => error.path(),
            ModuleError::Manifest(_) => Some(PATH),
        }
    }
}

/// Reads the manifest of the initramfs; without the file there are no modules, as on a kernel that has all built in.
///
/// # Errors
/// [`ModuleError`] when the file cannot be read or understood.
pub(crate) fn manifest() -> Result<ModuleManifest, ModuleError> {
    let text = files::read(PATH, u64::MAX)?;
    Ok(text.map(ModuleManifest::parse).transpose()?.unwrap_or_default())
}

/// Loads modules, each once.
#[derive(Debug)]
pub(crate) struct Loader {
    initramfs: Arc<OwnedFd>,
    /// Those that are loaded. Held while the kernel takes one in: asked for it twice, it would answer EEXIST before the module
    /// works. And two at once on two processors have each change its page tables and code under the other's feet, and
    /// interrupt it each time; one after the other they are done sooner.
    loaded: Mutex<Vec<String>>,
}

impl Loader {
    /// Loads from this initramfs.
    pub(crate) fn new(initramfs: Arc<OwnedFd>) -> Loader {
        Loader { initramfs, loaded: Mutex::default() }
    }

    /// Loads the modules in this order, leaving out those that are loaded already.
    ///
    /// # Errors
    /// The first [`ModuleError`].
    pub(crate) fn load(&self, names: &[impl AsRef<str>]) -> Result<(), ModuleError> {
        self.load_with(names, |path| insert(&self.initramfs, path))
    }

    fn load_with(
        &self,
        names: &[impl AsRef<str>],
        insert: impl Fn(&str) -> Result<(), CallError>,
    ) -> Result<(), ModuleError> {
        let mut loaded = lock(&self.loaded);
        for name in names {
            let name = name.as_ref();
            if !loaded.iter().any(|known| known == name) {
                insert(&module_path(name))?;
                loaded.push(name.to_owned());
            }
        }
        Ok(())
    }
}

/// Puts one module into the kernel. One that is built in, or was loaded by the kernel itself, is as good.
fn insert(initramfs: &OwnedFd, path: &str) -> Result<(), CallError> {
    const NO_PARAMETERS: &CStr = c"";
    let relative = path.trim_start_matches('/');
    let file = openat(initramfs, relative, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(CallError::on("open the module", path))?;
    match finit_module(file, NO_PARAMETERS, ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(CallError::on("load the module", path)(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn loader() -> Loader {
        Loader::new(Arc::new(std::fs::File::open("/").unwrap().into()))
    }

    #[test]
    fn a_module_that_two_stages_need_is_loaded_once_and_one_that_failed_is_tried_again() {
        let loader = loader();
        let asked = RefCell::new(Vec::new());
        let insert = |path: &str| {
            asked.borrow_mut().push(path.to_owned());
            let fails = path.contains("net") && asked.borrow().len() == 2;
            if fails { Err(CallError::on("load", path)(Errno::ENOEXEC)) } else { Ok(()) }
        };
        let error = loader.load_with(&["virtio", "virtio_net", "vsock"], insert).unwrap_err();
        assert_eq!(error.path(), Some("/firstlight/modules/virtio_net.ko"));
        loader.load_with(&["virtio", "virtio_net"], insert).unwrap();
        let path = |name| module_path(name);
        assert_eq!(*asked.borrow(), [path("virtio"), path("virtio_net"), path("virtio_net")]);
    }

    #[test]
    fn a_missing_module_is_named() {
        let error = loader().load(&["no_such_module"]).unwrap_err();
        assert_eq!(error.path(), Some("/firstlight/modules/no_such_module.ko"));
        assert_eq!(error.errno(), Some(Errno::ENOENT));
    }
}
