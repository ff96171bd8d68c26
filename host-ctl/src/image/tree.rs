//! The files of an image, whether it is a directory or an ext4 file system. Reading needs neither root nor a mount.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ext4_view::{Ext4, Ext4Error};
use firstlight_protocol::boot_spec::FileSystem;

use super::{ImageError, file_system};

/// An image's files.
#[derive(Debug)]
pub(super) enum Tree {
    /// A directory of the host.
    Directory(PathBuf),
    /// An ext4 image.
    Ext4 { image: PathBuf, file_system: Box<Ext4> },
}

/// What stands at a path, links not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Directory,
    File { mode: u32, bytes: Vec<u8> },
    Link { target: PathBuf },
    Other,
}

/// `s_feature_incompat` of the super block, and its bit for a journal to replay. Source: `fs/ext4/ext4.h` of Linux.
const INCOMPATIBLE_FEATURES: usize = 1024 + 0x60;
const NEEDS_RECOVERY: u8 = 0x04;

impl Tree {
    /// Opens the image `path`.
    pub(super) fn open(path: &Path) -> Result<Tree, ImageError> {
        let path = path.canonicalize().map_err(|error| ImageError::io("find", path, error))?;
        if path.is_dir() {
            return Ok(Tree::Directory(path));
        }
        if !path.is_file() || file_system(&path).ok() != Some(FileSystem::Ext4) {
            return Err(ImageError::NotBakeable { path });
        }
        let opened = Ext4::load_from_path(&path);
        let file_system = opened.map_err(|source| ImageError::Ext4 {
            image: path.clone(),
            file: "the super block".into(),
            source,
        })?;
        Ok(Tree::Ext4 { image: path, file_system: Box::new(file_system) })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        match self {
            Tree::Directory(path) | Tree::Ext4 { image: path, .. } => path,
        }
    }

    /// Whether nothing is left to be replayed into it.
    pub(super) fn is_clean(&self) -> Result<bool, ImageError> {
        match self {
            Tree::Directory(_) => Ok(true),
            Tree::Ext4 { image, .. } => {
                use std::os::unix::fs::FileExt as _;
                let mut features = [0];
                let file = fs::File::open(image);
                let read =
                    file.and_then(|file| file.read_exact_at(&mut features, INCOMPATIBLE_FEATURES as u64));
                read.map_err(|error| ImageError::io("read", image, error))?;
                Ok(features[0] & NEEDS_RECOVERY == 0)
            }
        }
    }

    /// What stands at `path`, an absolute path of the image; `None` where there is nothing.
    pub(super) fn entry(&self, path: &str) -> Result<Option<Entry>, ImageError> {
        let found = match self {
            Tree::Directory(root) => directory_entry(&root.join(relative(path))),
            Tree::Ext4 { file_system, .. } => {
                return ext4_entry(file_system, path).or_else(|error| self.missing(path, error));
            }
        };
        match found {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(ImageError::io("read", &self.path().join(relative(path)), error)),
        }
    }

    /// The content of the file that `path` leads to, links followed inside the image; `None` where there is none.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ImageError> {
        match self {
            // A link of a directory's leads into the host when it is absolute; such a file is not looked at.
            Tree::Directory(_) => Ok(match self.entry(path)? {
                Some(Entry::File { bytes, .. }) => Some(bytes),
                Some(Entry::Directory | Entry::Link { .. } | Entry::Other) | None => None,
            }),
            Tree::Ext4 { file_system, .. } => {
                file_system.read(path).map(Some).or_else(|error| self.missing(path, error))
            }
        }
    }

    /// The names in the directory `path`, sorted; none where there is no such directory.
    pub(super) fn list(&self, path: &str) -> Result<Vec<String>, ImageError> {
        let mut names = match self {
            Tree::Directory(root) => {
                let directory = root.join(relative(path));
                match fs::read_dir(&directory) {
                    Ok(entries) => entries
                        .flatten()
                        .map(|entry| entry.file_name().to_string_lossy().into_owned())
                        .collect(),
                    Err(error) if is_missing(&error) => Vec::new(),
                    Err(error) => return Err(ImageError::io("list", &directory, error)),
                }
            }
            Tree::Ext4 { file_system, .. } => {
                let listed = ext4_list(file_system, path).map(Some);
                listed.or_else(|error| self.missing(path, error))?.unwrap_or_default()
            }
        };
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    fn missing<T>(&self, path: &str, error: Ext4Error) -> Result<Option<T>, ImageError> {
        if matches!(error, Ext4Error::NotFound | Ext4Error::NotADirectory | Ext4Error::IsADirectory) {
            return Ok(None);
        }
        Err(ImageError::Ext4 { image: self.path().to_owned(), file: path.to_owned(), source: error })
    }
}

/// A path of the image below its root.
pub(super) fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn directory_entry(path: &Path) -> io::Result<Entry> {
    let metadata = fs::symlink_metadata(path)?;
    Ok(if metadata.is_dir() {
        Entry::Directory
    } else if metadata.is_symlink() {
        Entry::Link { target: fs::read_link(path)? }
    } else if metadata.is_file() {
        Entry::File { mode: metadata.mode() & 0o7777, bytes: fs::read(path)? }
    } else {
        Entry::Other
    })
}

fn ext4_entry(file_system: &Ext4, path: &str) -> Result<Option<Entry>, Ext4Error> {
    let metadata = file_system.symlink_metadata(path)?;
    Ok(Some(if metadata.is_dir() {
        Entry::Directory
    } else if metadata.is_symlink() {
        let target = file_system.read_link(path)?;
        Entry::Link { target: PathBuf::from(String::from_utf8_lossy(target.as_ref()).into_owned()) }
    } else if metadata.file_type().is_regular_file() {
        Entry::File { mode: (metadata.mode() & 0o7777).into(), bytes: file_system.read(path)? }
    } else {
        Entry::Other
    }))
}

fn ext4_list(file_system: &Ext4, path: &str) -> Result<Vec<String>, Ext4Error> {
    let mut names = Vec::new();
    for entry in file_system.read_dir(path)? {
        names.push(String::from_utf8_lossy(entry?.file_name().as_ref()).into_owned());
    }
    Ok(names)
}
