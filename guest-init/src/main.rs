//! PID 1 of a Firstlight VM.
//!
//! [`boot`] reads as the boot does: get ready, read the boot spec, plan, run the plan, supervise, tear down. Nothing
//! returns from here to the kernel: whatever fails ends in a FATAL sentinel, or in a plain line where there is no key to
//! sign one yet, and in power-off. In a guest with systemd this is PID 1 before it and after it, and beside it carries
//! the event stream: see [`systemd`].
//!
//! As any other process this binary is a worker of init's, by its first argument: see [`headers`] too.
//!
//! The C library calls [`sys::entry`] and not the standard library's start, which prepares what init has of its own or has
//! no use for, and has each thread do so too: one instruction in ten of a boot without disks.

#![cfg_attr(not(test), no_main)]

mod console;
mod delete;
mod driver;
mod error;
mod files;
mod headers;
mod plan;
mod report;
mod spec_source;
mod stage;
mod supervise;
mod sys;
mod systemd;
mod teardown;
mod wait;

use std::ffi::CStr;
use std::fs::File;
use std::sync::Arc;

use firstlight_protocol::boot_spec::OnFatal;
use firstlight_protocol::headers::{State, Status};
use firstlight_protocol::module_manifest::ModuleManifest;

use driver::{Driver, Failure};
use error::{CallError, Fault};
use report::Reporter;
use stage::{Context, agent, devices::Devices, early, in_root, modules};
use supervise::{Descriptors, Ending, Remains, Supervisor};
use wait::Flag;

/// How a worker ended, by its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Success = 0,
    Failure = 1,
    Usage = 2,
}

/// `name` is what this process was called by whoever started it.
fn main(name: &CStr) -> Exit {
    if std::process::id() != 1 {
        return worker();
    }
    let ended = if systemd::has_ended(name) { systemd::end() } else { boot() };
    if let Err(fault) = ended {
        console::say(&fault.to_string());
    }
    teardown::power_off()
}

/// What this binary does in a process of its own.
fn worker() -> Exit {
    // Lossy: what is no UTF-8 is no option either.
    let mut arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    match arguments.next().as_deref() {
        Some(headers::COMMAND) => headers::run(arguments),
        command => {
            systemd::serve(command.unwrap_or_default(), arguments.next().as_deref().unwrap_or_default())
        }
    }
}

/// The boot. Comes back only when it fails before there is a boot spec, and with it a key for sentinels.
fn boot() -> Result<(), Fault> {
    let started = report::boot_time();
    sys::prepare_process().map_err(CallError::of("block signals"))?;
    sys::power_off_on_crash().map_err(CallError::of("sigaction"))?;
    early::mount_all()?;

    let cancelled = Arc::new(Flag::new().map_err(CallError::of("eventfd"))?);
    let initramfs = Arc::new(in_root::root_of_process()?);
    let loader = modules::Loader::new(Arc::clone(&initramfs));
    let devices = Devices::open(Arc::clone(&cancelled))?;
    let manifest = modules::manifest()?;
    let (spec, document) =
        spec_source::read(spec_source::Machine { loader: &loader, manifest: &manifest, devices: &devices })?;

    let wake = Arc::new(Flag::new().map_err(CallError::of("eventfd"))?);
    let console = console::open().map_err(CallError::on("open", "/dev/console"))?;
    let reporter = Reporter::start(&spec, started, &console, Arc::clone(&wake))?;
    teardown::end_on_panic(reporter.clone());
    let context = Arc::new(Context { spec, document, initramfs, loader, devices, cancelled, wake });
    let remains = run(&context, &manifest, &reporter, console);
    teardown::run(&remains, &context.initramfs, &reporter)
}

/// The boot from the moment on that it can report.
fn run(context: &Arc<Context>, manifest: &ModuleManifest, reporter: &Reporter, console: File) -> Remains {
    let mut supervisor = match start(context, manifest, reporter, console) {
        Ok(supervisor) => supervisor,
        Err(Failure { stage, fault }) => {
            reporter.fatal(&stage, &fault);
            return Remains::default();
        }
    };
    match supervisor.run() {
        Ending::ProgramEnded | Ending::Stopped => {}
        Ending::Failed(Failure { stage, fault }) => {
            reporter.fatal(&stage, &fault);
            if context.spec.boot.on_fatal == OnFatal::Shell
                && let Err(error) = supervisor.run_shell()
            {
                reporter.fatal("shell", &error.into());
            }
        }
    }
    supervisor.remains()
}

/// Plans the boot and sets it going.
fn start(
    context: &Arc<Context>,
    manifest: &ModuleManifest,
    reporter: &Reporter,
    console: File,
) -> Result<Supervisor, Failure> {
    let spec = &context.spec;
    let plan = plan::plan(spec, manifest, context.devices.transports_of(manifest));
    if spec.headers.is_some() {
        // Before the root is switched, so that a program that looks finds the file. Without it init still tells the host.
        let _ = headers::announce(&Status::of(State::Pending));
    }
    let agent = spec.agent.as_ref().map(|_| agent::open_executable(&context.initramfs));
    let agent = agent.transpose().map_err(Failure::of("agent"))?;
    let descriptors = Descriptors::open(console).map_err(Failure::of("supervise"))?;
    let driver = Driver::start(plan, Arc::clone(context), reporter.clone());
    let driver = driver.map_err(CallError::of("eventfd")).map_err(Failure::of("driver"))?;
    Ok(Supervisor::new(Arc::clone(context), reporter.clone(), driver, descriptors, agent))
}
