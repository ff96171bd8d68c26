//! Bundles for tests, good and bad.

use std::io::Write as _;

use firstlight_protocol::headers::{
    BLOCK, Digest, END, Entry, GZIP_HEADER, Kind, MANIFEST_NAME, Manifest, VERSION, padding,
};
use sha2::Digest as _;

pub(super) const RELEASE: &str = "6.1.0-test";

/// An archive that grows member by member.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u64,
    size: u64,
}

impl Archive {
    pub(super) fn add(mut self, path: &str, kind: Kind, contents: &[u8]) -> Archive {
        let header = Entry { path: path.into(), mtime: 1_600_000_000, kind }.render().unwrap();
        self.push(&header, contents);
        self
    }

    pub(super) fn directory(self, path: &str) -> Archive {
        self.add(path, Kind::Directory, b"")
    }

    pub(super) fn file(self, path: &str, contents: &[u8]) -> Archive {
        let kind = Kind::File { size: contents.len() as u64, executable: path.ends_with(".sh") };
        self.add(path, kind, contents)
    }

    pub(super) fn link(self, path: &str, target: &str) -> Archive {
        self.add(path, Kind::Symlink { target: target.into() }, b"")
    }

    /// A member that no bundle has: a file's header, changed and with a right checksum.
    pub(super) fn forged(mut self, change: impl FnOnce(&mut [u8; BLOCK])) -> Archive {
        let kind = Kind::File { size: 0, executable: false };
        let mut header = Entry { path: "x".into(), mtime: 0, kind }.render().unwrap();
        change(&mut header);
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.push(&header, b"");
        self
    }

    fn push(&mut self, header: &[u8], contents: &[u8]) {
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(contents);
        self.bytes.resize(self.bytes.len() + padding(contents.len() as u64), 0);
        self.entries += 1;
        self.size += contents.len() as u64;
    }

    /// The bundle, with `change` made to its manifest.
    pub(super) fn bundle(self, change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
        let payload = gzip(&[&self.bytes[..], &END].concat());
        let mut manifest = Manifest {
            version: VERSION,
            release: RELEASE.into(),
            arch: "x86_64".into(),
            build: "tree".into(),
            entries: self.entries,
            bytes: self.size,
            space: 4096,
            payload: payload.len() as u64,
            sha256: Digest(sha2::Sha256::digest(&payload).into()),
        };
        change(&mut manifest);
        let text = manifest.to_json();
        let first = Archive::default().file(MANIFEST_NAME, text.as_bytes());
        [gzip(&first.bytes), payload].concat()
    }
}

/// A tree as a bundle has it: `build` leads to `tree`.
pub(super) fn tree() -> Archive {
    // Larger than what is read and written at a time.
    let large: Vec<u8> = (0..20_000_u32).flat_map(|number| (number * 7).to_le_bytes()).collect();
    Archive::default()
        .directory("tree")
        .file("tree/Makefile", b"all:\n")
        .directory("tree/include")
        .file("tree/include/large.h", &large)
        .file("tree/run.sh", b"#!/bin/sh\n")
        .link("tree/scripts", "../kbuild/scripts")
        .directory("kbuild")
        .directory("kbuild/scripts")
        .file("kbuild/scripts/empty", b"")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    deflate.write_all(bytes).unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    let trailer = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
    [&GZIP_HEADER[..], &deflate.finish().unwrap(), &trailer].concat()
}
