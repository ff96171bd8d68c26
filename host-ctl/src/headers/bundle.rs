//! Writing a bundle, and reading what one says of itself.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};

use firstlight_protocol::headers::{
    BLOCK, Digest, END, Entry, GZIP_HEADER, Kind, MANIFEST_NAME, MAX_MANIFEST, Manifest, VERSION, padding,
};
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

use super::error::HeadersError;
use super::selection::{Member, Selection};

/// Writes `selection` to `path`, whole or not at all.
pub(super) fn write(selection: &Selection, path: &Path) -> Result<Manifest, HeadersError> {
    let failed = |error| HeadersError::io("write", path, error);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Without a name: what is not finished is never seen.
    let mut payload = tempfile::tempfile_in(directory).map_err(failed)?;
    let manifest = write_payload(selection, &payload)?;
    payload.rewind().map_err(failed)?;
    let new = directory.join(format!(".{}.new", file_name(path)));
    let mut write = || {
        let mut file = File::create(&new)?;
        file.write_all(&manifest_member(&manifest)?)?;
        io::copy(&mut payload, &mut file)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    let written: io::Result<()> = write();
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&new);
    }
    written.map(|()| manifest).map_err(failed)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Writes the second member of a bundle to `file`, and gives what the first has to say of it.
fn write_payload(selection: &Selection, file: &File) -> Result<Manifest, HeadersError> {
    let failed = |error| HeadersError::io("write", Path::new("the payload"), error);
    let mut out = gzip(Hashed { inner: BufWriter::new(file), hash: Sha256::new(), count: 0 });
    let mut manifest = Manifest {
        version: VERSION,
        release: selection.release.clone(),
        arch: selection.arch.to_owned(),
        build: selection.build.clone(),
        entries: 0,
        bytes: 0,
        space: 0,
        payload: 0,
        sha256: Digest([0; 32]),
    };
    for (path, member) in &selection.members {
        write_member(&mut out, path, member)?;
        let size = size(&member.kind);
        manifest.entries += 1;
        manifest.bytes += size;
        manifest.space += match member.kind {
            Kind::Directory => 4096,
            Kind::File { .. } => size.div_ceil(4096) * 4096,
            Kind::Symlink { .. } => 0,
        };
    }
    out.write_all(&END).map_err(failed)?;
    let mut hashed = out.finish().map_err(failed)?;
    hashed.flush().map_err(failed)?;
    manifest.payload = hashed.count;
    manifest.sha256 = Digest(hashed.hash.finalize().into());
    Ok(manifest)
}

fn write_member(out: &mut impl Write, path: &str, member: &Member) -> Result<(), HeadersError> {
    let entry = Entry { path: path.to_owned(), mtime: member.mtime, kind: member.kind.clone() };
    let failed = |error| HeadersError::io("read", &PathBuf::from(path), error);
    out.write_all(&entry.render()?).map_err(failed)?;
    if let Some(contents) = &member.contents {
        let bytes = contents.read().map_err(failed)?;
        if bytes.len() as u64 != size(&member.kind) {
            return Err(failed(io::Error::other("it changed while it was read")));
        }
        out.write_all(&bytes).map_err(failed)?;
        out.write_all(&[0; BLOCK][..padding(bytes.len() as u64)]).map_err(failed)?;
    }
    Ok(())
}

fn size(kind: &Kind) -> u64 {
    match kind {
        Kind::File { size, .. } => *size,
        Kind::Directory | Kind::Symlink { .. } => 0,
    }
}

/// The first member of a bundle.
fn manifest_member(manifest: &Manifest) -> io::Result<Vec<u8>> {
    let text = manifest.to_json();
    let size = text.len() as u64;
    let entry = Entry { path: MANIFEST_NAME.into(), mtime: 0, kind: Kind::File { size, executable: false } };
    let header = entry.render().map_err(io::Error::other)?;
    stored(&[&header, text.as_bytes(), &[0; BLOCK][..padding(size)]].concat())
}

/// A gzip member in which `bytes` stand as they are: whoever looks for the manifest alone has nothing to decompress.
/// Source: RFC 1951, section 3.2.4, and RFC 1952.
fn stored(bytes: &[u8]) -> io::Result<Vec<u8>> {
    const LAST_AND_STORED: u8 = 1;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    let mut member = GZIP_HEADER.to_vec();
    member.push(LAST_AND_STORED);
    member.extend(length.to_le_bytes());
    member.extend((!length).to_le_bytes());
    member.extend(bytes);
    member.extend(crc.sum().to_le_bytes());
    member.extend(crc.amount().to_le_bytes());
    Ok(member)
}

/// Writes [`GZIP_HEADER`] first: its last byte is the operating system, and its first options are the default's.
fn gzip<W: Write>(inner: W) -> GzEncoder<W> {
    let [.., system] = GZIP_HEADER;
    GzBuilder::new().operating_system(system).write(inner, Compression::default())
}

/// Counts and hashes what goes through it.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
    count: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What the bundle `path` says it is, if it is as long as it says. Its contents are checked where they are installed.
///
/// # Errors
/// [`HeadersError::NoBundle`] or [`HeadersError::Manifest`].
pub fn manifest_of(path: &Path) -> Result<Manifest, HeadersError> {
    let failed = |error| HeadersError::io("read", path, error);
    let no_bundle =
        |reason: &str| HeadersError::NoBundle { path: path.to_owned(), reason: reason.to_owned() };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut member = GzDecoder::new(BufReader::new(file)).take((2 * BLOCK + MAX_MANIFEST) as u64);
    let mut bytes = Vec::new();
    member.read_to_end(&mut bytes).map_err(|_| no_bundle("it is not compressed as one"))?;
    let (header, rest) = bytes.split_first_chunk::<BLOCK>().ok_or_else(|| no_bundle("it ends early"))?;
    let entry = Entry::parse(header).map_err(|error| no_bundle(&error.to_string()))?;
    let size = match entry {
        Some(Entry { kind: Kind::File { size, .. }, path, .. }) if path == MANIFEST_NAME => size,
        Some(_) | None => return Err(no_bundle("it does not begin with its manifest")),
    };
    let text = usize::try_from(size).ok().and_then(|size| rest.get(..size));
    let text = text.ok_or_else(|| no_bundle("its manifest ends early"))?;
    let manifest = Manifest::from_json(text)
        .map_err(|source| HeadersError::Manifest { path: path.to_owned(), source })?;
    let mut file = member.into_inner().into_inner();
    let start = file.stream_position().map_err(failed)?;
    if length != start + manifest.payload {
        return Err(no_bundle(&format!(
            "it has {length} bytes and should have {}",
            start + manifest.payload
        )));
    }
    Ok(manifest)
}
