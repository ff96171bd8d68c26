//! Plans are applied to trees of the mind.

use std::collections::BTreeMap;

use firstlight_protocol::message::file::Timestamp;
use proptest::prelude::*;

use super::*;

/// A tree by its paths. The base is always there.
type Tree = BTreeMap<Vec<u8>, Item>;

fn item(path: &str, content: ItemContent, mode: u32, seconds: i64) -> Item {
    Item { path: path.into(), mode, modified: Timestamp { seconds, nanos: 0 }, content }
}

fn file(path: &str, size: u64, seconds: i64) -> Item {
    item(path, ItemContent::File { size, digest: None }, 0o644, seconds)
}

fn directory(path: &str, seconds: i64) -> Item {
    item(path, ItemContent::Directory, 0o755, seconds)
}

fn names(paths: &[Vec<u8>]) -> Vec<&str> {
    paths.iter().map(|path| std::str::from_utf8(path).unwrap()).collect()
}

fn removed(removals: &[Removal]) -> Vec<&str> {
    removals.iter().map(|removal| std::str::from_utf8(&removal.path).unwrap()).collect()
}

const DELETE: Rules = Rules { delete: true, checksum: false };
const KEEP: Rules = Rules { delete: false, checksum: false };

#[test]
fn only_what_differs_is_sent_and_all_is_counted() {
    let source = [
        directory("", 1),
        file("same", 10, 1),
        file("longer", 20, 1),
        file("newer", 30, 2),
        file("new", 40, 1),
    ];
    let destination = [
        directory("", 1),
        file("same", 10, 1),
        file("longer", 10, 1),
        file("newer", 30, 1),
        file("extra", 5, 1),
    ];
    let plan = plan(&source, &destination, KEEP).unwrap();
    assert_eq!(names(&plan.send), ["longer", "newer", "new"]);
    assert_eq!(plan.count, Count { files: 3, bytes: 90, total_files: 4, total_bytes: 100 });
    assert_eq!((&plan.clear[..], &plan.remove[..]), (&[][..], &[][..]));
    // Its time changed when its entries did.
    assert_eq!(plan.adjust.len(), 1);
    assert_eq!(plan.adjust[0].path, b"");
}

#[test]
fn a_mode_alone_is_adjusted_and_nothing_is_sent() {
    let source = [directory("", 1), item("a", ItemContent::File { size: 1, digest: None }, 0o600, 1)];
    let destination = [directory("", 1), file("a", 1, 1)];
    let plan = plan(&source, &destination, KEEP).unwrap();
    assert_eq!(plan.send, Vec::<Vec<u8>>::new());
    let modified = Timestamp { seconds: 1, nanos: 0 };
    assert_eq!(plan.adjust, [Adjustment { path: b"a".to_vec(), mode: 0o600, modified }]);
}

#[test]
fn with_checksums_content_decides_and_times_are_adjusted() {
    let with = |path: &str, digest: u8, seconds| {
        item(path, ItemContent::File { size: 1, digest: Some([digest; 32]) }, 0o644, seconds)
    };
    let source = [directory("", 1), with("touched", 1, 2), with("changed", 1, 1)];
    let destination = [directory("", 1), with("touched", 1, 1), with("changed", 2, 1)];
    let plan = plan(&source, &destination, Rules { checksum: true, delete: false }).unwrap();
    assert_eq!(names(&plan.send), ["changed"]);
    let adjusted: Vec<&[u8]> = plan.adjust.iter().map(|adjustment| &adjustment.path[..]).collect();
    assert_eq!(adjusted, [&b""[..], b"touched"]);
}

#[test]
fn what_is_too_much_goes_only_when_asked_and_from_the_inside_out() {
    let source = [directory("", 1)];
    let destination =
        [directory("", 1), directory("a", 1), directory("a/b", 1), file("a/b/c", 1, 1), file("d", 1, 1)];
    assert_eq!(plan(&source, &destination, KEEP), Ok(Plan::default()));
    let plan = plan(&source, &destination, DELETE).unwrap();
    assert_eq!(removed(&plan.remove), ["d", "a/b/c", "a/b", "a"]);
}

#[test]
fn a_directory_makes_way_only_when_something_may_be_removed() {
    let source = [directory("", 1), file("a", 1, 1)];
    let destination = [directory("", 1), directory("a", 1), file("a/b", 1, 1), file("ab", 1, 1)];
    assert_eq!(plan(&source, &destination, KEEP), Err(Conflict { path: b"a".to_vec() }));
    let plan = plan(&source, &destination, DELETE).unwrap();
    assert_eq!(removed(&plan.clear), ["a/b", "a"]);
    assert_eq!(removed(&plan.remove), ["ab"]);
    assert_eq!(names(&plan.send), ["a"]);
}

#[test]
fn a_file_makes_way_for_a_directory() {
    let source = [directory("", 1), directory("a", 1), file("a/b", 1, 1)];
    let destination = [directory("", 1), file("a", 1, 1)];
    let plan = plan(&source, &destination, KEEP).unwrap();
    assert_eq!(removed(&plan.clear), ["a"]);
    assert_eq!(names(&plan.send), ["a", "a/b"]);
}

