//! `adopt`: the beginning of a boot that guest-init was not PID 1 of, in an image that `image bake` has prepared.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

use firstlight_protocol::agent_config::EVENTS_PATH;
use firstlight_protocol::boot_spec::{BootSpec, Mode};
use firstlight_protocol::headers::{State, Status};
use firstlight_protocol::sentinel::Event;
use firstlight_protocol::units::{CREDENTIAL, DIRECTORY};
use nix::mount::{MsFlags, mount};
use nix::sys::stat;

use super::{SettingsError, record};
use crate::error::{CallError, Fault};
use crate::headers::announce;
use crate::stage::mounts::make_directory;
use crate::stage::units::{leave_settings, leave_way_back};

/// Where systemd puts the credentials that a unit asks for. Source: `systemd.exec(5)`.
const CREDENTIALS_ENV: &str = "CREDENTIALS_DIRECTORY";

/// This very program.
const THIS: &str = "/proc/self/exe";

/// Takes the settings over and begins the log, once a boot.
pub(super) fn adopt() -> Result<(), Fault> {
    let (spec, document) = credential()?;
    make_directory(DIRECTORY, stat::Mode::S_IRWXU)?;
    let log = File::options().write(true).create_new(true).mode(0o600).open(EVENTS_PATH);
    match log {
        Ok(_) => {}
        // The event stream was started again; everything is in its place.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(CallError::io("create", EVENTS_PATH)(error).into()),
    }
    leave_settings(&spec, &document)?;
    if spec.headers.is_some() {
        announce(&Status::of(State::Pending))?;
    }
    // Distributions' initrds mount it without, and the program that PID 1 comes back to is there.
    let executable = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(None::<&str>, "/run", None::<&str>, executable, None::<&str>)
        .map_err(CallError::on("remount with exec", "/run"))?;
    leave_way_back(THIS)?;
    record::say(&spec, &Event::InitStart)?;
    // systemd, the program of this VM, runs already.
    Ok(record::say(&spec, &Event::ProgramStart { mode: Mode::Systemd, pid: 1 })?)
}

fn credential() -> Result<(BootSpec, Vec<u8>), SettingsError> {
    let directory = std::env::var(CREDENTIALS_ENV).unwrap_or_default();
    let path = format!("{directory}/{CREDENTIAL}");
    let bytes = std::fs::read(&path).map_err(CallError::io("read the credential", &path))?;
    match BootSpec::from_json(&bytes) {
        Ok(spec) => Ok((spec, bytes)),
        Err(error) => Err(SettingsError::Document { reason: error.to_string(), path }),
    }
}
