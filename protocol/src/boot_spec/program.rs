//! What the VM exists to run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Whether init stays PID 1.
    #[serde(default, skip_serializing_if = "super::goes_without_saying")]
    pub mode: Mode,
    /// The program and its arguments; no shell is involved. A name without a slash is looked for in the `PATH` of
    /// `env`, inside the root.
    pub argv: Vec<String>,
    /// Its whole environment. Where `PATH` is missing, `/usr/local/sbin:…:/bin` is added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its working directory: absolute, inside the root.
    #[serde(default = "default_cwd")]
    pub cwd: String,
    /// `user`, `uid`, `user:group` or `uid:gid`, looked up in the root's `/etc/passwd` and `/etc/group`; numbers
    /// need no entry there. `None` is root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Supplementary groups by name or number, besides those the group file gives the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Resource limits; those not named are the kernel's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// The capabilities it may ever have, by name (`CAP_NET_ADMIN`); `None` leaves the kernel's full set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// `PR_SET_NO_NEW_PRIVS`.
    #[serde(default, skip_serializing_if = "super::goes_without_saying")]
    pub no_new_privileges: bool,
    /// Memory limit of its cgroup in bytes (`memory.max`); `None` is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// The signal a graceful stop begins with, by the guest's number.
    #[serde(default = "default_stop_signal")]
    pub stop_signal: u8,
    /// Milliseconds between the stop signal and SIGKILL when nobody says otherwise.
    #[serde(default = "default_stop_grace")]
    pub stop_grace_ms: u32,
}

impl Program {
    /// The program `argv` with the defaults of a document that says nothing else.
    #[must_use]
    pub fn new(argv: Vec<String>) -> Program {
        Program {
            mode: Mode::default(),
            argv,
            env: BTreeMap::new(),
            cwd: default_cwd(),
            user: None,
            groups: Vec::new(),
            rlimits: Vec::new(),
            capabilities: None,
            no_new_privileges: false,
            memory_max: None,
            stop_signal: default_stop_signal(),
            stop_grace_ms: default_stop_grace(),
        }
    }
}

/// Whether init stays PID 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Init supervises the program, and the VM ends with it.
    #[default]
    Exec,
    /// Init hands PID 1 over to the image's own init.
    Systemd,
}

impl Mode {
    /// As it stands in a boot spec and in PROGRAM-START.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::Exec => "exec",
            Mode::Systemd => "systemd",
        }
    }
}

/// One resource limit. Source: `setrlimit(2)`; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// Which.
    pub resource: Resource,
    /// The soft limit.
    pub soft: Option<u64>,
    /// The hard limit.
    pub hard: Option<u64>,
}

/// The resources of `setrlimit(2)`, by their names in `ulimit` and `docker run --ulimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "setrlimit(2) documents them by these names")]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

fn default_cwd() -> String {
    "/".into()
}

fn default_stop_signal() -> u8 {
    15
}

fn default_stop_grace() -> u32 {
    10_000
}