#[test]
fn a_destination_that_is_not_there_gets_everything() {
    let source = [directory("", 1), directory("a", 1), file("a/b", 7, 1)];
    let plan = plan(&source, &[], DELETE).unwrap();
    assert_eq!(names(&plan.send), ["a", "a/b"]);
    assert_eq!(plan.adjust, []);
}

/// Does to a tree what the receiving side does, and fails where that would.
fn apply(tree: &mut Tree, plan: &Plan, source: &Tree) {
    let now = Timestamp { seconds: 99, nanos: 0 };
    let touch = |tree: &mut Tree, path: &[u8]| tree.get_mut(parent(path)).unwrap().modified = now;
    let remove = |tree: &mut Tree, removal: &Removal| {
        let found = tree.remove(&removal.path).expect("only what is there is removed");
        assert_eq!(found.content == ItemContent::Directory, removal.directory);
        let inside = [&removal.path[..], b"/"].concat();
        assert!(!tree.keys().any(|path| path.starts_with(&inside)), "a directory is removed last");
        touch(tree, &removal.path);
    };
    for removal in &plan.clear {
        remove(tree, removal);
    }
    for path in &plan.send {
        assert_eq!(tree[parent(path)].content, ItemContent::Directory, "parents come first");
        let sent = source[path].clone();
        let is_directory = |item: &Item| item.content == ItemContent::Directory;
        if let Some(found) = tree.get(path) {
            assert!(!is_directory(found) && !is_directory(&sent), "only files and links replace each other");
        }
        let into_old = !plan.send.contains(&parent(path).to_vec());
        tree.insert(path.clone(), sent);
        if into_old {
            touch(tree, path);
        }
    }
    for removal in &plan.remove {
        remove(tree, removal);
    }
    for Adjustment { path, mode, modified } in &plan.adjust {
        let item = tree.get_mut(path).unwrap();
        (item.mode, item.modified) = (*mode, *modified);
    }
}

fn any_content() -> impl Strategy<Value = ItemContent> {
    prop_oneof![
        3 => Just(ItemContent::Directory),
        3 => (0..3_u64).prop_map(|size| ItemContent::File { size, digest: None }),
        1 => "[xy]".prop_map(|target| ItemContent::Symlink(target.into_bytes())),
    ]
}

/// A tree in which everything but directories is a leaf.
fn any_tree() -> impl Strategy<Value = Tree> {
    let entry = ("[ab](/[ab]){0,3}", any_content(), prop_oneof![Just(0o644), Just(0o755)], 0..3_i64);
    prop::collection::vec(entry, 0..12).prop_map(|entries| {
        let mut tree = Tree::from([(Vec::new(), directory("", 0))]);
        for (path, content, mode, seconds) in entries {
            for end in path.match_indices('/').map(|(at, _)| at) {
                let above = &path[..end];
                tree.insert(above.into(), directory(above, 0));
            }
            let inside = format!("{path}/");
            if content != ItemContent::Directory {
                tree.retain(|found, _| !found.starts_with(inside.as_bytes()));
            }
            tree.insert(path.clone().into(), item(&path, content, mode, seconds));
        }
        tree
    })
}

fn listed(tree: &Tree) -> Vec<Item> {
    // By path is parents first.
    tree.values().cloned().collect()
}

/// Links have no mode and time to speak of.
fn comparable(tree: &Tree) -> Vec<Item> {
    let mut items = listed(tree);
    for item in items.iter_mut().filter(|item| matches!(item.content, ItemContent::Symlink(_))) {
        (item.mode, item.modified) = (0, Timestamp { seconds: 0, nanos: 0 });
    }
    items
}

proptest! {
    #[test]
    fn with_delete_the_destination_becomes_the_source(source in any_tree(), destination in any_tree()) {
        let plan = plan(&listed(&source), &listed(&destination), DELETE).unwrap();
        let mut tree = destination.clone();
        apply(&mut tree, &plan, &source);
        prop_assert_eq!(comparable(&tree), comparable(&source));
    }

    #[test]
    fn without_delete_nothing_of_the_destination_is_lost(source in any_tree(), destination in any_tree()) {
        let Ok(plan) = plan(&listed(&source), &listed(&destination), KEEP) else { return Ok(()) };
        let mut tree = destination.clone();
        apply(&mut tree, &plan, &source);
        for (path, item) in &destination {
            if !source.contains_key(path) && ancestors(path).all(|above| !source.contains_key(above) || source[above].content == ItemContent::Directory) {
                prop_assert_eq!(&tree[path].content, &item.content);
            }
        }
        for item in comparable(&source) {
            let found = comparable(&tree).into_iter().find(|found| found.path == item.path);
            prop_assert_eq!(found, Some(item));
        }
    }

    #[test]
    fn a_second_sync_has_nothing_to_do(tree in any_tree()) {
        let plan = plan(&listed(&tree), &listed(&tree), DELETE).unwrap();
        prop_assert_eq!(plan, Plan { count: count(&listed(&tree)), ..Plan::default() });
    }
}
