//! Who the guest is: its host name, and the files that say it and where to ask for others.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use firstlight_protocol::boot_spec::{BootSpec, Dns};
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlink};
use nix::mount::{MsFlags, mount};
use nix::unistd::{sethostname, unlink};

use super::Done;
use super::in_root::{directory_in_root, open_in_root, root_of_process, through_proc};
use super::mounts::MountError;
use crate::error::CallError;

/// Bytes of an existing file that are looked at.
const MAX_FILE: u64 = 64 << 10;

/// Sets the host name and writes the files. In a root that cannot be written each is mounted over the image's own;
/// one that the image lacks is left out, and the STAGE-DONE sentinel says so.
///
/// # Errors
/// [`MountError`], which names the file.
pub(crate) fn establish(spec: &BootSpec) -> Result<Done, MountError> {
    let root = root_of_process()?;
    let mut files: Vec<(&str, String)> = Vec::new();
    match &spec.hostname {
        Some(name) => {
            sethostname(name).map_err(CallError::of("set the host name"))?;
            files.push(("/etc/hostname", format!("{name}\n")));
        }
        None => adopt_hostname(&root)?,
    }
    let address = spec.network.interfaces.iter().flat_map(|interface| &interface.addresses).next();
    let existing = read(&root, "/etc/hosts");
    let hosts = hosts(existing.as_deref(), spec.hostname.as_deref(), address.map(|cidr| cidr.address));
    files.extend(hosts.map(|text| ("/etc/hosts", text)));
    if !spec.network.dns.servers.is_empty() {
        files.push(("/etc/resolv.conf", resolv_conf(&spec.network.dns)));
    }

    let mut missing = Vec::new();
    for (path, text) in files {
        if !put(&root, path, &text)? {
            missing.push(path);
        }
    }
    let skipped = (!missing.is_empty()).then(|| format!("the read-only root has no {}", missing.join(", ")));
    Ok(Done { skipped })
}

/// Without a name in the spec, the image's own holds.
fn adopt_hostname(root: &OwnedFd) -> Result<(), CallError> {
    let file = read(root, "/etc/hostname").unwrap_or_default();
    match file.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')) {
        Some(name) => sethostname(name).map_err(CallError::on("set the host name", "/etc/hostname")),
        None => Ok(()),
    }
}

fn read(root: &OwnedFd, path: &str) -> Option<String> {
    // Not blocking, since the image may have anything there, a FIFO for instance.
    let file = open_in_root(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK).ok()?;
    let mut text = String::new();
    File::from(file).take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Writes a file in the root, or mounts one over it; `false` when the root is read-only and has none.
fn put(root: &OwnedFd, path: &str, text: &str) -> Result<bool, MountError> {
    // A link such as `/etc/resolv.conf` to a resolver's runtime file leads to what nobody will write in this guest.
    if readlink(path).is_ok() {
        match unlink(path) {
            Ok(()) | Err(Errno::EROFS) => {}
            Err(errno) => return Err(CallError::on("replace the link", path)(errno).into()),
        }
    }
    let written = match directory_in_root(root, "/etc") {
        Ok(_) => write(root, path, text),
        Err(MountError::NoMountPoint { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    match written {
        Ok(()) => Ok(true),
        Err(Errno::EROFS) => cover(root, path, text),
        Err(errno) => Err(CallError::on("write", path)(errno).into()),
    }
}

fn write(root: &OwnedFd, path: &str, text: &str) -> nix::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NONBLOCK;
    let mut file = File::from(open_in_root(root, path, flags)?);
    file.write_all(text.as_bytes()).map_err(|error| crate::error::io_errno(&error))
}

/// Mounts a file of init's own over the image's.
fn cover(root: &OwnedFd, path: &str, text: &str) -> Result<bool, MountError> {
    let target = match open_in_root(root, path, OFlag::O_PATH) {
        Ok(target) => target,
        Err(Errno::ENOENT) => return Ok(false),
        Err(errno) => return Err(CallError::on("open", path)(errno).into()),
    };
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let source = format!("/run/firstlight/{name}");
    std::fs::write(&source, text).map_err(CallError::io("write", &source))?;
    mount(
        Some(source.as_str()),
        through_proc(&target).as_str(),
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(CallError::on("bind a file over", path))?;
    Ok(true)
}

fn resolv_conf(Dns { servers, search }: &Dns) -> String {
    let mut text = String::new();
    if !search.is_empty() {
        text = format!("search {}\n", search.join(" "));
    }
    for server in servers {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

/// What `/etc/hosts` should say: what it says already, loopback, and the guest's own name at its own address (or
/// at 127.0.1.1, as Debian has it for hosts without one). `None` when it says so.
fn hosts(existing: Option<&str>, hostname: Option<&str>, address: Option<IpAddr>) -> Option<String> {
    let knows = |name: &str| {
        let mut lines = existing.unwrap_or_default().lines();
        lines.any(|line| {
            line.split('#').next().unwrap_or_default().split_whitespace().skip(1).any(|known| known == name)
        })
    };
    let mut text = existing.unwrap_or_default().to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let before = text.len();
    if !knows("localhost") {
        text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    }
    if let Some(name) = hostname.filter(|name| !knows(name)) {
        let address = address.map_or_else(|| "127.0.1.1".to_owned(), |address| address.to_string());
        let short = name.split_once('.').map(|(short, _)| format!(" {short}")).unwrap_or_default();
        let _ = writeln!(text, "{address}\t{name}{short}");
    }
    (text.len() > before).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

    #[test]
    fn an_image_without_hosts_gets_loopback_and_its_name() {
        let address = Some("10.0.2.15".parse().unwrap());
        assert_eq!(
            hosts(None, Some("a.example"), address),
            Some(format!("{LOCALHOST}10.0.2.15\ta.example a\n"))
        );
        assert_eq!(hosts(None, None, None), Some(LOCALHOST.to_owned()));
    }

    #[test]
    fn what_an_image_says_of_its_hosts_stays() {
        let existing = "127.0.0.1 localhost\n10.9.9.9 db";
        let expected = "127.0.0.1 localhost\n10.9.9.9 db\n127.0.1.1\tguest\n".to_owned();
        assert_eq!(hosts(Some(existing), Some("guest"), None), Some(expected));
    }

    #[test]
    fn hosts_that_know_the_name_already_are_not_touched_so_that_boots_do_not_add_up() {
        let first = hosts(None, Some("guest"), None).unwrap();
        assert_eq!(hosts(Some(&first), Some("guest"), None), None);
        let commented = "127.0.0.1 localhost # guest\n";
        assert!(hosts(Some(commented), Some("guest"), None).is_some());
    }

    #[test]
    fn resolv_conf_has_the_search_list_before_the_servers() {
        let dns = Dns {
            servers: vec!["10.0.2.3".parse().unwrap(), "fec0::3".parse().unwrap()],
            search: vec!["example".into(), "test".into()],
        };
        assert_eq!(resolv_conf(&dns), "search example test\nnameserver 10.0.2.3\nnameserver fec0::3\n");
    }

    #[test]
    fn a_file_is_written_into_an_image_that_has_no_etc() {
        let directory = tempfile::tempdir().unwrap();
        let root: OwnedFd = File::open(directory.path()).unwrap().into();
        directory_in_root(&root, "/etc").unwrap();
        write(&root, "/etc/hosts", "text").unwrap();
        assert_eq!(read(&root, "/etc/hosts").as_deref(), Some("text"));
    }
}
