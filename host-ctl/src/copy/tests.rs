//! Copies against an agent that is played by the test.

use std::fs;
use std::future::pending;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{Content, Entry, Extent, PushRequest, Totals};
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::file::{Place, Timestamp};
use firstlight_tree::Sink;
use tokio::net::UnixStream;

use super::{CopyError, Destination, Source, pull, push};
use crate::agent::Error;
use crate::agent::script::{Script, connected_by_socket as connected};

fn place(path: &Path) -> Place {
    Place::new(path.as_os_str().as_bytes())
}

fn entry(path: &str, content: Content) -> Entry {
    let modified = Timestamp { seconds: 9, nanos: 0 };
    Entry { path: path.into(), mode: 0o600, uid: 0, gid: 0, modified, attributes: Vec::new(), content }
}

fn file(path: &str, size: u64) -> Entry {
    entry(path, Content::File { size, extents: vec![Extent { offset: 0, length: size }] })
}

/// Takes a push as the agent does.
async fn take(script: &mut Script<UnixStream>) -> Option<Totals> {
    let (header, payload) = script.hear_or_end().await?;
    let request: PushRequest = codec::decode(&payload).unwrap();
    let mut sink = Sink::new(&request.place, request.shape, request.durable).unwrap();
    loop {
        let (frame, payload) = script.hear_or_end().await?;
        assert_eq!(frame.id, header.id);
        if frame.kind == Kind::CopyEntry {
            sink.entry(codec::decode(&payload).unwrap()).unwrap();
        } else if frame.kind == Kind::CopyData {
            sink.data(&payload).unwrap();
        } else {
            let totals = sink.finish().unwrap();
            script.say(Kind::CopyDone, header.id, &totals).await;
            return Some(totals);
        }
    }
}

fn source(path: &Path) -> Source {
    Source::Path { path: path.to_owned(), follow: false }
}

fn destination(path: &Path) -> Destination {
    Destination::Path { path: path.to_owned(), durable: false }
}

#[tokio::test]
async fn a_directory_is_pushed_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    fs::create_dir_all(from.join("sub")).unwrap();
    let large: Vec<u8> = (0..700_000_u32).map(|index| (index % 251).to_le_bytes()[0]).collect();
    fs::write(from.join("sub/large"), &large).unwrap();
    for number in 0..500 {
        fs::write(from.join(number.to_string()), number.to_string()).unwrap();
    }
    let (connection, mut script) = connected().await;
    let to_place = place(&to);
    let pushed = push(connection, source(&from), &to_place, false, pending());
    let (pushed, taken) = tokio::join!(pushed, take(&mut script));
    assert_eq!(pushed.unwrap(), taken.unwrap());
    assert!(fs::read(to.join("sub/large")).unwrap() == large);
    for number in 0..500 {
        assert_eq!(fs::read_to_string(to.join(number.to_string())).unwrap(), number.to_string());
    }
}

#[tokio::test]
async fn an_error_of_the_agent_ends_a_push_that_has_more_to_send() {
    let large = tempfile::NamedTempFile::new().unwrap();
    large.as_file().set_len(64 << 20).unwrap();
    fs::write(large.path(), vec![1; 8 << 20]).unwrap();
    let (connection, mut script) = connected().await;
    let error = AgentError { operation: "write".into(), path: Some("/x".into()), cause: Cause::Errno(28) };
    let to = Place::new("/x");
    let pushed = push(connection, source(large.path()), &to, false, pending());
    let refuse = async {
        let (header, _) = script.hear().await;
        script.hear().await;
        script.say(Kind::Error, header.id, &error).await;
        // Drained as the agent does; the connection ends although not all was sent.
        while script.hear_or_end().await.is_some() {}
    };
    let (pushed, ()) = tokio::join!(pushed, refuse);
    assert!(matches!(pushed, Err(CopyError::Guest(Error::Agent(told))) if told == error));
}

#[tokio::test]
async fn a_source_that_is_not_there_is_named_and_the_connection_closed() {
    let (connection, mut script) = connected().await;
    let to = Place::new("/x");
    let pushed = push(connection, source(Path::new("/no/such/file")), &to, false, pending());
    let (pushed, taken) = tokio::join!(pushed, take(&mut script));
    assert_eq!(pushed.unwrap_err().to_string(), "open /no/such/file: No such file or directory (os error 2)");
    assert_eq!(taken, None);
}

#[tokio::test]
async fn a_pull_that_breaks_off_is_an_error_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("to");
    let endings: [&[Kind]; 3] = [&[], &[Kind::Error], &[Kind::CopyEnd]];
    for ending in endings {
        let (connection, mut script) = connected().await;
        let from = Place::new("/dir");
        let pulled = pull(connection, &from, false, destination(&to), pending());
        let send_half = async move {
            let (header, _) = script.hear().await;
            script.say(Kind::CopyEntry, header.id, &entry("", Content::Directory)).await;
            script.say(Kind::CopyEntry, header.id, &file("a", 10)).await;
            script.say_bytes(Kind::CopyData, header.id, b"12345").await;
            for kind in ending {
                if *kind == Kind::CopyEnd {
                    script.say(*kind, header.id, &Totals::default()).await;
                } else {
                    let cause = Cause::Errno(5);
                    let error = AgentError { operation: "read".into(), path: Some("/dir/a".into()), cause };
                    script.say(*kind, header.id, &error).await;
                }
            }
        };
        let (pulled, ()) = tokio::join!(pulled, send_half);
        assert!(pulled.is_err(), "{ending:?} {pulled:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{ending:?}");
    }
}

#[tokio::test]
async fn an_interrupted_pull_has_cleaned_up_when_it_returns() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("to");
    let (connection, mut script) = connected().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let from = Place::new("/dir");
    let pulled = pull(connection, &from, false, destination(&to), async {
        let _ = stopped.await;
    });
    let send_half = async {
        let (header, _) = script.hear().await;
        script.say(Kind::CopyEntry, header.id, &entry("", Content::Directory)).await;
        script.say(Kind::CopyEntry, header.id, &file("a", 10)).await;
        while fs::read_dir(directory.path()).unwrap().count() == 0 {
            tokio::task::yield_now().await;
        }
        stop.send(()).unwrap();
    };
    let (pulled, ()) = tokio::join!(pulled, send_half);
    assert!(matches!(pulled, Err(CopyError::Interrupted)));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_agent_cannot_make_us_write_outside_the_destination() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let hostile = [
        vec![file("../out", 1)],
        vec![file("/out", 1)],
        vec![entry("up", Content::Symlink(b"..".to_vec())), file("up/out", 1)],
    ];
    for entries in hostile {
        let (connection, mut script) = connected().await;
        let from = Place::new("/dir/.");
        let pulled = pull(connection, &from, false, destination(&inner), pending());
        let send = async move {
            let (header, _) = script.hear().await;
            script.say(Kind::CopyEntry, header.id, &entry("", Content::Directory)).await;
            for entry in entries {
                script.say(Kind::CopyEntry, header.id, &entry).await;
            }
            script.hear_or_end().await
        };
        let (pulled, closed) = tokio::join!(pulled, send);
        assert!(matches!(pulled, Err(CopyError::Host(_))), "{pulled:?}");
        assert!(closed.is_none());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
