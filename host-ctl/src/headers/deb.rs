//! A Debian package: an `ar` archive with a `data.tar` in it, compressed in one of several ways. Source: `deb(5)`.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

use tar::EntryType;

use super::error::HeadersError;
use super::tree::{Contents, NodeKind, Tree, is_wanted};

/// The most bytes a package may hold once decompressed: many times what headers take.
const MAX_BYTES: u64 = 2 << 30;

/// The most bytes of one file that is kept.
const MAX_FILE: u64 = 256 << 20;

/// Adds what the package has of headers to `tree`.
///
/// # Errors
/// [`HeadersError::Package`], which names it.
pub(super) fn load(package: &Path, tree: &mut Tree) -> Result<(), HeadersError> {
    let file = File::open(package).map_err(|error| HeadersError::io("open", package, error))?;
    let wrong = |reason: String| HeadersError::Package { path: package.to_owned(), reason };
    let mut members = ar::Archive::new(BufReader::new(file));
    while let Some(member) = members.next_entry() {
        let member = member.map_err(|error| wrong(format!("damaged: {error}")))?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        if let Some(compression) = name.strip_prefix("data.tar") {
            let data = decoder(compression, BufReader::new(member));
            let data = data.map_err(|error| wrong(format!("cannot decompress {name}: {error}")))?;
            return unpack(data.take(MAX_BYTES), tree).map_err(|error| wrong(format!("{name}: {error}")));
        }
    }
    Err(wrong("it has no data.tar".to_owned()))
}

fn decoder<'a, R: Read + 'a>(compression: &str, data: BufReader<R>) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        "" => Box::new(data),
        ".gz" => Box::new(flate2::bufread::MultiGzDecoder::new(data)),
        ".xz" => Box::new(lzma_rust2::XzReader::new(data, true)),
        ".zst" => Box::new(ruzstd::decoding::StreamingDecoder::new(data).map_err(io::Error::other)?),
        other => return Err(io::Error::other(format!("{other} is no known compression"))),
    })
}

fn unpack(data: impl Read, tree: &mut Tree) -> io::Result<()> {
    for entry in tar::Archive::new(data).entries()? {
        let mut entry = entry?;
        let Some(path) = plain(&entry.path()?)? else { continue };
        if !is_wanted(&path) {
            continue;
        }
        let refused = |reason: &str| io::Error::other(format!("{path}: {reason}"));
        let (mtime, mode, size) = (entry.header().mtime()?, entry.header().mode()?, entry.size());
        let link = entry.link_name()?.map(|target| target.to_string_lossy().into_owned());
        let kind = match (entry.header().entry_type(), link) {
            (EntryType::Directory, _) => NodeKind::Directory,
            (EntryType::Regular, _) if size > MAX_FILE => return Err(refused("too large for a header")),
            (EntryType::Regular, _) => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                NodeKind::File { contents: Contents::Memory(bytes), executable: mode & 0o111 != 0 }
            }
            (EntryType::Symlink, Some(target)) => NodeKind::Symlink(target),
            (EntryType::Link, Some(target)) => {
                // In the archive, the file itself stands before its other names.
                let target = plain(Path::new(&target))?.unwrap_or_default();
                let contents = tree.file(&target).ok_or_else(|| refused("a hard link to nothing"))?.read()?;
                NodeKind::File { contents: Contents::Memory(contents), executable: mode & 0o111 != 0 }
            }
            _ => return Err(refused("neither a directory, a file nor a link")),
        };
        tree.add(path, mtime, kind);
    }
    Ok(())
}

/// A member's path below the root; `None` for the root itself.
fn plain(path: &Path) -> io::Result<Option<String>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => {
                names.push(name.to_str().ok_or_else(|| io::Error::other("a name is not UTF-8"))?);
            }
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                return Err(io::Error::other(format!("{} is absolute or goes up", path.display())));
            }
        }
    }
    Ok((!names.is_empty()).then(|| names.join("/")))
}
