//! Making things under one name and showing them under another, at once.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::ledger::{Ledger, Note};

/// Temporary names tried before giving up. Each one taken is the leftover of a killed process with our number.
const ATTEMPTS: usize = 1000;

const PREFIX: &str = ".firstlight-";
const SUFFIX: &str = ".part";

/// Whether a name is one of [`under_temporary_name`].
pub(super) fn is_temporary(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes()) && name.ends_with(SUFFIX.as_bytes()) && !name.contains(&b'/')
}

/// Does `make` under a temporary name that is free, and gives the name.
pub(super) fn under_temporary_name<T>(
    make: impl Fn(&[u8]) -> Result<T, Errno>,
) -> Result<(Vec<u8>, T), Errno> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let process = std::process::id();
    for _ in 0..ATTEMPTS {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{process}-{number}{SUFFIX}").into_bytes();
        match make(&name) {
            Ok(made) => return Ok((name, made)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

/// Does `make` under `name` in `directory`; where something has the name, makes it beside and takes the other's place.
pub(super) fn replacing(
    directory: &OwnedFd,
    name: &[u8],
    ledger: &Ledger,
    make: impl Fn(&[u8]) -> Result<(), Errno>,
) -> Result<(), Errno> {
    match make(name) {
        Err(Errno::EXIST) => {}
        made => return made,
    }
    let make_noted = |temporary: &[u8]| {
        let note = ledger.note(directory, temporary);
        make(temporary).map(|()| note)
    };
    let (temporary, _note) = under_temporary_name(make_noted)?;
    let renamed = renameat(directory, temporary.as_slice(), directory, name);
    // Still there after an error, and when both names were of the same file: rename(2) then does nothing.
    let removed = unlinkat(directory, temporary.as_slice(), AtFlags::empty());
    renamed.and(match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    })
}

/// A file that nobody sees yet.
#[derive(Debug)]
pub(super) struct Hidden {
    directory: OwnedFd,
    file: OwnedFd,
    /// Its name, on file systems that have no files without one.
    temporary: Option<Temporary>,
    ledger: Ledger,
}

/// A name that nobody is meant to see.
#[derive(Debug)]
struct Temporary {
    name: Vec<u8>,
    _note: Note,
}

impl Hidden {
    /// Makes an empty file that will be published in `directory`.
    pub(super) fn new(directory: OwnedFd, ledger: &Ledger) -> Result<Hidden, Errno> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let private = Mode::RUSR | Mode::WUSR;
        match openat(&directory, c".", flags | OFlags::TMPFILE, private) {
            Ok(file) => Ok(Hidden { directory, file, temporary: None, ledger: ledger.clone() }),
            // What file systems and kernels without O_TMPFILE answer: open(2).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let flags = flags | OFlags::CREATE | OFlags::EXCL;
                let make = |name: &[u8]| {
                    let note = ledger.note(&directory, name);
                    openat(&directory, name, flags, private).map(|file| (file, note))
                };
                let (name, (file, note)) = under_temporary_name(make)?;
                let temporary = Some(Temporary { name, _note: note });
                Ok(Hidden { directory, file, temporary, ledger: ledger.clone() })
            }
            Err(errno) => Err(errno),
        }
    }

    /// The file.
    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Gives it its name. What had the name before is gone in the same moment.
    pub(super) fn publish(mut self, name: &[u8]) -> Result<(), Errno> {
        match &self.temporary {
            None => replacing(&self.directory, name, &self.ledger, |name| self.link(name)),
            Some(temporary) => {
                renameat(&self.directory, temporary.name.as_slice(), &self.directory, name)?;
                self.temporary = None;
                Ok(())
            }
        }
    }

    /// Links the nameless file. Whoever lacks the right to do that by descriptor (`CAP_DAC_READ_SEARCH`) is told that there
    /// is no such file, and links it as `/proc` shows it. Source: `open(2)`.
    fn link(&self, name: &[u8]) -> Result<(), Errno> {
        match linkat(&self.file, c"", &self.directory, name, AtFlags::EMPTY_PATH) {
            Err(Errno::NOENT) => {
                let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                linkat(CWD, path.as_str(), &self.directory, name, AtFlags::SYMLINK_FOLLOW)
            }
            linked => linked,
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nobody is left to be told; the name says whose leftover it would be.
            let _ = unlinkat(&self.directory, temporary.name.as_slice(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    fn names(directory: &std::path::Path) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(directory).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_hidden_file_has_no_name_until_it_is_published_and_replaces_what_had_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for text in ["first", "second"] {
            let hidden = Hidden::new(File::open(path).unwrap().into(), &Ledger::default()).unwrap();
            rustix::io::write(hidden.file(), text.as_bytes()).unwrap();
            assert_ne!(fs::read_to_string(path.join("file")).ok().as_deref(), Some(text));
            hidden.publish(b"file").unwrap();
            assert_eq!(fs::read_to_string(path.join("file")).unwrap(), text);
        }
        assert_eq!(names(path), ["file"]);
    }

    #[test]
    fn a_file_never_takes_the_place_of_a_directory_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("name")).unwrap();
        let hidden = Hidden::new(File::open(directory.path()).unwrap().into(), &Ledger::default()).unwrap();
        assert_eq!(hidden.publish(b"name"), Err(Errno::ISDIR));
        assert_eq!(names(directory.path()), ["name"]);
    }

    #[test]
    fn where_files_need_a_name_it_goes_with_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let open = || OwnedFd::from(File::open(directory.path()).unwrap());
        let named = || {
            let make = |name: &[u8]| openat(open(), name, OFlags::WRONLY | OFlags::CREATE, Mode::RUSR);
            let (name, file) = under_temporary_name(make).unwrap();
            let _note = Ledger::default().note(&file, &name);
            let temporary = Some(Temporary { name, _note });
            Hidden { directory: open(), file, temporary, ledger: Ledger::default() }
        };
        drop(named());
        assert!(names(directory.path()).is_empty());
        named().publish(b"file").unwrap();
        assert_eq!(names(directory.path()), ["file"]);
    }
}
