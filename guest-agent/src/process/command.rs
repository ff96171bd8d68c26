//! From a request to a command that can be spawned.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::exec::ExecRequest;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getuid};

use super::identity::{self, Identity};
use crate::failure;
use crate::sys::ChildSetup;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The largest account file read, in bytes. A larger one is an error and not half read: an account past the end
/// would be someone else's.
const MAX_ACCOUNTS: u64 = 4 << 20;

/// Where a name without a slash is looked for when the request sets no `PATH`. Source: `docker exec`, and Debian's
/// `/etc/login.defs` for root.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The path that these bytes of a request name.
#[must_use]
pub fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Checks a request and resolves its user. The command has no streams yet.
///
/// # Errors
/// What contradicts itself, or the account file that cannot be read.
pub(super) fn build(
    request: &ExecRequest,
    open_files: (u64, u64),
) -> Result<(Command, ChildSetup), AgentError> {
    let invalid = |reason: &str| failure::invalid("exec", reason);
    let Some((program, arguments)) = request.argv.split_first() else {
        return Err(invalid("argv is empty"));
    };
    if program.is_empty() {
        return Err(invalid("argv[0] is empty"));
    }
    if request.argv.iter().any(|argument| argument.contains(&0)) {
        return Err(invalid("an argument contains a NUL byte"));
    }
    let cwd = request.cwd.as_deref().unwrap_or(b"/");
    let cwd = CString::new(cwd).map_err(|_| invalid("the working directory contains a NUL byte"))?;
    let account = account(request.user.as_deref())?;

    let mut command = Command::new(OsStr::from_bytes(program));
    command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
    command.env_clear().env("PATH", DEFAULT_PATH).env("HOME", account.home());
    if let Some(name) = &account.name {
        command.env("USER", name).env("LOGNAME", name);
    }
    for (name, value) in &request.env {
        if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'=')) || value.contains(&0) {
            return Err(invalid(
                "an environment variable has an empty name, an equals sign in it, or a NUL byte",
            ));
        }
        command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
    }

    let identity = request.user.is_some().then(|| {
        let groups = account.groups.iter().copied().map(Gid::from_raw).collect();
        (Uid::from_raw(account.uid), Gid::from_raw(account.gid), groups)
    });
    Ok((command, ChildSetup { cgroup: None, identity, cwd, terminal: false, open_files }))
}

/// The account `user` names, or the agent's own.
fn account(user: Option<&str>) -> Result<Identity, AgentError> {
    let passwd = read_accounts(PASSWD)?;
    let group = read_accounts(GROUP)?;
    let own = getuid().to_string();
    let resolved = identity::resolve(user.unwrap_or(&own), &passwd, &group);
    resolved.map_err(|error| failure::invalid("exec", error.to_string()))
}

/// An account file as text. An image without one knows numbers only.
fn read_accounts(path: &str) -> Result<String, AgentError> {
    let error = |error: io::Error| failure::system("read", Some(Path::new(path)), &error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(source) => return Err(error(source)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_ACCOUNTS + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > MAX_ACCOUNTS {
        return Err(error(Errno::EFBIG.into()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
