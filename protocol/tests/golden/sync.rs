//! Syncs.

use firstlight_protocol::codec::{decode, encode};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::file::{Place, Timestamp};
use firstlight_protocol::message::sync::{
    Adjustment, AmendDone, AmendRequest, FetchRequest, Item, ItemContent, Owner, Removal, TreeEnd, TreeItems,
    TreeRequest,
};

use super::Golden;

fn place() -> Place {
    Place { root: b"/".to_vec(), path: b"/srv".to_vec() }
}

const MODIFIED: Timestamp = Timestamp { seconds: -2, nanos: 999_999_999 };

fn items(content: ItemContent) -> TreeItems {
    TreeItems { items: vec![Item { path: b"a".to_vec(), mode: 0o1755, modified: MODIFIED, content }] }
}

pub(super) fn generation_1() -> Vec<Golden> {
    let owner = Owner { uid: 70_000, gid: 8 };
    let remove = vec![Removal { path: b"x".to_vec(), directory: true }];
    let adjust = vec![Adjustment { path: vec![], mode: 0o755, modified: MODIFIED }];
    golden! {
        TreeRequest: TreeRequest { place: place(), checksum: true, exclude: vec![b"*.o".to_vec()] } => "012f042f7372760101032a2e6f",
        TreeItems: items(ItemContent::Directory) => "010161fbed0303fcffc99a3b00",
        TreeItems: items(ItemContent::File { size: 300, digest: None }) => "010161fbed0303fcffc99a3b01fb2c0100",
        TreeItems: items(ItemContent::File { size: 1, digest: Some([0xab; 32]) }) => "010161fbed0303fcffc99a3b010101abababababababababababababababababababababababababababababababab",
        TreeItems: items(ItemContent::Symlink(b"..".to_vec())) => "010161fbed0303fcffc99a3b02022e2e",
        TreeEnd: TreeEnd { special: 2 } => "02",
        FetchRequest: FetchRequest { place: place(), owner, paths: vec![b"a".to_vec(), b"a/b".to_vec()] } => "012f042f737276fc701101000802016103612f62",
        AmendRequest: AmendRequest { place: place(), remove, adjust } => "012f042f737276010178010100fbed0103fcffc99a3b",
        AmendDone: AmendDone { removed: 251 } => "fbfb00",
    }
}
