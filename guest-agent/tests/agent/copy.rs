//! Copying files in bulk, and copies that end too early.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{
    CHUNK, Content, Entry, Extent, PullRequest, PushRequest, Shape, Totals, data_length,
};
use firstlight_protocol::message::error::Cause;
use firstlight_protocol::message::file::Timestamp;
use tempfile::TempDir;

use super::common::{Agent, Client, place};

const ID: u64 = 5;

fn entry(path: &str, content: Content) -> Entry {
    Entry {
        path: path.into(),
        mode: 0o640,
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        modified: Timestamp { seconds: 1_500_000_000, nanos: 42 },
        attributes: Vec::new(),
        content,
    }
}

fn file(path: &str, size: u64) -> Entry {
    let extents = if size == 0 { Vec::new() } else { vec![Extent { offset: 0, length: size }] };
    entry(path, Content::File { size, extents })
}

fn directory() -> Entry {
    entry("", Content::Directory)
}

/// Bytes in which any that is out of place shows.
fn pattern(length: usize) -> Vec<u8> {
    (0_u64..).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).take(length).collect()
}

impl Client {
    fn begin_push(&mut self, to: &Path, shape: Shape) {
        let request = PushRequest { place: place(to), shape, durable: false };
        self.send(Kind::PushRequest, ID, &codec::encode(&request).unwrap());
    }

    fn copy_entry(&mut self, entry: &Entry) {
        self.send(Kind::CopyEntry, ID, &codec::encode(entry).unwrap());
    }

    #[track_caller]
    fn end_push(&mut self) -> Totals {
        self.send(Kind::CopyEnd, ID, &codec::encode(&Totals::default()).unwrap());
        codec::decode(&self.expect(Kind::CopyDone, ID)).unwrap()
    }

    fn begin_pull(&mut self, from: &Path) {
        let request = PullRequest { place: place(from), follow: false };
        self.send(Kind::PullRequest, ID, &codec::encode(&request).unwrap());
    }

    /// Every entry with its bytes, and the totals.
    #[track_caller]
    fn pull(&mut self, from: &Path) -> (Vec<(Entry, Vec<u8>)>, Totals) {
        self.begin_pull(from);
        self.copied(ID)
    }
}

fn names(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

/// Waits until the agent has done what a closed connection makes it do; each ping gives its tasks a turn.
#[track_caller]
fn settle(agent: &Agent, is_settled: impl Fn() -> bool) {
    let deadline = Instant::now() + super::common::DEADLINE;
    let mut client = agent.connect();
    while !is_settled() {
        assert!(Instant::now() < deadline, "the agent did not settle");
        client.ping();
    }
}

#[test]
fn a_pushed_file_has_its_bytes_and_all_else_and_the_connection_goes_on() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let to = tempfile::tempdir().unwrap();
    let bytes = pattern(3 * CHUNK + 12_345);
    for round in 0..2 {
        client.begin_push(&to.path().join("file"), Shape::Named(b"x".to_vec()));
        client.copy_entry(&file("", bytes.len() as u64));
        // Frames of any size, none of them the agent's own.
        for chunk in bytes.chunks(100_001 + round) {
            client.send(Kind::CopyData, ID, chunk);
        }
        let totals = client.end_push();
        assert_eq!((totals.entries, totals.bytes), (1, bytes.len() as u64));
    }
    let metadata = fs::metadata(to.path().join("file")).unwrap();
    assert!(fs::read(to.path().join("file")).unwrap() == bytes);
    assert_eq!(
        (metadata.mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec()),
        (0o640, 1_500_000_000, 42)
    );
    client.ping();
}

