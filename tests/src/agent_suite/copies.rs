//! Copies, whole and broken off.

use std::time::Instant;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{Content, Entry, Extent, PullRequest, PushRequest, Shape, Totals};
use firstlight_protocol::message::file::{
    FileList, FileListRequest, MakeDirRequest, Place as Path, RemoveRequest, Timestamp,
};

use super::Place;
use super::client::{Client, DEADLINE, ID};

/// Bytes of one frame of content.
const PIECE: usize = 100_001;

/// A directory of a case's own.
const DIRECTORY: &str = "/tmp/firstlight-suite";

const MIB: usize = 1 << 20;

/// The directory, new and empty.
fn directory(client: &mut Client) {
    remove(client);
    let request = MakeDirRequest { place: Path::new(DIRECTORY), parents: false, mode: 0o755 };
    let () = client.ask(Kind::MakeDirRequest, &request, Kind::FileDone);
}

fn remove(client: &mut Client) {
    let request = RemoveRequest { place: Path::new(DIRECTORY), recursive: true, ignore_missing: true };
    let () = client.ask(Kind::RemoveRequest, &request, Kind::FileDone);
}

fn names(client: &mut Client, path: &str) -> Vec<String> {
    let request = FileListRequest { place: Path::new(path), after: None };
    let list: FileList = client.ask(Kind::FileListRequest, &request, Kind::FileList);
    let mut names: Vec<String> =
        list.entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect();
    names.sort();
    names
}

fn inside(name: &str) -> Path {
    Path::new(format!("{DIRECTORY}/{name}"))
}

fn entry(path: &str, content: Content) -> Entry {
    let modified = Timestamp { seconds: 1_500_000_000, nanos: 42 };
    let (uid, gid) = (0, 0);
    Entry { path: path.into(), mode: 0o755, uid, gid, modified, attributes: Vec::new(), content }
}

fn file(path: &str, size: usize) -> Entry {
    let size = size as u64;
    entry(path, Content::File { size, extents: vec![Extent { offset: 0, length: size }] })
}

/// Bytes in which any that is out of place shows.
fn pattern(length: usize) -> Vec<u8> {
    (0_u64..).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).take(length).collect()
}

fn begin_push(place: &dyn Place, name: &str) -> Client {
    let mut client = Client::connect(place);
    let shape = Shape::Named(b"x".to_vec());
    client.send(Kind::PushRequest, &PushRequest { place: inside(name), shape, durable: false });
    client
}

fn data(client: &mut Client, bytes: &[u8]) {
    bytes.chunks(PIECE).for_each(|piece| client.send_bytes(Kind::CopyData, ID, piece));
}

/// A new directory `new` and a new file `file`, both with content to come.
#[track_caller]
fn half_pushed(place: &dyn Place, watcher: &mut Client) -> [Client; 2] {
    let mut new = begin_push(place, "new");
    new.send(Kind::CopyEntry, &entry("", Content::Directory));
    new.send(Kind::CopyEntry, &file("inside", 10 * MIB));
    let mut single = begin_push(place, "file");
    single.send(Kind::CopyEntry, &file("", 10 * MIB));
    for client in [&mut new, &mut single] {
        data(client, &pattern(MIB));
    }
    // The new directory is there, under a name that nobody looks for.
    until(watcher, |names| names.iter().any(|name| name.starts_with(".firstlight-")));
    [new, single]
}

/// Waits until the directory looks like this.
#[track_caller]
fn until(client: &mut Client, is_so: impl Fn(&[String]) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let names = names(client, DIRECTORY);
        if is_so(&names) {
            return;
        }
        assert!(Instant::now() < deadline, "{names:?}");
    }
}

/// Everything that is at `name`.
#[track_caller]
fn pull(client: &mut Client, name: &str) -> (Vec<Entry>, Vec<u8>) {
    client.send(Kind::PullRequest, &PullRequest { place: inside(name), follow: false });
    pulled(client)
}

