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
    /// Names and dependencies. There are a few dozen at most, for which a list is the least there is to execute.
    modules: Vec<(String, Vec<String>)>,
}

impl ModuleManifest {
    /// Adds a module with everything that has to be loaded before it, in order.
    pub fn insert(&mut self, name: &str, dependencies: Vec<String>) {
        self.modules.retain(|(known, _)| known != name);
        self.modules.push((name.to_owned(), dependencies));
    }

    /// Whether the initramfs carries this module. One it does not carry is taken to be built into the kernel.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.modules.iter().any(|(known, _)| known == name)
    }

    /// Every module, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().map(|(name, _)| name.as_str())
    }

    /// What to load, in order and without repetition, so that all of `wanted` work. Wanted modules that are not
    /// in the manifest are left out.
    #[must_use]
    pub fn load_order(&self, wanted: &[&str]) -> Vec<String> {
        let mut order: Vec<String> = Vec::new();
        for wanted in wanted {
            for (name, dependencies) in self.modules.iter().filter(|(name, _)| name == wanted) {
                for module in dependencies.iter().chain([name]) {
                    if !order.contains(module) {
                        order.push(module.clone());
                    }
                }
            }
        }
        order
    }

    /// The manifest as text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, dependencies) in &self.modules {
            text.push_str(name);
            text.push(':');
            for dependency in dependencies {
                text.push(' ');
                text.push_str(dependency);
            }
            text.push('\n');
        }
        text
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] with the line's number when a line has no colon or a name is not one a kernel module can
    /// have; names become paths, so nothing else is let through.
    pub fn parse(text: &str) -> Result<ModuleManifest, ManifestError> {
        let mut manifest = ModuleManifest::default();
        for (index, line) in text.lines().enumerate() {
            let error = |reason| ManifestError { line: index + 1, reason };
            let (name, dependencies) = line.split_once(':').ok_or(error("no colon"))?;
            let dependencies: Vec<String> =
                dependencies.split_ascii_whitespace().map(str::to_owned).collect();
            if !is_module_name(name) || !dependencies.iter().all(|name| is_module_name(name)) {
                return Err(error("not a module name"));
            }
            manifest.insert(name, dependencies);
        }
        Ok(manifest)
    }
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
        manifest.insert("virtio", vec!["virtio_ring".into()]);
        manifest.insert("virtio_ring", vec![]);
        manifest.insert("virtio_blk", vec!["virtio_ring".into(), "virtio".into()]);
        manifest.insert("virtio_net", vec!["virtio_ring".into(), "virtio".into(), "failover".into()]);
        manifest.insert("failover", vec![]);
        manifest
    }

    #[test]
    fn a_manifest_survives_text() {
        assert_eq!(ModuleManifest::parse(&manifest().render()), Ok(manifest()));
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
        assert!(ModuleManifest::parse("../../etc/passwd:\n").is_err());
        assert!(ModuleManifest::parse("virtio: ../x\n").is_err());
        assert!(ModuleManifest::parse("virtio\n").is_err());
    }
}
