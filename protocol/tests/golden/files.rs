//! Files and copies.

use firstlight_protocol::codec::{decode, encode};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{
    Attribute, Content, Entry, Extent, PullRequest, PushRequest, Shape, Totals,
};
use firstlight_protocol::message::file::{
    FileKind, FileList, FileListRequest, FileStat, FileStatRequest, Listed, MakeDirRequest, Metadata, Place,
    RemoveRequest, RenameRequest, Timestamp,
};

use super::Golden;

fn at(path: &str) -> Place {
    Place { root: b"/srv".to_vec(), path: path.into() }
}

fn metadata(kind: FileKind) -> Metadata {
    let modified = Timestamp { seconds: -2, nanos: 999_999_999 };
    Metadata {
        kind,
        mode: 0o4755,
        uid: 0,
        gid: 1000,
        size: 1 << 40,
        allocated: 512,
        modified,
        links: 2,
        inode: 3,
    }
}

fn entry(content: Content) -> Entry {
    let attribute = Attribute { name: b"user.a".to_vec(), value: vec![0, 255] };
    let modified = Timestamp { seconds: 1_700_000_000, nanos: 1 };
    let (path, attributes) = (b"a/b".to_vec(), vec![attribute]);
    Entry { path, mode: 0o644, uid: 70_000, gid: 0, modified, attributes, content }
}

fn push(shape: Shape) -> PushRequest {
    PushRequest { place: at("/b"), shape, durable: true }
}

pub(super) fn generation_1() -> Vec<Golden> {
    let totals = Totals { entries: 1, bytes: 300, special: 2, lost_attributes: 3 };
    let extents = vec![Extent { offset: 4096, length: 8192 }];
    golden! {
        FileStatRequest: FileStatRequest { place: at("/a"), follow: true } => "042f737276022f6101",
        FileStat: FileStat { metadata: metadata(FileKind::File), target: None } => "00fbed0900fbe803fd0000000000010000fb000203fcffc99a3b020300",
        FileStat: FileStat { metadata: metadata(FileKind::Symlink), target: Some(b"..".to_vec()) } => "02fbed0900fbe803fd0000000000010000fb000203fcffc99a3b020301022e2e",
        FileListRequest: FileListRequest { place: at("/"), after: Some(vec![0xff]) } => "042f737276012f0101ff",
        FileList: FileList {
            entries: vec![Listed { name: b"x".to_vec(), metadata: metadata(FileKind::BlockDevice) }],
            more: true,
        } => "01017806fbed0900fbe803fd0000000000010000fb000203fcffc99a3b020301",
        MakeDirRequest: MakeDirRequest { place: at("/a"), parents: true, mode: 0o1777 } => "042f737276022f6101fbff03",
        RemoveRequest: RemoveRequest { place: at("/a"), recursive: true, ignore_missing: false } => "042f737276022f610100",
        RenameRequest: RenameRequest { from: at("/a"), to: b"/b".to_vec(), keep_existing: true } => "042f737276022f61022f6201",
        PullRequest: PullRequest { place: at("/a/."), follow: false } => "042f737276042f612f2e00",
        PushRequest: push(Shape::Named(b"n".to_vec())) => "042f737276022f6200016e01",
        PushRequest: push(Shape::Contents) => "042f737276022f620101",
        PushRequest: push(Shape::Archive) => "042f737276022f620201",
        CopyEntry: entry(Content::Directory) => "03612f62fba401fc7011010000fc00e2a7ca010106757365722e610200ff00",
        CopyEntry: entry(Content::File { size: 1 << 33, extents }) => "03612f62fba401fc7011010000fc00e2a7ca010106757365722e610200ff01fd000000000200000001fb0010fb0020",
        CopyEntry: entry(Content::Symlink(b"../t".to_vec())) => "03612f62fba401fc7011010000fc00e2a7ca010106757365722e610200ff02042e2e2f74",
        CopyEntry: entry(Content::HardLink(b"a/c".to_vec())) => "03612f62fba401fc7011010000fc00e2a7ca010106757365722e610200ff0303612f63",
        CopyEnd: totals => "01fb2c010203",
        CopyDone: totals => "01fb2c010203",
    }
}
