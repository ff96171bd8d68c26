//! `NAME:/path`, `/path` or `-`: the ends of a copy.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// A path in a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestPath {
    /// The VM, by name or the unique beginning of its id.
    pub(crate) vm: String,
    /// The path. A relative one begins at the root, as in docker.
    pub(crate) path: Vec<u8>,
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// Standard input or output, as a tar archive.
    Archive,
    /// A path of the host.
    Host(PathBuf),
    /// A path of a VM.
    Guest(GuestPath),
}

/// Parses an end of a copy. Host paths with a colon in their first name are told from VMs by a `/` or a `.` at the
/// beginning, as in docker.
pub(crate) fn parse(text: OsString) -> Result<Location, String> {
    if text == "-" {
        return Ok(Location::Archive);
    }
    if text.is_empty() {
        return Err("an empty path; write NAME:/path, a path of the host, or - for a tar archive".into());
    }
    match split(&text) {
        Some(found) => found.map(Location::Guest),
        None => Ok(Location::Host(PathBuf::from(text))),
    }
}

/// Parses a path that has to be a VM's.
pub(crate) fn parse_guest(text: &OsStr) -> Result<GuestPath, String> {
    let no_vm = || format!("{text:?} names no VM; write it like web:/etc/hosts");
    split(text).unwrap_or_else(|| Err(no_vm()))
}

/// The VM and the path in it, if the text has the form of both.
fn split(text: &OsStr) -> Option<Result<GuestPath, String>> {
    let bytes = text.as_bytes();
    if bytes.starts_with(b"/") || bytes.starts_with(b".") {
        return None;
    }
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let (vm, path) = (String::from_utf8_lossy(&bytes[..colon]), &bytes[colon + 1..]);
    if vm.contains('/') {
        return None;
    }
    if vm.is_empty() || path.is_empty() {
        return Some(Err(format!("{text:?} lacks the VM or the path; write it like web:/etc/hosts")));
    }
    Some(Ok(GuestPath { vm: vm.into_owned(), path: path.to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(vm: &str, path: &str) -> GuestPath {
        GuestPath { vm: vm.into(), path: path.into() }
    }

    #[test]
    fn a_vm_is_what_stands_before_the_first_colon() {
        let parse = |text: &str| parse(text.into());
        assert_eq!(parse("-"), Ok(Location::Archive));
        assert_eq!(parse("web:/a:b"), Ok(Location::Guest(guest("web", "/a:b"))));
        assert_eq!(parse("web:etc/"), Ok(Location::Guest(guest("web", "etc/"))));
        for host in ["/a:b", "./a:b", "../a:b", "file", "dir/a:b", "--"] {
            assert_eq!(parse(host), Ok(Location::Host(host.into())), "{host}");
        }
    }

    #[test]
    fn what_lacks_a_part_is_refused_with_an_example() {
        for text in ["web:", ":/a", ":"] {
            assert!(parse(text.into()).unwrap_err().contains("like web:/etc/hosts"), "{text}");
            assert!(parse_guest(text.as_ref()).unwrap_err().contains("like web:/etc/hosts"), "{text}");
        }
        assert!(parse("".into()).is_err());
        assert!(parse_guest("/etc/hosts".as_ref()).unwrap_err().contains("names no VM"));
    }
}
