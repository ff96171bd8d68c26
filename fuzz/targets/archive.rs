//! A tar archive from anywhere, copied to an agent: what reaches the agent is a copy that it would take, or the copy is an error.
//!
//! The input is an archive, plain or gzipped, or a series of members. A member is four bytes, bytes that are laid over its
//! header, and its data; its size and checksum are right, which mutation would hardly ever make them.

#![no_main]

use std::io::Cursor;
use std::sync::OnceLock;

use firstlight_host_ctl::agent::Connection;
use firstlight_host_ctl::copy::{Source, push};
use firstlight_protocol::codec::{decode, encode};
use firstlight_protocol::frame::{HEADER_LEN, Header};
use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{Content, Entry, Totals, data_length};
use firstlight_protocol::message::file::Place;
use firstlight_protocol::message::hello::Welcome;
use firstlight_protocol::version;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::{Duration, Instant};

const BLOCK: usize = 512;

/// Where a header has its size and its checksum, and how long they are; the rest is for mutation. Source: `tar(5)`.
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..265;

const PATIENCE: Duration = Duration::from_secs(20);

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, rest)) = bytes.split_first() else { return };
    let archive = if mode & 1 == 0 { rest.to_vec() } else { members(rest) };
    runtime().block_on(async {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let copy = async {
            let open = Connection::over(Box::new(ours), &Secret([1; 32]), Instant::now() + PATIENCE);
            let connection = open.await.expect("a welcome");
            let source = Source::Archive(Box::new(Cursor::new(archive)));
            push(connection, source, &Place::new("/tmp"), false, std::future::pending()).await
        };
        let (copied, heard) = tokio::join!(copy, agent(theirs));
        assert_eq!(copied.ok(), heard, "the copy ends well just when the agent was told so");
    });
});

/// Hears a copy to its end, and checks all of it. `None` when it was broken off.
async fn agent(mut stream: UnixStream) -> Option<Totals> {
    let (hello, _) = hear(&mut stream).await?;
    let welcome = Welcome { version: version::CURRENT, boot_id: BootId([1; 4]) };
    say(&mut stream, Kind::Welcome, hello.id, &encode(&welcome).expect("a welcome")).await;
    let (mut heard, mut missing) = (Totals::default(), 0);
    loop {
        let (header, payload) = hear(&mut stream).await?;
        match header.kind {
            Kind::PushRequest => {}
            Kind::CopyEntry => {
                assert_eq!(missing, 0, "an entry came before the data of the one before");
                let entry: Entry = decode(&payload).expect("an entry");
                entry.check().expect("an entry that an agent takes");
                if let Content::File { extents, .. } = &entry.content {
                    missing = data_length(extents);
                }
                heard.entries += 1;
                heard.bytes += missing;
            }
            Kind::CopyData => {
                missing = missing.checked_sub(payload.len() as u64).expect("no more than the entry says");
            }
            Kind::CopyEnd => {
                assert_eq!(missing, 0, "the copy ended before its data");
                let told: Totals = decode(&payload).expect("the totals");
                assert_eq!((told.entries, told.bytes), (heard.entries, heard.bytes));
                say(&mut stream, Kind::CopyDone, header.id, &payload).await;
                return Some(told);
            }
            other => panic!("{other:?} is no part of a copy"),
        }
    }
}

async fn hear(stream: &mut UnixStream) -> Option<(Header, Vec<u8>)> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await.ok()?;
    let header = Header::decode(&header).expect("a header");
    let mut payload = vec![0; header.length as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((header, payload))
}

async fn say(stream: &mut UnixStream, kind: Kind, id: u64, payload: &[u8]) {
    let header = Header::new(kind, id, payload.len()).expect("a short payload").encode();
    let _ = stream.write_all(&[&header[..], payload].concat()).await;
}

/// Takes pieces for members: a kind, a place in the header, and two lengths. Whatever is left follows as it is, or else the
/// end mark.
fn members(mut bytes: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    while let Some(([kind, at, over, length], rest)) = bytes.split_first_chunk::<4>() {
        let (over, rest) = rest.split_at(usize::from(*over).min(rest.len()));
        let (data, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        archive.extend(header(*kind, usize::from(*at) * 2, over, data.len()));
        archive.extend(data);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
        bytes = rest;
    }
    if bytes.is_empty() {
        archive.resize(archive.len() + 2 * BLOCK, 0);
    }
    archive.extend(bytes);
    archive
}

fn header(kind: u8, at: usize, over: &[u8], length: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    header[SIZE].copy_from_slice(format!("{length:011o}\0").as_bytes());
    header[KIND] = kind;
    // A sparse member's map is there in archives of the GNU kind alone.
    header[MAGIC].copy_from_slice(if kind == b'S' { b"ustar  \0" } else { b"ustar\x0000" });
    let end = (at + over.len()).min(BLOCK);
    header[at..end].copy_from_slice(&over[..end - at]);
    header[CHECKSUM].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
