//! Of all the files there are, those that one kernel's headers consist of.
//!
//! It begins with what `lib/modules/RELEASE/build` leads to. Links and the top Makefile of each directory say what else
//! is needed: Debian's headers are three directories that refer to each other. Links that lead out are a gap when they
//! are part of a tree's first level (`scripts`, `source`), and left out when they are deeper.

use std::collections::{BTreeMap, BTreeSet};

use firstlight_protocol::headers::Kind;

use super::error::HeadersError;
use super::tree::{Contents, Node, NodeKind, Tree, relative};

/// Where a kernel says its release. Debian's `include/config/kernel.release` has another number.
const RELEASE_FILE: &str = "include/generated/utsrelease.h";

/// Where a kernel says its architecture.
const CONFIG_FILE: &str = ".config";

/// How a Makefile includes another one by its place in a root.
const INCLUDE: &str = "include /";

/// An architecture: its line in `.config`, what `uname -m` says, and the directories of `arch/` it needs. arm64's
/// headers include some of arm's.
const ARCHITECTURES: [(&str, &str, &[&str]); 2] =
    [("CONFIG_X86_64=y", "x86_64", &["x86"]), ("CONFIG_ARM64=y", "aarch64", &["arm64", "arm"])];

/// The headers of one kernel.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) release: String,
    /// The machine, as `uname -m` has it.
    pub(super) arch: &'static str,
    /// The build tree's path among the members.
    pub(super) build: String,
    /// Members by path, parents first.
    pub(super) members: BTreeMap<String, Member>,
}

/// One member of the bundle.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) mtime: u64,
    pub(super) kind: Kind,
    /// Of a file.
    pub(super) contents: Option<Contents>,
}

impl Selection {
    /// The headers in `tree`.
    ///
    /// # Errors
    /// [`HeadersError`] when there is not exactly one kernel, or something is missing.
    pub(super) fn of(mut tree: Tree) -> Result<Selection, HeadersError> {
        let build = build_tree(&tree)?;
        let release = release(&tree, &build)?;
        let (arch, kept) = architecture(&tree, &build)?;
        let mut selection = Selection { release, arch, build: build.clone(), members: BTreeMap::new() };
        let mut open = vec![top(&build)];
        let mut done = BTreeSet::new();
        while let Some(directory) = open.pop() {
            if done.insert(directory.clone()) {
                open.extend(rewrite_makefile(&mut tree, &directory)?);
                open.extend(selection.add(&tree, &directory, kept)?);
            }
        }
        selection.take_contents(tree);
        Ok(selection)
    }

    /// Adds a directory with all that is in it; gives the directories it needs.
    fn add(&mut self, tree: &Tree, directory: &str, kept: &[&str]) -> Result<Vec<String>, HeadersError> {
        let mut needed = Vec::new();
        self.add_parents(directory);
        self.directory(directory, tree.nodes.get(directory).map_or(0, |node| node.mtime));
        for (path, node) in tree.below(directory) {
            let inside = &path[directory.len() + 1..];
            if is_other_architecture(inside, kept) {
                continue;
            }
            match &node.kind {
                NodeKind::Directory => self.directory(path, node.mtime),
                NodeKind::File { contents, executable } => {
                    let kind = Kind::File { size: contents.size(), executable: *executable };
                    self.add_parents(path);
                    self.insert(path, node.mtime, kind);
                }
                NodeKind::Symlink(target) => match tree.resolve(path) {
                    Some(found) => {
                        needed.push(top(&found));
                        self.link(tree, path, node, target);
                    }
                    None if inside.contains('/') => {}
                    None => return Err(incomplete(path, target)),
                },
            }
        }
        Ok(needed)
    }

    /// Adds a link. One that is absolute in a root is relative in a bundle.
    fn link(&mut self, tree: &Tree, path: &str, node: &Node, target: &str) {
        let target = match target.strip_prefix('/') {
            Some(absolute) => relative(path, &tree.resolve(absolute).unwrap_or_default()),
            None => target.to_owned(),
        };
        self.add_parents(path);
        self.insert(path, node.mtime, Kind::Symlink { target });
    }

    fn directory(&mut self, path: &str, mtime: u64) {
        self.add_parents(path);
        self.insert(path, mtime, Kind::Directory);
    }

    fn add_parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let parent = path[..at].to_owned();
            let directory = || Member { mtime: 0, kind: Kind::Directory, contents: None };
            self.members.entry(parent).or_insert_with(directory);
        }
    }

    fn insert(&mut self, path: &str, mtime: u64, kind: Kind) {
        self.members.insert(path.to_owned(), Member { mtime, kind, contents: None });
    }

    /// Moves the contents over: headers are tens of megabytes.
    fn take_contents(&mut self, tree: Tree) {
        for (path, node) in tree.nodes {
            if let (NodeKind::File { contents, .. }, Some(member)) = (node.kind, self.members.get_mut(&path))
            {
                member.contents = Some(contents);
            }
        }
    }
}

