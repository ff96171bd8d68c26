//! PID 1 of a Firstlight VM.
//!
//! [`boot`] reads as the boot does: get ready, read the boot spec, plan, run the plan, supervise, tear down. Nothing
//! returns from here to the kernel: whatever fails ends in a FATAL sentinel, or in a plain line where there is no key to
//! sign one yet, and in power-off.

mod console;
mod driver;
mod error;
mod plan;
mod report;
mod spec_source;
mod stage;
mod supervise;
mod sys;
mod teardown;
mod wait;

use std::sync::Arc;

use firstlight_protocol::boot_spec::OnFatal;
use firstlight_protocol::module_manifest::ModuleManifest;

use driver::{Driver, Failure};
use error::{CallError, Fault};
use report::Reporter;
use stage::{Context, agent, devices::Devices, early, in_root, modules};
use supervise::{Ending, Remains, Supervisor};
use wait::Flag;

fn main() {
    if std::process::id() != 1 {
        return console::say("this is a virtual machine's init; it does nothing unless it is process 1");
    }
    if let Err(fault) = boot() {
        console::say(&fault.to_string());
    }
    teardown::power_off()
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
    let spec =
        spec_source::read(spec_source::Machine { loader: &loader, manifest: &manifest, devices: &devices })?;

    let wake = Arc::new(Flag::new().map_err(CallError::of("eventfd"))?);
    let reporter = Reporter::start(&spec, started, Arc::clone(&wake))?;
    teardown::end_on_panic(reporter.clone());
    let context = Arc::new(Context { spec, initramfs, loader, devices, cancelled, wake });
    let remains = run(&context, &manifest, &reporter);
    teardown::run(&remains, &context.initramfs, &reporter)
}

/// The boot from the moment on that it can report.
fn run(context: &Arc<Context>, manifest: &ModuleManifest, reporter: &Reporter) -> Remains {
    let mut supervisor = match start(context, manifest, reporter) {
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
) -> Result<Supervisor, Failure> {
    let spec = &context.spec;
    let plan = plan::plan(spec, manifest, context.devices.transports()).map_err(Failure::of("plan"))?;
    let agent = spec.agent.as_ref().map(|_| agent::open_executable(&context.initramfs));
    let agent = agent.transpose().map_err(Failure::of("agent"))?;
    let driver = Driver::start(plan, Arc::clone(context), reporter.clone());
    Supervisor::new(Arc::clone(context), reporter.clone(), driver, agent).map_err(Failure::of("supervise"))
}
