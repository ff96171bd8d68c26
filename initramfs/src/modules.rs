//! Finds kernel modules and everything they need in a `lib/modules/RELEASE` directory.
//!
//! Only hard dependencies count. A soft one (`modules.softdep`) or one that the kernel asks `modprobe` for is named by
//! the caller, because no `modprobe` runs in the guest before the root file system is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use firstlight_protocol::module_manifest::{ModuleManifest, is_module_name};

use crate::{Error, decompress};

/// The modules of one kernel. Names have underscores where file names may have dashes, as the kernel does it.
#[derive(Debug)]
pub struct ModuleTree {
    directory: PathBuf,
    modules: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
}

#[derive(Debug)]
struct Module {
    /// The module's file, relative to the tree.
    file: PathBuf,
    /// All it needs, in the order they have to be loaded.
    dependencies: Vec<String>,
}

impl ModuleTree {
    /// Reads a tree's `modules.dep` and, if there is one, `modules.builtin`.
    ///
    /// # Errors
    /// [`Error::NotAModuleTree`] when there is no `modules.dep`, [`Error::ModuleList`] for a malformed line, and
    /// [`Error::Io`].
    pub fn read(directory: &Path) -> Result<ModuleTree, Error> {
        let dependency_list = directory.join("modules.dep");
        let text = match fs::read_to_string(&dependency_list) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(Error::NotAModuleTree { tree: directory.to_owned() });
            }
            Err(error) => return Err(Error::io("read", &dependency_list)(error)),
        };
        let modules = parse_dependencies(&dependency_list, &text)?;

        let builtin_list = directory.join("modules.builtin");
        let builtin = match fs::read_to_string(&builtin_list) {
            Ok(text) => text.lines().filter_map(|line| module_name(Path::new(line))).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(Error::io("read", &builtin_list)(error)),
        };
        Ok(ModuleTree { directory: directory.to_owned(), modules, builtin })
    }

    /// The manifest of an initramfs that carries `wanted` and all they need. A wanted module that is built into the
    /// kernel needs no file and is left out.
    ///
    /// # Errors
    /// [`Error::ModuleMissing`] for a module that is nowhere.
    pub fn resolve(&self, wanted: &[&str]) -> Result<ModuleManifest, Error> {
        let mut manifest = ModuleManifest::default();
        for name in wanted.iter().map(|name| name.replace('-', "_")) {
            if !self.modules.contains_key(&name) && self.builtin.contains(&name) {
                continue;
            }
            let module = self.module(&name)?;
            for dependency in &module.dependencies {
                manifest.insert(dependency, &self.module(dependency)?.dependencies);
            }
            manifest.insert(&name, &module.dependencies);
        }
        Ok(manifest)
    }

    /// Reads one module, decompressed.
    ///
    /// # Errors
    /// [`Error::ModuleMissing`], [`Error::Io`] or [`Error::ModuleTooLarge`].
    pub fn load(&self, name: &str) -> Result<Vec<u8>, Error> {
        decompress::read_module(&self.directory.join(&self.module(name)?.file))
    }

    fn module(&self, name: &str) -> Result<&Module, Error> {
        self.modules
            .get(name)
            .ok_or_else(|| Error::ModuleMissing { name: name.to_owned(), tree: self.directory.clone() })
    }
}

/// Reads `modules.dep`: a line is `FILE: FILE FILE ...`, the module first and then what it needs, last one first.
/// Source: `modules.dep(5)`.
fn parse_dependencies(list: &Path, text: &str) -> Result<BTreeMap<String, Module>, Error> {
    let mut modules = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let error = |reason| Error::ModuleList { path: list.to_owned(), line: index + 1, reason };
        let (file, dependencies) = line.split_once(':').ok_or_else(|| error("there is no colon"))?;
        let name = module_name(Path::new(file)).ok_or_else(|| error("this is no module's file name"))?;
        let dependencies = dependencies
            .split_whitespace()
            .rev()
            .map(|file| module_name(Path::new(file)))
            .collect::<Option<Vec<String>>>()
            .ok_or_else(|| error("a dependency is no module's file name"))?;
        modules.insert(name, Module { file: file.into(), dependencies });
    }
    Ok(modules)
}

/// The name of the module in `file`: up to `.ko`, with underscores for dashes.
fn module_name(file: &Path) -> Option<String> {
    let file = file.file_name()?.to_str()?;
    let (name, _compression) = file.split_once(".ko")?;
    let name = name.replace('-', "_");
    is_module_name(&name).then_some(name)
}

#[cfg(test)]
mod tests;
