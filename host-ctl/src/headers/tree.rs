//! Files as they stand in a root, from wherever they come.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Links followed on the way to a file, as in `path_resolution(7)`.
const MAX_LINKS: u32 = 40;

/// Files by path: relative to the root, of plain names, parents before their children.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<String, Node>,
}

/// One file.
#[derive(Debug)]
pub(super) struct Node {
    /// When it was last changed, in seconds since 1970.
    pub(super) mtime: u64,
    pub(super) kind: NodeKind,
}

#[derive(Debug)]
pub(super) enum NodeKind {
    Directory,
    File { contents: Contents, executable: bool },
    Symlink(String),
}

/// The contents of a file.
#[derive(Debug)]
pub(super) enum Contents {
    Memory(Vec<u8>),
    Disk { path: PathBuf, size: u64 },
}

impl Contents {
    pub(super) fn size(&self) -> u64 {
        match self {
            Contents::Memory(bytes) => bytes.len() as u64,
            Contents::Disk { size, .. } => *size,
        }
    }

    /// All of it.
    pub(super) fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Contents::Memory(bytes) => Ok(bytes.clone()),
            Contents::Disk { path, .. } => std::fs::read(path),
        }
    }
}

impl Tree {
    /// Adds a file; a later one takes the place of an earlier.
    pub(super) fn add(&mut self, path: String, mtime: u64, kind: NodeKind) {
        self.nodes.insert(path, Node { mtime, kind });
    }

    /// What is at a path that may lead through links, by its plain path. `None` where it leads nowhere.
    pub(super) fn resolve(&self, path: &str) -> Option<String> {
        let mut left: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let (mut at, mut links) = (String::new(), 0);
        while let Some(name) = left.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    at.truncate(at.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = if at.is_empty() { name } else { format!("{at}/{name}") };
            match self.nodes.get(&next).map(|node| &node.kind) {
                Some(NodeKind::Symlink(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    if target.starts_with('/') {
                        at.clear();
                    }
                    left.extend(target.rsplit('/').map(str::to_owned));
                }
                Some(NodeKind::Directory | NodeKind::File { .. }) => at = next,
                // A directory that no source names, but that has something in it.
                None if self.below(&next).next().is_some() => at = next,
                None => return None,
            }
        }
        Some(at)
    }

    /// Everything below a directory.
    pub(super) fn below<'a>(&'a self, directory: &str) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let prefix = format!("{directory}/");
        let range = self.nodes.range(prefix.clone()..);
        range.take_while(move |(path, _)| path.starts_with(&prefix)).map(|(path, node)| (path.as_str(), node))
    }

    /// The contents of the file at `path`, links followed.
    pub(super) fn file(&self, path: &str) -> Option<&Contents> {
        match &self.nodes.get(&self.resolve(path)?)?.kind {
            NodeKind::File { contents, .. } => Some(contents),
            NodeKind::Directory | NodeKind::Symlink(_) => None,
        }
    }
}

/// Whether headers can be at this path of a root; all else of a package is left out.
pub(super) fn is_wanted(path: &str) -> bool {
    let modules = path.strip_prefix("usr/").unwrap_or(path).strip_prefix("lib/modules/");
    let mut below = modules.unwrap_or_default().split('/').skip(1);
    path.starts_with("usr/src/")
        || path.starts_with("usr/lib/linux-kbuild-")
        || below.next().is_some_and(|name| name == "build")
}

/// The relative path from a file to another, both as plain paths.
pub(super) fn relative(from: &str, to: &str) -> String {
    let parents: Vec<&str> = from.split('/').collect();
    let parents = &parents[..parents.len() - 1];
    let to: Vec<&str> = to.split('/').collect();
    let common = parents.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", parents.len() - common);
    let path: Vec<&str> = up.chain(to[common..].iter().copied()).collect();
    if path.is_empty() { ".".to_owned() } else { path.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_as_in_a_root() {
        let mut tree = Tree::default();
        let link = |target: &str| NodeKind::Symlink(target.to_owned());
        tree.add("lib/modules/1/build".into(), 0, link("/usr/src/one"));
        tree.add("usr/src/one/scripts".into(), 0, link("../../lib/kbuild/scripts"));
        tree.add("usr/lib/kbuild/scripts/mk".into(), 0, NodeKind::Directory);
        tree.add("loop".into(), 0, link("loop"));
        let found = tree.resolve("lib/modules/1/build/scripts/mk");
        assert_eq!(found.as_deref(), Some("usr/lib/kbuild/scripts/mk"));
        assert_eq!(tree.resolve("lib/modules/1/build/nothing"), None);
        assert_eq!(tree.resolve("loop"), None);
    }

    #[test]
    fn a_relative_path_leads_from_the_file_s_directory() {
        assert_eq!(relative("usr/src/a/Makefile", "usr/src/b/Makefile"), "../b/Makefile");
        assert_eq!(relative("usr/src/a/x", "usr/lib/k"), "../../lib/k");
        assert_eq!(relative("a/x", "a"), ".");
        assert_eq!(relative("a/x", "a/b/c"), "b/c");
    }

    #[test]
    fn of_a_package_only_what_headers_need_is_wanted() {
        for wanted in ["usr/src/linux-headers-1/Makefile", "lib/modules/1/build", "usr/lib/modules/1/build/x"]
        {
            assert!(is_wanted(wanted), "{wanted}");
        }
        for other in ["usr/share/doc/x", "lib/modules/1/kernel/x.ko", "etc/passwd", "usr/lib/gcc/x"] {
            assert!(!is_wanted(other), "{other}");
        }
    }
}