#[track_caller]
fn pulled(client: &mut Client) -> (Vec<Entry>, Vec<u8>) {
    let (mut entries, mut bytes) = (Vec::new(), Vec::new());
    loop {
        let frame = client.receive().unwrap();
        if frame.kind == Kind::CopyEntry {
            entries.push(codec::decode(&frame.payload).unwrap());
        } else if frame.kind == Kind::CopyData {
            bytes.extend(frame.payload);
        } else {
            assert_eq!(frame.kind, Kind::CopyEnd);
            return (entries, bytes);
        }
    }
}

fn push_whole(place: &dyn Place, name: &str, bytes: &[u8]) -> Totals {
    let mut client = begin_push(place, name);
    client.send(Kind::CopyEntry, &file("", bytes.len()));
    data(&mut client, bytes);
    client.ask(Kind::CopyEnd, &Totals::default(), Kind::CopyDone)
}

pub(super) fn there_and_back(place: &mut dyn Place) {
    let mut watcher = Client::connect(place);
    directory(&mut watcher);
    let bytes = pattern(3 * MIB + 12_345);
    let totals = push_whole(place, "file", &bytes);
    assert_eq!((totals.entries, totals.bytes), (1, bytes.len() as u64));
    let (entries, back) = pull(&mut watcher, "file");
    assert!(back == bytes);
    assert_eq!((entries[0].mode, entries[0].modified), (0o755, file("", 1).modified));
    assert_eq!(names(&mut watcher, DIRECTORY), ["file"]);
    remove(&mut watcher);
}

pub(super) fn vanished_host(place: &mut dyn Place) {
    let mut watcher = Client::connect(place);
    directory(&mut watcher);
    drop(half_pushed(place, &mut watcher));
    until(&mut watcher, <[String]>::is_empty);
    remove(&mut watcher);
}

pub(super) fn killed_agent(place: &mut dyn Place) {
    let mut watcher = Client::connect(place);
    directory(&mut watcher);
    let copies = half_pushed(place, &mut watcher);
    place.restart();
    for mut client in copies {
        while let Some(frame) = client.receive() {
            assert_ne!(frame.kind, Kind::CopyDone);
        }
    }
    let mut watcher = Client::connect(place);
    until(&mut watcher, <[String]>::is_empty);
    remove(&mut watcher);
}

pub(super) fn stopped_reader(place: &mut dyn Place) {
    let mut watcher = Client::connect(place);
    directory(&mut watcher);
    let bytes = pattern(8 * MIB);
    push_whole(place, "file", &bytes);
    let mut stopped: Vec<Client> = (0..4).map(|_| Client::connect(place)).collect();
    for client in &mut stopped {
        client.send(Kind::PullRequest, &PullRequest { place: inside("file"), follow: false });
    }
    for _ in 0..200 {
        watcher.ping();
    }
    for client in &mut stopped {
        assert!(pulled(client).1 == bytes);
    }
    remove(&mut watcher);
}

const COPIES: usize = 4;
const COPY: usize = 16 * MIB;

pub(super) fn control_beside_copies(place: &mut dyn Place) {
    let mut watcher = Client::connect(place);
    directory(&mut watcher);
    let bytes = pattern(COPY);
    let mut copies: Vec<Client> = (0..COPIES).map(|number| begin_push(place, &number.to_string())).collect();
    let mut answers = 0;
    std::thread::scope(|scope| {
        let copying: Vec<_> = copies
            .iter_mut()
            .map(|client| {
                let bytes = &bytes;
                scope.spawn(move || {
                    client.send(Kind::CopyEntry, &file("", COPY));
                    data(client, bytes);
                    client.ask::<Totals>(Kind::CopyEnd, &Totals::default(), Kind::CopyDone)
                })
            })
            .collect();
        while copying.iter().any(|copy| !copy.is_finished()) {
            watcher.ping();
            answers += 1;
        }
        for copy in copying {
            assert_eq!(copy.join().unwrap().bytes, COPY as u64);
        }
    });
    // However busy the machine is: what stands before a question is bounded, and not how long that takes.
    let least = COPIES * COPY / MIB;
    assert!(answers >= least, "{answers} answers while {COPIES} copies ran");
    remove(&mut watcher);
}
