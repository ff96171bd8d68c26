//! What systemd finds when it takes PID 1 over: programs, settings and units, all of it in `/run` and none of it in the
//! image.
//!
//! ```text
//! /run/firstlight/{init,agent}               the programs, since the initramfs is about to be freed
//! /run/firstlight/{boot,agent}.json          settings with secrets, mode 0600
//! /run/systemd/system/firstlight-*.service   units, linked into sysinit.target.wants
//! /run/systemd/network/00-firstlight-N.network   what networkd is to leave as it is
//! /run/initramfs/shutdown                    where systemd gives PID 1 back
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, symlink};

use firstlight_protocol::agent_config::AgentConfig;
use firstlight_protocol::boot_spec::BootSpec;
use firstlight_protocol::units::{self, AGENT_CONFIG_PATH, BOOT_SPEC_PATH, Layout, SHUTDOWN_PATH, Settings};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::agent::PATH as AGENT_IN_INITRAMFS;
use super::in_root::{open_in_root, root_of_process};
use super::mounts::make_directory;
use super::{Context, networkd};
use crate::error::CallError;

/// Where the programs are for systemd.
const INIT: &str = "/run/firstlight/init";
const AGENT: &str = "/run/firstlight/agent";
/// Where guest-init is in the initramfs.
const INIT_IN_INITRAMFS: &str = "/init";

const UNITS: &str = "/run/systemd/system";
const NETWORKS: &str = "/run/systemd/network";

/// Directories that the switch to the last root wants there; it makes none of them itself.
const SHUTDOWN_ROOT: [&str; 5] = ["dev", "oldroot", "proc", "run", "sys"];

/// Bytes of a program that are copied at a time.
const PIECE: usize = 64 << 10;

/// How long the agent may take where the spec has none, in milliseconds: systemd's own default.
const DEFAULT_READY_TIMEOUT_MS: u32 = 90_000;

/// Leaves everything in its place.
///
/// # Errors
/// [`CallError`], which names the file.
pub(crate) fn leave(context: &Context) -> Result<(), CallError> {
    let spec = &context.spec;
    copy(&context.initramfs, INIT_IN_INITRAMFS, INIT)?;
    if spec.agent.is_some() {
        copy(&context.initramfs, AGENT_IN_INITRAMFS, AGENT)?;
    }
    leave_settings(spec, &context.document)?;
    leave_way_back(INIT)?;
    leave_networks(spec)?;
    let layout = Layout {
        init: INIT,
        agent: spec.agent.is_some().then_some(AGENT),
        settings: Settings::HandedOver,
        ready_timeout_ms: spec
            .agent
            .as_ref()
            .map_or(DEFAULT_READY_TIMEOUT_MS, |agent| agent.ready_timeout_ms),
    };
    let wants = format!("{UNITS}/{}.wants", units::WANTED_BY);
    make_directory(&wants, Mode::from_bits_truncate(0o755))?;
    for unit in layout.units() {
        write(&format!("{UNITS}/{}", unit.name), 0o644, unit.text.as_bytes())?;
        link(&format!("../{}", unit.name), &format!("{wants}/{}", unit.name))?;
    }
    mask_getty()
}

/// Writes what the processes of this boot read: the spec, as the `document` it came from, and the agent's configuration.
///
/// # Errors
/// [`CallError`], which names the file.
pub(crate) fn leave_settings(spec: &BootSpec, document: &[u8]) -> Result<(), CallError> {
    write(BOOT_SPEC_PATH, 0o600, document)?;
    let Some(agent) = &spec.agent else { return Ok(()) };
    let config = AgentConfig {
        boot_id: spec.boot_id,
        token: agent.token.clone(),
        port: agent.port,
        transport: spec.boot.transport,
        program_output: None,
    };
    // Nothing in it can fail to be JSON.
    write(AGENT_CONFIG_PATH, 0o600, serde_json::to_string(&config).unwrap_or_default().as_bytes())
}

/// Makes the root that systemd ends in, with guest-init at `init` as the program it gives PID 1 to.
///
/// # Errors
/// [`CallError`], which names the file.
pub(crate) fn leave_way_back(init: &str) -> Result<(), CallError> {
    let root = SHUTDOWN_PATH.rsplit_once('/').map_or("/", |(root, _)| root);
    for directory in SHUTDOWN_ROOT {
        make_directory(&format!("{root}/{directory}"), Mode::from_bits_truncate(0o755))?;
    }
    match std::fs::hard_link(init, SHUTDOWN_PATH) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        // A baked image's own is on another file system, and gone by then.
        Err(_) => {
            let source = File::open(init).map_err(CallError::io("open", init))?;
            write_program(source, SHUTDOWN_PATH)
        }
    }
}

fn leave_networks(spec: &BootSpec) -> Result<(), CallError> {
    make_directory(NETWORKS, Mode::from_bits_truncate(0o755))?;
    for (index, text) in networkd::files(&spec.network).iter().enumerate() {
        // The first name that matches an interface decides, in whichever directory it is.
        write(&format!("{NETWORKS}/00-firstlight-{index}.network"), 0o644, text.as_bytes())?;
    }
    Ok(())
}

fn copy(initramfs: &OwnedFd, from: &str, to: &str) -> Result<(), CallError> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let source = openat(initramfs, from.trim_start_matches('/'), flags, Mode::empty());
    write_program(File::from(source.map_err(CallError::on("open", from))?), to)
}

fn write_program(mut source: File, to: &str) -> Result<(), CallError> {
    let mut program = create(to, 0o755)?;
    // From memory to memory. The standard library's way of copying is as large as all of this module.
    let mut piece = vec![0; PIECE];
    loop {
        let count = source.read(&mut piece).map_err(CallError::io("read the program for", to))?;
        match piece.get(..count) {
            Some([]) | None => return Ok(()),
            Some(bytes) => program.write_all(bytes).map_err(CallError::io("write", to))?,
        }
    }
}

fn write(path: &str, mode: u32, bytes: &[u8]) -> Result<(), CallError> {
    create(path, mode)?.write_all(bytes).map_err(CallError::io("write", path))
}

fn create(path: &str, mode: u32) -> Result<File, CallError> {
    let file = File::options().write(true).create(true).truncate(true).mode(mode).open(path);
    file.map_err(CallError::io("create", path))
}

fn link(target: &str, path: &str) -> Result<(), CallError> {
    match symlink(target, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(CallError::io("symlink", path)(error)),
    }
}

/// The console's getty waits a minute and a half for a device that nobody announces where there is no udev, and fails
/// over and over where there is no getty.
fn mask_getty() -> Result<(), CallError> {
    let root = root_of_process()?;
    let has = |paths: &[&str]| paths.iter().any(|path| open_in_root(&root, path, OFlag::O_PATH).is_ok());
    let udev = has(&["/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd"]);
    let getty = has(&["/usr/sbin/agetty", "/sbin/agetty"]);
    if udev && getty {
        return Ok(());
    }
    link("/dev/null", &format!("{UNITS}/serial-getty@ttyS0.service"))
}
