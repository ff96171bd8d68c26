//! The kernel a VM boots: unpacked on the host, once, so that no guest has to do it.
//!
//! A bzImage is a small program that unpacks the kernel proper. Emulated, that takes a tenth of a boot; the host does
//! it in a fraction of a second, and keeps the result. `docs/decisions/0021-kernel.md` says what it costs.

mod config;
mod unpack;

use std::fs;
use std::path::PathBuf;

pub use config::signatures;

use super::cache::{self, CacheError, Fingerprint};
use crate::vm::VmSpec;

/// Part of every fingerprint: another number for another way of unpacking.
const FORMAT: u8 = 1;

/// How many kernels the cache keeps. Each has some 50 MiB.
const KEPT: usize = 4;

/// The kernel to give the VMM: unpacked if it can be, and the one of the spec otherwise. A baked image's own kernel is taken
/// as it is: each VM has its copy, so none would find what another unpacked.
///
/// # Errors
/// [`CacheError`].
pub fn bootable(vm: &VmSpec) -> Result<PathBuf, CacheError> {
    if let Some(baked) = &vm.baked {
        return Ok(baked.kernel.clone());
    }
    let kernel = &vm.assets.kernel;
    let mut fingerprint = Fingerprint::new(FORMAT);
    fingerprint.file(Some(kernel))?;
    let path = vm.assets.cache.join("kernels").join(format!("{}.elf", fingerprint.finish()));
    if !path.exists() {
        let image = fs::read(kernel).map_err(cache::failed("read", kernel))?;
        let Some(vmlinux) = unpack::vmlinux(&image) else { return Ok(kernel.clone()) };
        cache::put(&path, &vmlinux, KEPT)?;
    }
    Ok(path)
}
