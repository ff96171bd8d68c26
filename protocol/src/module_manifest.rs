//! Which kernel modules an initramfs carries, and in which order each one's dependencies load.
//!
//! The host writes it when it packs an initramfs and init reads it at boot, so init never parses `modules.dep`.
//! The format is `modules.dep`'s own, with bare module names for paths: one `name: dep dep ...` a line, direct and
//! indirect dependencies together, in the order they have to be loaded. Source: `modules.dep(5)`, except that there
//! the order is reversed.

/// Where the manifest is in an initramfs.
pub const PATH: &str = "/firstlight/modules/manifest";

/// Where module `name` is in an initramfs.
#[must_use]
pub fn module_path(name: &str) -> String {
    format!("/firstlight/modules/{name}.ko")
}

/// A line of a manifest could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("module manifest, line {line}: {reason}")]
pub struct ManifestError {
    line: usize,
    reason: &'static str,
}

/// The modules of an initramfs. Names use underscores, as the kernel's own do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleManifest {
    /// The manifest as it is written. A boot asks for a few of its modules once, for which its lines are searched.
    text: String,
}

impl ModuleManifest {
    /// Adds a module with everything that has to be loaded before it, in order, unless it is there.
    pub fn insert(&mut self, name: &str, dependencies: &[String]) {
        if self.contains(name) {
            return;
        }
        self.text.push_str(name);
        self.text.push(':');
        for dependency in dependencies {
            self.text.push(' ');
            self.text.push_str(dependency);
        }
        self.text.push('\n');
    }

    /// Whether the initramfs carries this module. One it does not carry is taken to be built into the kernel.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.dependencies(name).is_some()
    }

    /// Every module, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries().map(|(name, _)| name)
    }

    /// What to load, in order and without repetition, so that all of `wanted` work. Wanted modules that are not
    /// in the manifest are left out.
    #[must_use]
    pub fn load_order(&self, wanted: &[&str]) -> Vec<String> {
        let mut order: Vec<String> = Vec::new();
        for &wanted in wanted {
            let Some(dependencies) = self.dependencies(wanted) else { continue };
            for module in words(dependencies).chain([wanted]) {
                if !order.iter().any(|known| known == module) {
                    order.push(module.to_owned());
                }
            }
        }
        order
    }

    /// The manifest as text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] with the line's number when a line has no colon or a name is not one a kernel module can
    /// have; names become paths, so nothing else is let through.
    pub fn parse(text: Vec<u8>) -> Result<ModuleManifest, ManifestError> {
        let text = String::from_utf8(text).map_err(|error| {
            let before = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            ManifestError { line: 1 + before.filter(|byte| **byte == b'\n').count(), reason: NOT_A_NAME }
        })?;
        for (index, line) in text.lines().enumerate() {
            let error = |reason| ManifestError { line: index + 1, reason };
            let (name, dependencies) = line.split_once(':').ok_or(error("no colon"))?;
            if !words(dependencies).chain([name]).all(is_module_name) {
                return Err(error(NOT_A_NAME));
            }
        }
        Ok(ModuleManifest { text })
    }

    /// Names and what follows them.
    fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter_map(|line| line.split_once(':'))
    }

    fn dependencies(&self, name: &str) -> Option<&str> {
        self.entries().find(|(known, _)| *known == name).map(|(_, dependencies)| dependencies)
    }
}

const NOT_A_NAME: &str = "not a module name";

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

/// Whether `name` can be a module's: letters, digits and underscores.
#[must_use]
pub fn is_module_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> ModuleManifest {
        let mut manifest = ModuleManifest::default();
        manifest.insert("virtio", &["virtio_ring".into()]);
        manifest.insert("virtio_ring", &[]);
        manifest.insert("virtio_blk", &["virtio_ring".into(), "virtio".into()]);
        manifest.insert("virtio_net", &["virtio_ring".into(), "virtio".into(), "failover".into()]);
        manifest.insert("failover", &[]);
        manifest
    }

    #[test]
    fn a_manifest_survives_text() {
        assert_eq!(ModuleManifest::parse(manifest().text().into()), Ok(manifest()));
    }

    #[test]
    fn dependencies_come_first_and_shared_ones_once() {
        let manifest = manifest();
        assert_eq!(
            manifest.load_order(&["virtio_blk", "virtio_net", "ext4"]),
            ["virtio_ring", "virtio", "virtio_blk", "failover", "virtio_net"]
        );
    }

    #[test]
    fn a_name_that_would_leave_the_directory_is_refused() {
        let fails = |text: &[u8]| ModuleManifest::parse(text.to_vec()).unwrap_err().line;
        assert_eq!(fails(b"../../etc/passwd:\n"), 1);
        assert_eq!(fails(b"virtio:\nvirtio_blk: ../x\n"), 2);
        assert_eq!(fails(b"virtio\n"), 1);
        assert_eq!(fails(b"virtio:\nvirtio_\xff:\n"), 2);
        assert_eq!(fails(b":\n"), 1);
    }
}
