//! The agent's part of a sync: describing, sending what was chosen, amending.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::Entry;
use firstlight_protocol::message::error::Cause;
use firstlight_protocol::message::file::Timestamp;
use firstlight_protocol::message::sync::{
    Adjustment, AmendDone, AmendRequest, FetchRequest, Item, ItemContent, MAX_PATTERNS, Owner, Removal,
    TreeEnd, TreeItems, TreeRequest,
};

use super::common::{Agent, Client, place};

const ID: u64 = 6;

fn ask_for_tree(client: &mut Client, path: &Path, exclude: &[&str], checksum: bool) {
    let exclude = exclude.iter().map(|pattern| pattern.as_bytes().to_vec()).collect();
    let request = TreeRequest { place: place(path), checksum, exclude };
    client.send(Kind::TreeRequest, ID, &codec::encode(&request).unwrap());
}

/// Every item by its path, and how many frames they took.
#[track_caller]
fn tree(client: &mut Client) -> (BTreeMap<String, Item>, usize) {
    let (mut items, mut frames) = (BTreeMap::new(), 0);
    loop {
        let frame = client.receive().unwrap();
        assert_eq!(frame.id, ID);
        if frame.kind == Kind::TreeEnd {
            assert_eq!(codec::decode(&frame.payload), Ok(TreeEnd { special: 0 }));
            return (items, frames);
        }
        assert_eq!(frame.kind, Kind::TreeItems);
        frames += 1;
        let part: TreeItems = codec::decode(&frame.payload).unwrap();
        items
            .extend(part.items.into_iter().map(|item| (String::from_utf8(item.path.clone()).unwrap(), item)));
    }
}

#[test]
fn a_tree_is_described_in_one_pass_less_what_is_excluded() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/target")).unwrap();
    fs::write(dir.path().join("a/target/big"), "built").unwrap();
    fs::write(dir.path().join("a/file"), "four").unwrap();
    symlink("a/file", dir.path().join("link")).unwrap();
    ask_for_tree(&mut client, dir.path(), &["target/"], false);
    let (items, _) = tree(&mut client);
    assert_eq!(items.keys().map(String::as_str).collect::<Vec<_>>(), ["", "a", "a/file", "link"]);
    let metadata = fs::metadata(dir.path().join("a/file")).unwrap();
    let file = &items["a/file"];
    assert_eq!(file.content, ItemContent::File { size: 4, digest: None });
    assert_eq!(
        (file.modified.seconds, i64::from(file.modified.nanos)),
        (metadata.mtime(), metadata.mtime_nsec())
    );
    assert_eq!(file.mode, metadata.mode() & 0o777);
    ask_for_tree(&mut client, dir.path(), &[], true);
    let (items, _) = tree(&mut client);
    assert!(matches!(items["a/file"].content, ItemContent::File { size: 4, digest: Some(_) }));
    assert!(items.contains_key("a/target/big"));
    client.ping();
}

#[test]
fn a_large_tree_comes_in_many_frames_and_costs_the_agent_no_memory() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let dir = tempfile::tempdir().unwrap();
    let name = "x".repeat(200);
    for number in 0..5_000 {
        fs::write(dir.path().join(format!("{name}{number}")), "").unwrap();
    }
    ask_for_tree(&mut client, dir.path(), &[], false);
    let (items, frames) = tree(&mut client);
    assert_eq!(items.len(), 5_001);
    assert!(frames > 4, "{frames} frames");
    assert!(agent.memory_kib() < 16 * 1024, "{} KiB", agent.memory_kib());
}

#[test]
fn what_cannot_be_described_is_an_error_with_its_errno() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for (name, errno) in [("missing", libc::ENOENT), ("file", libc::ENOTDIR)] {
        ask_for_tree(&mut client, &dir.path().join(name), &[], false);
        assert_eq!(client.expect_error(ID).cause, Cause::Errno(errno), "{name}");
    }
    ask_for_tree(&mut client, dir.path(), &vec!["x"; MAX_PATTERNS + 1], false);
    assert!(matches!(client.expect_error(ID).cause, Cause::Invalid(_)));
    client.ping();
}

/// What a fetch sends: each entry with its bytes.
#[track_caller]
fn fetch(client: &mut Client, path: &Path, paths: &[&str]) -> Vec<(Entry, Vec<u8>)> {
    let owner = Owner { uid: 7, gid: 8 };
    let paths = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    let request = FetchRequest { place: place(path), owner, paths };
    client.send(Kind::FetchRequest, ID, &codec::encode(&request).unwrap());
    let (entries, totals) = client.copied(ID);
    assert_eq!(totals.entries, entries.len() as u64);
    entries
}

#[test]
fn only_what_was_chosen_is_sent_and_what_vanished_is_left_out() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let large: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(dir.path().join("a/large"), &large).unwrap();
    fs::write(dir.path().join("a/other"), "unwanted").unwrap();
    let entries = fetch(&mut client, dir.path(), &["a", "a/large", "a/vanished"]);
    let found: Vec<(&[u8], u32)> = entries.iter().map(|(entry, _)| (&entry.path[..], entry.uid)).collect();
    assert_eq!(found, [(&b"a"[..], 7), (b"a/large", 7)]);
    assert_eq!(entries[1].1, large);
    client.ping();
}

#[test]
fn an_amendment_removes_adjusts_and_never_leaves_the_directory() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    fs::create_dir_all(base.join("old")).unwrap();
    fs::write(base.join("old/file"), "").unwrap();
    fs::write(base.join("kept"), "").unwrap();
    fs::write(dir.path().join("precious"), "").unwrap();
    let modified = Timestamp { seconds: 1_500_000_000, nanos: 42 };
    let remove = [("old/file", false), ("old", true), ("gone", false)];
    let remove = remove.map(|(path, directory)| Removal { path: path.into(), directory }).to_vec();
    let adjust = vec![Adjustment { path: b"kept".to_vec(), mode: 0o600, modified }];
    let request = AmendRequest { place: place(&base), remove, adjust };
    client.send(Kind::AmendRequest, ID, &codec::encode(&request).unwrap());
    assert_eq!(codec::decode(&client.expect(Kind::AmendDone, ID)), Ok(AmendDone { removed: 2 }));
    let kept = fs::metadata(base.join("kept")).unwrap();
    assert_eq!((kept.mode() & 0o777, kept.mtime(), kept.mtime_nsec()), (0o600, 1_500_000_000, 42));
    assert!(!base.join("old").exists());

    let remove = vec![Removal { path: b"../precious".to_vec(), directory: false }];
    let request = AmendRequest { place: place(&base), remove, adjust: Vec::new() };
    client.send(Kind::AmendRequest, ID, &codec::encode(&request).unwrap());
    assert_eq!(client.expect_error(ID).cause, Cause::Errno(libc::EXDEV));
    assert!(dir.path().join("precious").exists());
}
