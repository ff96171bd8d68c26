//! What turns one tree into the other: pure.

use std::collections::{BTreeSet, HashMap};

use firstlight_protocol::message::sync::{Adjustment, Item, ItemContent, Removal};

/// Whether a plan may remove, and what it goes by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Remove what the source has not.
    pub delete: bool,
    /// Trust digests instead of sizes and times.
    pub checksum: bool,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Goes first: what is of another kind than the source's file of the same name.
    pub clear: Vec<Removal>,
    /// Arrives, parents before what is in them.
    pub send: Vec<Vec<u8>>,
    /// Goes last.
    pub remove: Vec<Removal>,
    /// Gets another mode or time.
    pub adjust: Vec<Adjustment>,
    /// How much there is of it.
    pub count: Count,
}

/// Files and bytes, directories not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Files and links that are sent.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files and links of the source.
    pub total_files: u64,
    /// Their bytes.
    pub total_bytes: u64,
}

/// A directory stands where the source has something else, and nothing may be removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is a directory at the destination and none at the source", String::from_utf8_lossy(.path))]
pub struct Conflict {
    /// Where.
    pub path: Vec<u8>,
}

/// Plans how `destination` becomes as `source` is. Both begin with the directory itself, unless there is none, and have
/// parents before what is in them.
///
/// # Errors
/// [`Conflict`], without `delete`.
pub(super) fn plan(source: &[Item], destination: &[Item], rules: Rules) -> Result<Plan, Conflict> {
    let there: HashMap<&[u8], &Item> = destination.iter().map(|item| (&item.path[..], item)).collect();
    let wanted: HashMap<&[u8], &Item> = source.iter().map(|item| (&item.path[..], item)).collect();
    let mut plan = Plan { count: count(source), ..Plan::default() };
    let mut adjust = BTreeSet::new();
    let mut cleared = BTreeSet::new();
    for item in source.iter().filter(|item| !item.path.is_empty()) {
        match there.get(&item.path[..]).map(|found| compare(item, found, rules)) {
            Some(Difference::None) => continue,
            Some(Difference::Metadata) => {
                adjust.insert(&item.path[..]);
                continue;
            }
            Some(Difference::Directory) if !rules.delete => return Err(Conflict { path: item.path.clone() }),
            Some(Difference::Directory | Difference::NoDirectory) => {
                cleared.insert(&item.path[..]);
            }
            Some(Difference::Content) | None => {}
        }
        plan.send.push(item.path.clone());
        plan.count.add(item);
    }
    // What is in a directory goes before it.
    for item in destination.iter().rev().filter(|item| !item.path.is_empty()) {
        let removal =
            || Removal { path: item.path.clone(), directory: item.content == ItemContent::Directory };
        if ancestors(&item.path).any(|path| cleared.contains(path)) {
            plan.clear.push(removal());
        } else if rules.delete && !wanted.contains_key(&item.path[..]) {
            plan.remove.push(removal());
        }
    }
    // To put something into a directory, or take it out, changes the directory's time.
    let changed = plan.send.iter().chain(plan.clear.iter().chain(&plan.remove).map(|removal| &removal.path));
    adjust.extend(changed.map(|path| parent(path)));
    adjust.extend(
        there
            .get(&b""[..])
            .zip(wanted.get(&b""[..]))
            .and_then(|(found, item)| (compare(item, found, rules) != Difference::None).then_some(&b""[..])),
    );
    plan.adjust = adjust.iter().filter_map(|path| adjustment(wanted.get(path)?, there.get(path)?)).collect();
    Ok(plan)
}

/// What a file of the source is to the destination's of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    None,
    /// Only the mode or the time differ.
    Metadata,
    /// The content differs, or one is a link; to send it replaces it.
    Content,
    /// The destination's is a directory.
    Directory,
    /// The source's is one.
    NoDirectory,
}

fn compare(source: &Item, destination: &Item, rules: Rules) -> Difference {
    let same_mode = source.mode == destination.mode;
    let same_time = source.modified == destination.modified;
    let metadata = if same_mode && same_time { Difference::None } else { Difference::Metadata };
    match (&source.content, &destination.content) {
        (ItemContent::Directory, ItemContent::Directory) => metadata,
        (ItemContent::Directory, _) => Difference::NoDirectory,
        (_, ItemContent::Directory) => Difference::Directory,
        // A link's own mode and time mean nothing.
        (ItemContent::Symlink(target), ItemContent::Symlink(found)) if target == found => Difference::None,
        (ItemContent::File { size, digest }, ItemContent::File { size: found, digest: of_found }) => {
            let same = if rules.checksum { digest.is_some() && digest == of_found } else { same_time };
            if same && size == found { metadata } else { Difference::Content }
        }
        (
            ItemContent::Symlink(_) | ItemContent::File { .. },
            ItemContent::Symlink(_) | ItemContent::File { .. },
        ) => Difference::Content,
    }
}

/// What a file that is on both sides has to get. New ones come with it.
fn adjustment(source: &Item, destination: &Item) -> Option<Adjustment> {
    let both = (&source.content, &destination.content);
    let adjustable = matches!(
        both,
        (ItemContent::Directory, ItemContent::Directory)
            | (ItemContent::File { .. }, ItemContent::File { .. })
    );
    let Item { path, mode, modified, .. } = source;
    adjustable.then(|| Adjustment { path: path.clone(), mode: *mode, modified: *modified })
}

/// A path, and those of all directories it is in but the first.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| Some(parent(path)).filter(|parent| !parent.is_empty()))
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |at| &path[..at])
}

fn size(item: &Item) -> Option<u64> {
    match item.content {
        ItemContent::Directory => None,
        ItemContent::File { size, .. } => Some(size),
        ItemContent::Symlink(_) => Some(0),
    }
}

fn count(source: &[Item]) -> Count {
    let sizes = || source.iter().filter_map(size);
    let total_bytes = sizes().fold(0_u64, u64::saturating_add);
    Count { total_files: sizes().count() as u64, total_bytes, ..Count::default() }
}

impl Count {
    fn add(&mut self, item: &Item) {
        if let Some(size) = size(item) {
            self.files += 1;
            self.bytes = self.bytes.saturating_add(size);
        }
    }
}

#[cfg(test)]
mod tests;
