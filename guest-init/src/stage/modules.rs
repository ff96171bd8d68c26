//! Kernel modules, from the initramfs into the kernel.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use firstlight_protocol::module_manifest::{ManifestError, ModuleManifest, PATH, module_path};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sys::stat::Mode;

use crate::error::{CallError, Cause};
use crate::wait::{Deadline, lock};

/// How long a stage waits for a module that another one is loading.
const SHARED_LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that most manifests fit in, and are read at once.
const USUAL_BYTES: usize = 4 << 10;

/// A module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("another stage could not load this module")]
    LoadedInVain { path: String },
    #[error("waited {}s for another stage to load this module", SHARED_LOAD_TIMEOUT.as_secs())]
    Timeout { path: String },
}

impl Cause for ModuleError {
    fn errno(&self) -> Option<Errno> {
        match self {
            ModuleError::Call(error) => error.errno(),
            ModuleError::Timeout { .. } => Some(Errno::ETIMEDOUT),
            ModuleError::Manifest(_) | ModuleError::LoadedInVain { .. } => None,
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            ModuleError::Call(error) => error.path(),
            ModuleError::Manifest(_) => Some(PATH),
            ModuleError::LoadedInVain { path } | ModuleError::Timeout { path } => Some(path),
        }
    }
}

/// Reads the manifest of the initramfs; without the file there are no modules, as on a kernel that has all built in.
///
/// # Errors
/// [`ModuleError`] when the file cannot be read or understood.
pub(crate) fn manifest() -> Result<ModuleManifest, ModuleError> {
    let mut text = String::with_capacity(USUAL_BYTES);
    // All of it; only a file by itself is asked for its size first.
    match File::open(PATH).and_then(|file| file.take(u64::MAX).read_to_string(&mut text)) {
        Ok(_) => Ok(ModuleManifest::parse(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(ModuleManifest::default()),
        Err(error) => Err(CallError::io("read", PATH)(error).into()),
    }
}

/// Loads modules for several stages at once, each module once. A stage that needs a module another one is
/// loading waits for it: the kernel would answer EEXIST before the module works.
#[derive(Debug)]
pub(crate) struct Loader {
    initramfs: Arc<OwnedFd>,
    modules: Mutex<Vec<(String, Progress)>>,
    changed: Condvar,
    /// Held while the kernel takes a module in. Two at once on two processors have each change its page tables and code
    /// under the other's feet, and interrupt it each time; one after the other they are done sooner.
    turn: Mutex<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Loading,
    Loaded,
    Failed,
}

impl Loader {
    /// Loads from this initramfs.
    pub(crate) fn new(initramfs: Arc<OwnedFd>) -> Loader {
        Loader { initramfs, modules: Mutex::default(), changed: Condvar::new(), turn: Mutex::default() }
    }

    /// Loads the modules in this order, leaving out those that are loaded already.
    ///
    /// # Errors
    /// The first [`ModuleError`].
    pub(crate) fn load(&self, names: &[impl AsRef<str>]) -> Result<(), ModuleError> {
        names.iter().try_for_each(|name| self.load_one(name.as_ref(), |path| insert(&self.initramfs, path)))
    }

    fn load_one(
        &self,
        name: &str,
        insert: impl FnOnce(&str) -> Result<(), CallError>,
    ) -> Result<(), ModuleError> {
        let path = module_path(name);
        if !self.claim(name, &path)? {
            return Ok(());
        }
        let result = {
            let _turn = lock(&self.turn);
            insert(&path)
        };
        let progress = if result.is_ok() { Progress::Loaded } else { Progress::Failed };
        for (known, of_known) in lock(&self.modules).iter_mut() {
            if known == name {
                *of_known = progress;
            }
        }
        self.changed.notify_all();
        Ok(result?)
    }

    /// `true` when the caller has to load the module, `false` when it is loaded.
    fn claim(&self, name: &str, path: &str) -> Result<bool, ModuleError> {
        let deadline = Deadline::after(SHARED_LOAD_TIMEOUT);
        let mut modules = lock(&self.modules);
        loop {
            match modules.iter().find(|(known, _)| known == name).map(|(_, progress)| progress) {
                None => {
                    modules.push((name.to_owned(), Progress::Loading));
                    return Ok(true);
                }
                Some(Progress::Loaded) => return Ok(false),
                Some(Progress::Failed) => return Err(ModuleError::LoadedInVain { path: path.to_owned() }),
                Some(Progress::Loading) if deadline.passed() => {
                    return Err(ModuleError::Timeout { path: path.to_owned() });
                }
                Some(Progress::Loading) => {
                    let waited = self.changed.wait_timeout(modules, deadline.remaining());
                    modules = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
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
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    fn loader() -> Loader {
        Loader::new(Arc::new(std::fs::File::open("/").unwrap().into()))
    }

    #[test]
    fn a_module_that_two_stages_need_is_loaded_once_and_both_wait_for_it() {
        let loader = loader();
        let loads = AtomicU32::new(0);
        let (started, has_started) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        std::thread::scope(|scope| {
            let (loader, loads) = (&loader, &loads);
            let first = scope.spawn(move || {
                loader.load_one("virtio", |_| {
                    started.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    loads.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })
            });
            has_started.recv().unwrap();
            let second = scope.spawn(move || {
                loader.load_one("virtio", |_| panic!("loaded twice")).map(|()| loads.load(Ordering::SeqCst))
            });
            go_on.send(()).unwrap();
            first.join().unwrap().unwrap();
            assert_eq!(second.join().unwrap().unwrap(), 1, "the second did not wait for the first");
        });
    }

    #[test]
    fn a_module_that_failed_fails_whoever_needs_it() {
        let loader = loader();
        loader.load_one("virtio", |path| Err(CallError::on("load", path)(Errno::ENOEXEC))).unwrap_err();
        let error = loader.load_one("virtio", |_| Ok(())).unwrap_err();
        assert_eq!(error.path(), Some("/firstlight/modules/virtio.ko"));
    }

    #[test]
    fn a_missing_module_is_named() {
        let error = loader().load(&["no_such_module"]).unwrap_err();
        assert_eq!(error.path(), Some("/firstlight/modules/no_such_module.ko"));
        assert_eq!(error.errno(), Some(Errno::ENOENT));
    }
}
