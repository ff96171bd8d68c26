//! A file system of its own that a test can fill.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file system, mounted until it is dropped.
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `mib` MiB; `None` for users who may not.
    ///
    /// # Panics
    /// When the directory cannot be made.
    #[must_use]
    pub fn mount(at: &Path, mib: u32) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={mib}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output().unwrap();
        mounted.status.success().then(|| SmallDisk { at: at.to_owned() })
    }

    /// Writes until the disk is full.
    ///
    /// # Panics
    /// When not even a file can be made.
    pub fn fill(&self) {
        let mut file = File::create(self.at.join("ballast")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    /// Makes room again.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn free(&self) {
        std::fs::remove_file(self.at.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: on a failed test a VM may still be in it, and the lab removes that one afterwards.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
