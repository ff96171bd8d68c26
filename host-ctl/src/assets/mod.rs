//! The files every boot is made from: where they are, and whether they are what they should be.
//!
//! Each is looked for where a flag says, then where an environment variable says, then where `make setup` or the build
//! puts it. One that is missing or of the wrong kind is an error here, before anything is made or started.

mod elf;
mod error;
mod kernel;
mod lookup;

use std::path::{Path, PathBuf};

pub use error::AssetError;
pub use lookup::Environment;

use crate::vm::spec::Assets;

/// What the user asked for; `None` is whatever is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `--kernel`.
    pub kernel: Option<PathBuf>,
    /// `--modules`: a `lib/modules/RELEASE` directory, or one above it that holds a single release.
    pub modules: Option<PathBuf>,
    /// Whether the built-in root is needed, and so a static busybox.
    pub builtin_root: bool,
}

/// Finds and checks everything.
///
/// # Errors
/// [`AssetError`], which names what is missing or wrong and says what to provide.
pub fn find(wanted: &Wanted, environment: &Environment) -> Result<Assets, AssetError> {
    let kernel = wanted.kernel.clone().or_else(|| environment.kernel.clone());
    let modules = wanted.modules.clone().or_else(|| environment.modules.clone());
    let current = environment.cache.join("kernel/current");
    let kernel = lookup::file("kernel", kernel, &[current.join("vmlinuz")])?;
    kernel::check(&kernel)?;
    let modules = lookup::modules(modules, &current.join("lib/modules"))?;
    let GuestPrograms { init, agent } = guest_programs(environment)?;
    let busybox = if wanted.builtin_root { Some(busybox(environment)?) } else { None };
    Ok(Assets {
        kernel,
        modules,
        guest_init: init,
        guest_agent: agent,
        busybox,
        vmm: lookup::command("qemu-system-x86_64", environment.vmm.clone(), &environment.path)?,
        vsock_backend: vsock_backend(environment)?,
        cache: environment.cache.clone(),
    })
}

/// The programs that run in guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPrograms {
    /// guest-init.
    pub init: PathBuf,
    /// guest-agent.
    pub agent: PathBuf,
}

/// Finds and checks the guest's programs alone.
///
/// # Errors
/// As [`find`].
pub fn guest_programs(environment: &Environment) -> Result<GuestPrograms, AssetError> {
    let program = |name: &'static str| -> Result<PathBuf, AssetError> {
        let path = lookup::file(name, None, &environment.guest_candidates(name))?;
        elf::check_static(&path)?;
        Ok(path)
    };
    Ok(GuestPrograms { init: program("guest-init")?, agent: program("guest-agent")? })
}

fn busybox(environment: &Environment) -> Result<PathBuf, AssetError> {
    let path = lookup::command("busybox", environment.busybox.clone(), &environment.path)?;
    elf::check_static(&path)?;
    Ok(path)
}

/// The kernel's own vsock needs no helper.
fn vsock_backend(environment: &Environment) -> Result<Option<PathBuf>, AssetError> {
    if has_kernel_vsock() {
        return Ok(None);
    }
    let candidates = [environment.cache.join("tools/bin/vhost-device-vsock")];
    match lookup::file("vhost-device-vsock", environment.vsock_backend.clone(), &candidates) {
        Ok(path) => Ok(Some(path)),
        Err(missing) => {
            lookup::command("vhost-device-vsock", None, &environment.path).map(Some).map_err(|_| missing)
        }
    }
}

/// Whether the host's kernel gives guests a vsock.
#[must_use]
pub fn has_kernel_vsock() -> bool {
    std::fs::File::options().read(true).write(true).open(Path::new("/dev/vhost-vsock")).is_ok()
}

#[cfg(test)]
mod tests;
