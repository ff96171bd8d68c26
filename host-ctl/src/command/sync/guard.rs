//! Directories that a sync does not touch unless it is told twice: pure.

/// Levels below the root that a destination has at least. `/data` is a whole disk as often as not.
const MIN_DEPTH: usize = 2;

/// The end of a sync, for what is allowed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is only read.
    Source,
    /// It is written, and with `--delete` emptied of what the source has not.
    Destination,
}

/// Why a directory is refused, if it is. The path is absolute; `is_home` says whether a directory is somebody's home.
pub(super) fn refusal(end: End, path: &[u8], is_home: impl Fn(&[u8]) -> bool) -> Option<&'static str> {
    let path = normal(path);
    let depth = path.iter().filter(|byte| **byte == b'/').count();
    if path == b"/" {
        Some("it is the root")
    } else if is_home(&path) {
        Some("it is a home folder")
    } else if end == End::Destination && depth < MIN_DEPTH {
        Some("it is less than two levels below the root")
    } else {
        None
    }
}

/// Whether a directory of the guest is a home by where it is.
pub(super) fn is_home_in_guest(path: &[u8]) -> bool {
    let user = path.strip_prefix(b"/home/");
    path == b"/root" || path == b"/home" || user.is_some_and(|user| !user.contains(&b'/'))
}

/// The path without empty names, `.` and `..`. A relative one begins at the root.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    [b"/", names.join(&b'/').as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(end: End, path: &str) -> Option<&'static str> {
        refusal(end, path.as_bytes(), is_home_in_guest)
    }

    #[test]
    fn the_root_is_refused_however_it_is_written() {
        for path in ["/", "", "//", "/.", "/srv/..", "/../..", "a/.."] {
            assert_eq!(check(End::Destination, path), Some("it is the root"), "{path}");
            assert_eq!(check(End::Source, path), Some("it is the root"), "{path}");
        }
    }

    #[test]
    fn home_folders_are_refused_and_what_is_in_them_is_not() {
        for path in ["/root", "/home", "/home/me", "/home/me/", "/home/./me"] {
            assert_eq!(check(End::Source, path), Some("it is a home folder"), "{path}");
        }
        for path in ["/root/src", "/home/me/src"] {
            assert_eq!(check(End::Destination, path), None, "{path}");
        }
    }

    #[test]
    fn a_shallow_directory_may_be_read_and_not_written() {
        assert_eq!(check(End::Source, "/srv"), None);
        assert!(check(End::Destination, "/srv").is_some());
        assert!(check(End::Destination, "/srv/www/..").is_some());
        assert_eq!(check(End::Destination, "/srv/www"), None);
    }
}
