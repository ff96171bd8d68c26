//! Looking at files, and changing their names, over the wire. What each operation does is tested where it is written.

use std::path::Path;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::file::{
    FileKind, FileList, FileListRequest, FileStat, FileStatRequest, MAX_LISTED, MakeDirRequest, Place,
    RemoveRequest, RenameRequest,
};

use super::common::{Agent, Client};

/// A place whose root is a directory of the test.
fn place(root: &Path, path: &str) -> Place {
    Place { root: root.to_str().unwrap().into(), path: path.into() }
}

#[track_caller]
fn list(client: &mut Client, place: Place, after: Option<Vec<u8>>) -> FileList {
    client.send(Kind::FileListRequest, 2, &codec::encode(&FileListRequest { place, after }).unwrap());
    codec::decode(&client.expect(Kind::FileList, 2)).unwrap()
}

#[track_caller]
fn done(client: &mut Client, kind: Kind, request: &[u8]) {
    client.send(kind, 3, request);
    assert_eq!(client.expect(Kind::FileDone, 3), b"");
}

#[test]
fn each_operation_has_its_answer() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let directory = tempfile::tempdir().unwrap();
    let at = |path| place(directory.path(), path);
    let make = MakeDirRequest { place: at("/a/b"), parents: true, mode: 0o750 };
    done(&mut client, Kind::MakeDirRequest, &codec::encode(&make).unwrap());
    let rename = RenameRequest { from: at("/a/b"), to: b"/c".to_vec(), keep_existing: true };
    done(&mut client, Kind::RenameRequest, &codec::encode(&rename).unwrap());
    let names: Vec<Vec<u8>> =
        list(&mut client, at("/"), None).entries.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, [b"a", b"c"]);
    let request = FileStatRequest { place: at("/c"), follow: false };
    client.send(Kind::FileStatRequest, 1, &codec::encode(&request).unwrap());
    let stat: FileStat = codec::decode(&client.expect(Kind::FileStat, 1)).unwrap();
    assert_eq!((stat.metadata.kind, stat.metadata.mode), (FileKind::Directory, 0o750));
    let remove = RemoveRequest { place: at("/c"), recursive: false, ignore_missing: false };
    done(&mut client, Kind::RemoveRequest, &codec::encode(&remove).unwrap());
    client.send(Kind::RemoveRequest, 4, &codec::encode(&remove).unwrap());
    let error =
        AgentError { operation: "remove".into(), path: Some("/c".into()), cause: Cause::Errno(libc::ENOENT) };
    assert_eq!(client.expect_error(4), error);
    client.ping();
}

#[test]
fn a_directory_larger_than_one_answer_comes_in_parts() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let directory = tempfile::tempdir().unwrap();
    // The longest names there are: a part of them must still fit in its frame.
    let count = MAX_LISTED + 10;
    let name = |number: usize| format!("{number:0>255}");
    for number in 0..count {
        std::fs::write(directory.path().join(name(number)), "").unwrap();
    }
    let first = list(&mut client, place(directory.path(), "/"), None);
    assert_eq!((first.entries.len(), first.more), (MAX_LISTED, true));
    let after = first.entries.last().unwrap().name.clone();
    assert_eq!(after, name(MAX_LISTED - 1).as_bytes());
    let rest = list(&mut client, place(directory.path(), "/"), Some(after));
    assert_eq!((rest.entries.len(), rest.more), (10, false));
}

#[test]
fn a_malformed_request_ends_the_connection() {
    let agent = Agent::start();
    for kind in [Kind::FileStatRequest, Kind::RemoveRequest, Kind::PullRequest, Kind::PushRequest] {
        let mut client = agent.connect();
        client.send(kind, 1, b"\xff\xff");
        assert!(matches!(client.expect_error(0).cause, Cause::Protocol(_)), "{kind:?}");
        client.expect_end();
    }
}
