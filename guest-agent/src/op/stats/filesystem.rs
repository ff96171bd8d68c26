//! Mounted file systems. Source: `proc_pid_mounts(5)`, `statvfs(3)`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::stats::{Filesystem, MAX_ENTRIES};
use nix::sys::statvfs::{Statvfs, statvfs};

use crate::system_file;

const MOUNTS: &str = "/proc/self/mounts";

/// Those of disks, and the root whatever it is. Others are left out: they are memory, or the kernel's, or somebody else's
/// server, on which `statvfs(3)` could hang and the agent with it.
pub(super) fn read() -> Result<Vec<Filesystem>, AgentError> {
    let text = system_file::read(MOUNTS)?;
    let mounts = last_of_each_path(text.lines().filter_map(parse_line));
    // A mount point that has been deleted, or is hidden below another, has nothing to tell.
    let measured = mounts.into_iter().filter_map(|mount| {
        let usage = statvfs(OsStr::from_bytes(&mount.path)).ok()?;
        Some(describe(&mount, &usage))
    });
    Ok(measured.take(MAX_ENTRIES).collect())
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    path: Vec<u8>,
    kind: String,
}

/// A mount that is of interest.
fn parse_line(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let (source, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
    let path = unescape(path);
    (source.starts_with("/dev/") || path == b"/").then(|| Mount { path, kind: kind.to_owned() })
}

/// Blanks and backslashes in a path are written as three octal digits.
fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped =
            digits.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(*first));
        if escaped.is_some() {
            rest = &tail[3..];
        }
    }
    bytes
}

/// A later mount hides an earlier one at the same place.
fn last_of_each_path(mounts: impl Iterator<Item = Mount>) -> Vec<Mount> {
    let mut last: Vec<Mount> = Vec::new();
    for mount in mounts {
        last.retain(|earlier| earlier.path != mount.path);
        last.push(mount);
    }
    last
}

fn describe(mount: &Mount, usage: &Statvfs) -> Filesystem {
    let bytes = |blocks: u64| blocks.saturating_mul(usage.fragment_size());
    Filesystem {
        path: String::from_utf8_lossy(&mount.path).into_owned(),
        kind: mount.kind.clone(),
        size: bytes(usage.blocks()),
        used: bytes(usage.blocks().saturating_sub(usage.blocks_free())),
        available: bytes(usage.blocks_available()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(text: &str) -> Vec<(String, String)> {
        let mounts = last_of_each_path(text.lines().filter_map(parse_line));
        mounts.into_iter().map(|mount| (String::from_utf8(mount.path).unwrap(), mount.kind)).collect()
    }

    #[test]
    fn disks_and_the_root_are_of_interest_and_servers_are_not() {
        let text = "overlay / overlay rw 0 0\nproc /proc proc rw 0 0\n/dev/vdb /data\\040dir ext4 rw 0 0\n\
                    host:/export /mnt nfs rw 0 0\n";
        let expected = [("/".into(), "overlay".into()), ("/data dir".into(), "ext4".into())];
        assert_eq!(mounts(text), expected);
    }

    #[test]
    fn of_two_mounts_at_one_place_the_later_is_seen() {
        let text = "rootfs / rootfs rw 0 0\n/dev/vda / ext4 rw 0 0\n";
        assert_eq!(mounts(text), [("/".into(), "ext4".into())]);
    }

    #[test]
    fn strange_escapes_are_kept_as_they_are() {
        assert_eq!(unescape(r"a\134b\04"), br"a\b\04");
        assert_eq!(unescape(r"\999\"), br"\999\");
    }
}
