//! A `newc` reader for tests, written from the format's description and not from the writer.

use std::path::PathBuf;

/// One entry as it stands in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: PathBuf,
    pub(crate) inode: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) mtime: u32,
    pub(crate) device: (u32, u32),
    pub(crate) contents: Vec<u8>,
}

/// Reads the entries of one or more archives after one another, as strictly as the kernel does.
#[track_caller]
pub(crate) fn read(bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == 0 {
            at += 1;
            continue;
        }
        let (entry, next) = read_entry(bytes, at);
        at = next;
        if entry.name.as_os_str() != "TRAILER!!!" {
            entries.push(entry);
        }
    }
    entries
}

/// The entry at `path` of the guest.
#[track_caller]
pub(crate) fn find<'a>(entries: &'a [Entry], path: &str) -> &'a Entry {
    let found = entries.iter().find(|entry| entry.name.to_str() == path.strip_prefix('/'));
    found.unwrap_or_else(|| panic!("{path} is not in the archive"))
}

#[track_caller]
fn read_entry(bytes: &[u8], at: usize) -> (Entry, usize) {
    use std::os::unix::ffi::OsStringExt;

    assert_eq!(at % 4, 0, "a header has to be aligned to 4 bytes");
    let header = &bytes[at..at + 110];
    assert_eq!(&header[..6], b"070701");
    let field = |index: usize| {
        let digits = std::str::from_utf8(&header[6 + 8 * index..14 + 8 * index]).unwrap();
        u32::from_str_radix(digits, 16).unwrap()
    };
    let [size, name_size] = [6, 11].map(|index| field(index) as usize);
    let name_end = at + 110 + name_size;
    let (name, nul) = bytes[at + 110..name_end].split_at(name_size - 1);
    assert_eq!(nul, [0], "a name ends in a NUL");
    let start = name_end.next_multiple_of(4);
    let contents = bytes[start..start + size].to_vec();
    let name = PathBuf::from(std::ffi::OsString::from_vec(name.to_vec()));
    let entry = Entry {
        name,
        inode: field(0),
        mode: field(1),
        uid: field(2),
        gid: field(3),
        links: field(4),
        mtime: field(5),
        device: (field(9), field(10)),
        contents,
    };
    (entry, (start + size).next_multiple_of(4))
}
