//! The headers worker: this binary once more, as a process of its own that installs kernel headers from a bundle.
//!
//! ```text
//! bundle (a disk) ─► manifest ─► installed already? ──yes──► skipped, nothing read but the manifest
//!                                        │ no
//!                                        ▼
//!   /usr/src/.firstlight-headers.partial/…  ─► sync ─► rename ─► sync ─► /lib/modules/RELEASE/build ─► sync
//! ```
//!
//! It runs when nothing else wants the processor or the disk, and nobody waits for it. Each step is on disk before the
//! next one begins, so a power cut at any instant leaves either no `build` link or one that leads to a whole tree.
//! How it stands is in [`STATUS_PATH`]; what else there is to tell, init tells.

mod bundle;
mod error;
mod inflate;
mod install;
mod mask;
#[cfg(test)]
mod testing;
mod tree;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use firstlight_protocol::headers::{Manifest, SERIAL, STATUS_PATH, State, Status};
use nix::sys::stat::{Mode, umask};
use nix::sys::utsname::uname;

use crate::error::{CallError, Fault};
use crate::report::boot_time;
use crate::stage::devices::Devices;
use crate::stage::in_root::root_of_process;
use crate::stage::mounts::make_directory;
use crate::sys::run_when_idle;
use crate::wait::Flag;
use crate::{Exit, console};

use bundle::Bundle;
use error::HeadersError;
use install::{Site, Standing};

/// The worker's name as the first argument of this binary.
pub(crate) const COMMAND: &str = "headers-worker";

/// Where the status is. Init makes it; an image booted by another init may not have it.
const RUN: &str = "/run/firstlight";

/// How long to wait for the bundle's disk, in ms. Its driver is loaded by then, so it is there or it never comes.
const DEVICE_TIMEOUT_MS: u32 = 2_000;

/// What the worker is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// The virtio serial of the disk that is the bundle.
    pub(crate) serial: String,
    /// Cover the directories of other kernels in `/lib/modules`.
    pub(crate) mask_others: bool,
}

impl Options {
    /// The arguments that say the same, the command's name included.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mask = self.mask_others.then(|| "--mask-others".to_owned());
        let serial = ["--serial".to_owned(), self.serial.clone()];
        [COMMAND.to_owned()].into_iter().chain(serial).chain(mask).collect()
    }

    /// Reads the arguments after the command's name; `None` when they make no sense.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
        let mut options = Options { serial: SERIAL.to_owned(), mask_others: false };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--serial" => options.serial = arguments.next()?,
                "--mask-others" => options.mask_others = true,
                _ => return None,
            }
        }
        Some(options)
    }
}

/// The worker's life. `arguments` are those after the command's name.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Exit {
    let Some(options) = Options::parse(arguments) else {
        console::say(&format!("usage: guest-init {COMMAND} [--serial SERIAL] [--mask-others]"));
        return Exit::Usage;
    };
    let started = boot_time();
    let outcome = make_directory(RUN, Mode::S_IRWXU).map_err(Fault::from);
    let outcome = outcome.and_then(|()| announce(&Status::of(State::Running))).and_then(|()| work(&options));
    let outcome = outcome.unwrap_or_else(|fault| Status::failed(fault.to_string()));
    let code = if outcome.state == State::Failed { Exit::Failure } else { Exit::Success };
    let status = Status { dur: Some(boot_time().saturating_sub(started)), ..outcome };
    match announce(&status) {
        Ok(()) => code,
        Err(fault) => {
            console::say(&format!("{COMMAND}: {fault}"));
            Exit::Failure
        }
    }
}

/// Says how the installation stands.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn announce(status: &Status) -> Result<(), Fault> {
    // Replaced as a whole: whoever reads it sees one status or the next.
    let new = format!("{STATUS_PATH}.new");
    std::fs::write(&new, status.to_json()).map_err(CallError::io("write", &new))?;
    Ok(std::fs::rename(&new, STATUS_PATH).map_err(CallError::io("rename", &new))?)
}

fn work(options: &Options) -> Result<Status, Fault> {
    run_when_idle().map_err(CallError::of("lower the priority"))?;
    umask(Mode::from_bits_truncate(0o022));
    let root = root_of_process()?;
    let mut bundle = open(&options.serial)?;
    let manifest = bundle.manifest().clone();
    fits(&manifest)?;
    if options.mask_others {
        mask::mask_others(&root, &manifest.release)?;
    }
    Ok(install(&root, &manifest, &mut bundle)?)
}

fn open(serial: &str) -> Result<Bundle<File>, Fault> {
    let never = Arc::new(Flag::new().map_err(CallError::of("eventfd"))?);
    let device = Devices::open(never)?.disk(serial, DEVICE_TIMEOUT_MS)?;
    let file = File::open(&device).map_err(CallError::io("open", &device))?;
    Ok(Bundle::open(file, &device)?)
}

/// Headers of another kernel would be worse than none.
fn fits(manifest: &Manifest) -> Result<(), HeadersError> {
    let kernel = uname().map_err(CallError::of("uname"))?;
    let is = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    let (release, arch) = (is(kernel.release()), is(kernel.machine()));
    if (&manifest.release, &manifest.arch) == (&release, &arch) {
        return Ok(());
    }
    let bundle = format!("{} ({})", manifest.release, manifest.arch);
    Err(HeadersError::OtherKernel { bundle, kernel: format!("{release} ({arch})") })
}

fn install(root: &OwnedFd, manifest: &Manifest, bundle: &mut Bundle<File>) -> Result<Status, HeadersError> {
    let site = Site::new(root, manifest);
    match site.look()? {
        Standing::Installed => Ok(Status::skipped("installed already")),
        Standing::OfTheImage(place) => {
            Ok(Status::skipped(format!("the image has headers of its own: {place}")))
        }
        Standing::Missing => site.install(bundle, &mut |_| {}).map(|()| Status::of(State::Ready)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Option<Options> {
        Options::parse(arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn options_survive_the_command_line() {
        for mask_others in [true, false] {
            let options = Options { serial: "disk7".into(), mask_others };
            let mut arguments = options.arguments().into_iter();
            assert_eq!(arguments.next().as_deref(), Some(COMMAND));
            assert_eq!(Options::parse(arguments), Some(options));
        }
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        assert_eq!(parse(&["--serial"]), None);
        assert_eq!(parse(&["--mask"]), None);
        assert!(parse(&[]).is_some());
    }
}
