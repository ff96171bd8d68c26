//! A root file system that is one static busybox, so that a VM without an image has something to run.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

use crate::Error;
use crate::cpio::Archive;

/// How long a busybox may take to list its applets. One that takes longer is something else.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of an applet list; a busybox with everything in it has 3 KiB.
const MAX_LIST: u64 = 64 << 10;

/// The directories of the root, with their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];

/// All programs are in `/bin`; these make every usual path to them work.
const SYMLINKS: &[(&str, &str)] =
    &[("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin"), ("var/run", "../run")];

const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
];

/// Adds the root file system at `root` of the guest, with the host's `busybox` in it.
///
/// # Errors
/// [`Error::Io`] when `busybox` cannot be read, [`Error::Busybox`] when it lists no applets.
pub fn add(archive: &mut Archive, root: &Path, busybox: &Path) -> Result<(), Error> {
    let binary = fs::read(busybox).map_err(Error::io("read", busybox))?;
    let applets = applets(busybox)?;

    archive.directory(root, 0o755)?;
    for (directory, mode) in DIRECTORIES {
        archive.directory(root.join(directory), *mode)?;
    }
    for (path, target) in SYMLINKS {
        archive.symlink(root.join(path), target)?;
    }
    for (path, contents) in FILES {
        archive.file(root.join(path), 0o644, contents.as_bytes())?;
    }
    archive.file(root.join("bin/busybox"), 0o755, &binary)?;
    for applet in applets.iter().filter(|applet| *applet != "busybox") {
        archive.symlink(root.join("bin").join(applet), "busybox")?;
    }
    Ok(())
}

/// Asks the binary what it can do: a table here would promise applets that another build of it does not have.
fn applets(busybox: &Path) -> Result<Vec<String>, Error> {
    let error = |reason: &str| Error::Busybox { path: busybox.to_owned(), reason: reason.to_owned() };
    let mut child = Command::new(busybox)
        .arg("--list")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::io("run", busybox))?;
    let output = child.stdout.take().map(|output| output.take(MAX_LIST));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut list = String::new();
        let read = output.map(|mut output| output.read_to_string(&mut list));
        // The receiver is gone only when nobody wants the list any more.
        let _ = sender.send(matches!(read, Some(Ok(_))).then_some(list));
    });
    let list = receiver.recv_timeout(LIST_TIMEOUT);
    // It has said all it will be heard of; it must not outlive this call.
    child.kill().and_then(|()| child.wait()).map_err(Error::io("end", busybox))?;

    let list = list.map_err(|_| error("`--list` did not end within 10 s"))?;
    let list = list.ok_or_else(|| error("`--list` printed something that is no text"))?;
    let mut applets: Vec<String> = list.lines().map(str::to_owned).collect();
    if !applets.iter().any(|applet| applet == "sh") {
        return Err(error("`--list` names no applet `sh`"));
    }
    if applets.iter().any(|applet| applet.contains('/') || applet.starts_with('.')) {
        return Err(error("`--list` names an applet that is no file name"));
    }
    applets.sort();
    applets.dedup();
    Ok(applets)
}
