//! A stream of entries and bytes, written below one directory and nowhere else.
//!
//! The input is a series of pieces: a length of two bytes, and a payload. One that decodes as an entry is one; any other
//! is content.

#![no_main]

use std::fs;
use std::path::Path;

use firstlight_protocol::codec::decode;
use firstlight_protocol::message::copy::{Entry, Shape};
use firstlight_protocol::message::file::Place;
use firstlight_tree::Sink;
use libfuzzer_sys::fuzz_target;

const BASE: &str = "/tmp/tree/base";

fuzz_target!(|bytes: &[u8]| {
    let _ = fs::remove_dir_all("/tmp/tree");
    fs::create_dir_all(BASE).expect("a directory");
    fs::write("/tmp/tree/outside", "outside").expect("a file");
    let durable = bytes.first().is_some_and(|byte| byte & 1 == 1);
    if write(bytes, durable).is_none() {
        // Whatever was hidden is gone with the sink.
        assert_no_temporary(Path::new(BASE));
    }
    assert_eq!(fs::read("/tmp/tree/outside").expect("it stays"), b"outside");
    assert_eq!(fs::read_dir("/tmp/tree").expect("it stays").count(), 2, "something was written outside");
});

/// `None` when the stream was refused.
fn write(mut bytes: &[u8], durable: bool) -> Option<()> {
    let mut sink = Sink::new(&Place::new(BASE), Shape::Contents, durable).ok()?;
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (piece, after) = rest.split_at(length);
        bytes = after;
        match decode::<Entry>(piece) {
            Ok(entry) => sink.entry(entry).ok()?,
            Err(_) => sink.data(piece).ok()?,
        }
    }
    sink.finish().ok().map(|_| ())
}

fn assert_no_temporary(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        assert!(!name.as_encoded_bytes().starts_with(b".firstlight-"), "{name:?} was left behind");
    }
}