/// The build tree of the one kernel in `tree`.
fn build_tree(tree: &Tree) -> Result<String, HeadersError> {
    let mut found = BTreeMap::new();
    for place in ["usr/lib/modules", "lib/modules"] {
        for (path, _) in tree.below(place) {
            let Some((release, "build")) = path[place.len() + 1..].split_once('/') else { continue };
            let build = tree.resolve(path).filter(|build| tree.file(&format!("{build}/Makefile")).is_some());
            found.extend(build.map(|build| (release.to_owned(), build)));
        }
    }
    let releases = found.keys().cloned().collect::<Vec<_>>().join(", ");
    let mut builds = found.into_values();
    match (builds.next(), builds.next()) {
        (Some(build), None) => Ok(build),
        (None, _) => Err(HeadersError::NoKernel),
        (Some(_), Some(_)) => Err(HeadersError::SeveralKernels { releases }),
    }
}

/// The text of a small file of the build tree.
fn text(tree: &Tree, build: &str, file: &'static str) -> Result<String, HeadersError> {
    let contents = tree.file(&format!("{build}/{file}"));
    let bytes = contents.and_then(|contents| contents.read().ok());
    let missing = || HeadersError::Unprepared { build: build.to_owned(), file };
    Ok(String::from_utf8_lossy(&bytes.ok_or_else(missing)?).into_owned())
}

/// `#define UTS_RELEASE "6.1.0"`
fn release(tree: &Tree, build: &str) -> Result<String, HeadersError> {
    let text = text(tree, build, RELEASE_FILE)?;
    let release =
        text.lines().find(|line| line.contains("UTS_RELEASE")).and_then(|line| line.split('"').nth(1));
    let missing = || HeadersError::Unprepared { build: build.to_owned(), file: RELEASE_FILE };
    release.map(str::to_owned).ok_or_else(missing)
}

fn architecture(tree: &Tree, build: &str) -> Result<(&'static str, &'static [&'static str]), HeadersError> {
    let config = text(tree, build, CONFIG_FILE)?;
    let is_set = |line: &str| config.lines().any(|set| set == line);
    let found = ARCHITECTURES.iter().find(|(line, ..)| is_set(line));
    let (_, arch, kept) =
        found.ok_or_else(|| HeadersError::Unprepared { build: build.to_owned(), file: CONFIG_FILE })?;
    Ok((arch, kept))
}

/// The directory that a path's package put into the root as a whole: `usr/src/NAME`, `usr/lib/NAME`, or the build tree
/// itself where it stands beside the modules.
fn top(path: &str) -> String {
    let names = if path.starts_with("usr/lib/modules/") {
        5
    } else if path.starts_with("lib/modules/") {
        4
    } else {
        3
    };
    path.split('/').take(names).collect::<Vec<_>>().join("/")
}

/// Whether a path of a source tree is for another architecture alone.
fn is_other_architecture(path: &str, kept: &[&str]) -> bool {
    let below = path.strip_prefix("arch/").and_then(|path| path.split_once('/'));
    below.is_some_and(|(arch, _)| !kept.contains(&arch))
}

/// Makes a top Makefile that includes one elsewhere in the root include it from where that will be; gives the
/// directories that are needed for it. The path of the including Makefile is the last in `MAKEFILE_LIST` then.
fn rewrite_makefile(tree: &mut Tree, directory: &str) -> Result<Vec<String>, HeadersError> {
    let path = format!("{directory}/Makefile");
    let Some(Node { kind: NodeKind::File { contents, .. }, .. }) = tree.nodes.get(&path) else {
        return Ok(Vec::new());
    };
    let bytes = contents.read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    if !text.lines().any(|line| line.starts_with(INCLUDE)) {
        return Ok(Vec::new());
    }
    let (mut lines, mut needed) = (String::new(), Vec::new());
    for line in text.lines() {
        match line.strip_prefix(INCLUDE) {
            None => lines.push_str(line),
            Some(target) => {
                let found = tree
                    .resolve(target.trim())
                    .ok_or_else(|| incomplete(&path, &format!("/{}", target.trim())))?;
                let relative = relative(&path, &found);
                lines.push_str(&format!("include $(dir $(lastword $(MAKEFILE_LIST))){relative}"));
                needed.push(top(&found));
            }
        }
        lines.push('\n');
    }
    if let Some(Node { kind: NodeKind::File { contents, .. }, .. }) = tree.nodes.get_mut(&path) {
        *contents = Contents::Memory(lines.into_bytes());
    }
    Ok(needed)
}

fn incomplete(what: &str, target: &str) -> HeadersError {
    let needed = match target.strip_prefix('/') {
        Some(absolute) => absolute.to_owned(),
        // As the link says it, seen from its directory.
        None => {
            let mut names: Vec<&str> = what.split('/').collect();
            names.pop();
            for name in target.split('/') {
                if name == ".." {
                    names.pop();
                } else {
                    names.push(name);
                }
            }
            names.join("/")
        }
    };
    HeadersError::Incomplete { what: format!("/{what}"), needed }
}