#[test]
fn a_pulled_tree_comes_whole_with_holes_left_out() {
    let agent = Agent::start();
    let from = tempfile::tempdir().unwrap();
    let source = from.path();
    let large = pattern(2 * CHUNK + 7);
    fs::create_dir(source.join("sub")).unwrap();
    fs::write(source.join("sub/large"), &large).unwrap();
    fs::write(source.join("small"), "small").unwrap();
    fs::write(source.join("empty"), "").unwrap();
    fs::set_permissions(source.join("empty"), fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("sub/large", source.join("link")).unwrap();
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    let mut client = agent.connect();
    let (mut entries, totals) = client.pull(source);
    assert_eq!(entries[0].0.path, b"");
    entries.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    let found: Vec<&[u8]> = entries.iter().map(|(entry, _)| entry.path.as_slice()).collect();
    assert_eq!(found, [&b""[..], b"empty", b"link", b"small", b"sparse", b"sub", b"sub/large"]);
    assert_eq!(entries[1].0.mode, 0o4711);
    assert_eq!(entries[2].0.content, Content::Symlink(b"sub/large".to_vec()));
    assert_eq!(entries[3].1, b"small");
    assert_eq!(entries[4].0.content, Content::File { size: 64 << 20, extents: Vec::new() });
    assert!(entries[6].1 == large);
    for (entry, bytes) in &entries {
        if let Content::File { extents, .. } = &entry.content {
            assert_eq!(data_length(extents), bytes.len() as u64);
        }
    }
    assert_eq!((totals.entries, totals.bytes), (7, large.len() as u64 + 5));
    client.ping();
}

#[test]
fn a_file_of_proc_is_pulled_with_what_is_in_it() {
    let agent = Agent::start();
    let (entries, _) = agent.connect().pull(Path::new("/proc/version"));
    assert_eq!(entries[0].1, fs::read("/proc/version").unwrap());
}

#[test]
fn an_error_is_told_while_the_host_still_sends() {
    let agent = Agent::start();
    let to = tempfile::tempdir().unwrap();
    let mut client = agent.connect();
    client.begin_push(&to.path().join("no/such/place"), Shape::Named(b"x".to_vec()));
    client.copy_entry(&file("", 64 << 20));
    // More than the socket holds: without somebody who reads it, this would never return.
    for _ in 0..64 {
        client.send(Kind::CopyData, ID, &[0; 1 << 20]);
    }
    let error = client.expect_error(ID);
    assert_eq!((error.operation.as_str(), error.cause), ("open", Cause::Errno(libc::ENOENT)));
    let mut client = agent.connect();
    client.begin_pull(Path::new("/no/such/file"));
    assert_eq!(client.expect_error(ID).cause, Cause::Errno(libc::ENOENT));
    client.ping();
}

/// A push that stops in the middle of the second file of a new directory, over an old file, and into an old directory.
fn half_pushed(agent: &Agent, to: &Path) -> Vec<Client> {
    let mut new = agent.connect();
    new.begin_push(&to.join("new"), Shape::Named(b"x".to_vec()));
    new.copy_entry(&directory());
    let mut old = agent.connect();
    old.begin_push(&to.join("old"), Shape::Named(b"x".to_vec()));
    let mut merged = agent.connect();
    merged.begin_push(&to.join("dir"), Shape::Contents);
    merged.copy_entry(&directory());
    for (client, path) in [(&mut new, "file"), (&mut old, ""), (&mut merged, "file")] {
        client.copy_entry(&file(path, 10 << 20));
        client.send(Kind::CopyData, ID, &pattern(1 << 20));
    }
    vec![new, old, merged]
}

fn prepared() -> (TempDir, PathBuf) {
    let to = tempfile::tempdir().unwrap();
    let path = to.path().to_owned();
    fs::write(path.join("old"), "before").unwrap();
    fs::create_dir(path.join("dir")).unwrap();
    (to, path)
}

#[track_caller]
fn assert_untouched(to: &Path) {
    assert_eq!(fs::read_to_string(to.join("old")).unwrap(), "before");
    assert_eq!(names(&to.join("dir")), Vec::<String>::new());
    assert!(!to.join("new").exists());
}

#[test]
fn a_host_that_vanishes_leaves_nothing_half_written() {
    let agent = Agent::start();
    let (_to, path) = prepared();
    let clients = half_pushed(&agent, &path);
    settle(&agent, || names(&path).len() == 3);
    let before = agent.open_descriptors();
    drop(clients);
    settle(&agent, || names(&path) == ["dir", "old"]);
    assert_untouched(&path);
    settle(&agent, || agent.open_descriptors() < before);
}

#[test]
fn an_agent_that_is_killed_shows_nothing_half_written_and_the_next_one_takes_it_back() {
    let mut agent = Agent::start();
    let (_to, path) = prepared();
    let mut clients = half_pushed(&agent, &path);
    settle(&agent, || names(&path).len() == 3);
    agent.restart();
    for client in &mut clients {
        client.expect_end();
    }
    assert_untouched(&path);
    settle(&agent, || names(&path) == ["dir", "old"]);
    // What its successor hides is its own.
    let clients = half_pushed(&agent, &path);
    settle(&agent, || names(&path).len() == 3);
    drop(clients);
    settle(&agent, || names(&path) == ["dir", "old"]);
}

#[test]
fn an_agent_that_ends_takes_back_what_its_copies_have_not_shown() {
    let mut agent = Agent::start();
    let (_to, path) = prepared();
    let _clients = half_pushed(&agent, &path);
    settle(&agent, || names(&path).len() == 3);
    agent.terminate();
    assert!(agent.wait().success());
    assert_untouched(&path);
    assert_eq!(names(&path), ["dir", "old"]);
}

#[test]
fn a_host_that_stops_reading_holds_up_nobody_else() {
    let agent = Agent::start();
    let from = tempfile::NamedTempFile::new().unwrap();
    let bytes = pattern(20 << 20);
    fs::write(from.path(), &bytes).unwrap();
    let mut stopped: Vec<Client> = (0..4).map(|_| agent.connect()).collect();
    for client in &mut stopped {
        client.begin_pull(from.path());
    }
    let mut other = agent.connect();
    for _ in 0..200 {
        other.ping();
    }
    let mut file = Vec::new();
    while let Some(frame) = stopped[0].receive() {
        if frame.kind == Kind::CopyEnd {
            break;
        }
        if frame.kind == Kind::CopyData {
            file.extend(frame.payload);
        }
    }
    assert!(file == bytes);
}

#[test]
fn one_copy_too_many_is_told_so() {
    let agent = Agent::start();
    let to = tempfile::tempdir().unwrap();
    let mut clients = Vec::new();
    let refused = loop {
        assert!(clients.len() < 100);
        let mut client = agent.connect();
        client.begin_push(&to.path().join("file"), Shape::Named(b"x".to_vec()));
        client.copy_entry(&file("", 1));
        // Whether it was taken shows in the answer to a copy that needs a place only for a moment.
        let mut probe = agent.connect();
        probe.begin_pull(Path::new("/dev/null"));
        let error = probe.expect_error(ID);
        clients.push(client);
        if matches!(error.cause, Cause::Busy(_)) {
            break error;
        }
    };
    assert!(refused.to_string().contains("wait for one of them"), "{refused}");
    for client in &mut clients {
        client.send(Kind::CopyData, ID, b"x");
        client.end_push();
    }
    let (entries, _) = agent.connect().pull(&to.path().join("file"));
    assert_eq!(entries[0].1, b"x");
}

#[test]
fn memory_stays_bounded_whatever_is_copied() {
    let agent = Agent::start();
    let to = tempfile::tempdir().unwrap();
    let before = agent.memory_kib();
    let mut clients: Vec<Client> = (0..4).map(|_| agent.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.begin_push(&to.path().join(number.to_string()), Shape::Named(b"x".to_vec()));
        client.copy_entry(&file("", 32 << 20));
    }
    for _ in 0..32 {
        for client in &mut clients {
            client.send(Kind::CopyData, ID, &[7; 1 << 20]);
        }
    }
    let grown = agent.memory_kib().saturating_sub(before);
    assert!(grown < 4 * 1024, "{grown} KiB more for 4 copies");
    for client in &mut clients {
        client.end_push();
    }
}

#[test]
fn streams_that_are_no_copy_end_the_connection() {
    let agent = Agent::start();
    let to = tempfile::tempdir().unwrap();
    let wrong: [fn(&mut Client); 3] = [
        |client| client.send(Kind::Ping, ID, b""),
        |client| client.send(Kind::CopyData, ID + 1, b"x"),
        |client| client.send(Kind::CopyEntry, ID, b"\xff"),
    ];
    for send in wrong {
        let mut client = agent.connect();
        client.begin_push(&to.path().join("file"), Shape::Named(b"x".to_vec()));
        send(&mut client);
        assert!(matches!(client.expect_error(0).cause, Cause::Protocol(_)));
        client.expect_end();
    }
    for entry in [file("../out", 0), file("/out", 0)] {
        let mut client = agent.connect();
        client.begin_push(to.path(), Shape::Archive);
        client.copy_entry(&directory());
        client.copy_entry(&entry);
        assert!(matches!(client.expect_error(ID).cause, Cause::Invalid(_)));
    }
    assert_eq!(names(to.path()), Vec::<String>::new());
}
