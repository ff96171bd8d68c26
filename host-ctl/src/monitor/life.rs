//! A monitor's life: it takes the VM, starts or adopts its boot, watches it, and closes the record.

use std::mem::ManuallyDrop;
use std::path::Path;

use tokio::net::UnixListener;
use tokio::time::{Duration, Instant, timeout};

use super::closing::Close;
use super::error::MonitorError;
use super::input::Input;
use super::ledger::Ledger;
use super::owner::Owner;
use super::serial::inputs_of;
use super::start::{self, Running};
use super::tasks::{self, Tasks};
use super::wire::Ready;
use super::{Task, announce, files, restore, server};
use crate::backoff::{Attempt, jitter, retry};
use crate::vm::fold::Boot;
use crate::vm::lock::Lock;
use crate::vm::process::ProcessHandle;
use crate::vm::record::Source;
use crate::vm::vm_dir::name;
use crate::vm::{Entry, Fold, Journal, VmDir, store};

/// How long to wait for the lock of a monitor that is about to end, or for a starting one to show what it does.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);

/// How long a VMM that was killed may take to be gone.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// How long the guest's last words may take to be read once the VMM is gone.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// How long clients may take to read the last messages.
const LINGER: Duration = Duration::from_secs(5);

/// Watches the VM in `vm_dir`, which is also the working directory, until its VMM is gone.
pub(super) async fn live(vm_dir: &Path, task: Task) -> Result<(), MonitorError> {
    // It goes with this process and not a moment before: whoever waits for it to remove the VM finds none of us left.
    let lock = ManuallyDrop::new(take_lock().await?);
    let vm = VmDir::open(vm_dir)?;
    let mut ledger = Ledger::open(Path::new(name::JOURNAL))?;
    let open = ledger.fold().boot().filter(|boot| !boot.is_closed()).cloned();
    let found = match &open {
        Some(boot) => match vmm_of(&vm, ledger.fold(), boot)? {
            Some(vmm) if restore::is_half_loaded(&vm, boot) => {
                end(&vmm).await?;
                None
            }
            found => found,
        },
        None => None,
    };
    let watched = match (open, found, task) {
        (Some(boot), Some(handle), _) => {
            let running = start::adopt(&vm, &mut ledger, &boot, handle).await?;
            watch_over(&vm, &mut ledger, running, Some(&boot)).await
        }
        (open, _, task) => {
            if let Some(boot) = open {
                close_record(&vm, &mut ledger, &boot)?;
            }
            match task {
                Task::Adopt => {
                    announce(&Ready::Closed);
                    return Ok(());
                }
                Task::Boot => {
                    let started = if restore::is_due(&vm) {
                        restore::start(&vm, &mut ledger).await
                    } else {
                        start::start(&vm, &mut ledger).await
                    };
                    let running = started.inspect_err(|_| clean())?;
                    watch_over(&vm, &mut ledger, running, None).await
                }
            }
        }
    };
    watched?;
    if vm.spec().rm_on_exit {
        // Somebody else may do the same; what is left of it then is for them to say.
        let _ = store::remove_locked(&vm, &lock);
    }
    Ok(())
}

/// Takes the lock that makes us the VM's monitor.
///
/// Whoever holds it either watches a boot, or starts one, or has just closed one: the first is left alone, the others
/// are waited for.
async fn take_lock() -> Result<Lock, MonitorError> {
    let (lock, journal) = (Path::new(name::MONITOR_LOCK), Path::new(name::JOURNAL));
    retry(Instant::now() + LOCK_DEADLINE, jitter, async || {
        let taken = Lock::try_take(lock).map_err(MonitorError::io("lock", lock));
        match taken {
            Ok(Some(lock)) => return Attempt::Done(Ok(lock)),
            Ok(None) => {}
            Err(error) => return Attempt::Done(Err(error)),
        }
        match Journal::read(journal) {
            Ok(records) if Fold::of(&records).boot().is_some_and(|boot| !boot.is_closed()) => {
                Attempt::Done(Err(MonitorError::Taken))
            }
            Ok(_) => Attempt::NotYet(MonitorError::Taken),
            Err(error) => Attempt::Done(Err(error.into())),
        }
    })
    .await?
}

/// The VMM of an open boot, if it runs.
fn vmm_of(vm: &VmDir, fold: &Fold, boot: &Boot) -> Result<Option<ProcessHandle>, MonitorError> {
    use crate::vm::view::Liveness;
    let Some(process) = boot.vmm else { return Ok(None) };
    match vm.liveness_without_monitor(fold) {
        Liveness::Gone => Ok(None),
        // What cannot be looked at cannot be adopted either: opening it says why.
        Liveness::Alive | Liveness::Unknown => {
            process.open().map_err(MonitorError::io("look at the VMM in", Path::new("/proc")))
        }
    }
}

/// Ends a VMM that is of no use.
async fn end(vmm: &ProcessHandle) -> Result<(), MonitorError> {
    let in_proc = || MonitorError::io("end the VMM in", Path::new("/proc"));
    vmm.kill().map_err(in_proc())?;
    let ended = vmm.end().map_err(in_proc())?;
    match timeout(END_DEADLINE, ended.readable()).await {
        Ok(ended) => ended.map(drop).map_err(in_proc()),
        Err(_) => Err(in_proc()(std::io::ErrorKind::TimedOut.into())),
    }
}

/// The VMM ended while nobody watched: what it left is read, and the record closed.
fn close_record(vm: &VmDir, ledger: &mut Ledger, boot: &Boot) -> Result<(), MonitorError> {
    if let Some(backend) = boot.backend
        && let Ok(Some(backend)) = backend.open()
    {
        // It serves nobody any more; where it cannot be ended it does no harm.
        let _ = backend.kill();
    }
    let mut entries: Vec<Entry> = recovered(vm, boot).into_iter().filter_map(event).collect();
    entries.push(match boot.vmm {
        Some(_) if restore::is_half_loaded(vm, boot) => Entry::StartFailed {
            reason: "the monitor was killed while it loaded the memory; start the VM to restore it once more"
                .into(),
        },
        Some(_) => Entry::VmmExited { status: "it ended while no monitor watched".into() },
        None => Entry::StartFailed { reason: "the monitor was killed before it had started the VMM".into() },
    });
    ledger.keep(entries);
    ledger.flush()?;
    clean();
    Ok(())
}

/// What the serial log says of a boot whose VMM is gone. Without the boot's key there is nothing to believe.
fn recovered(vm: &VmDir, boot: &Boot) -> Vec<Input> {
    // A boot that was killed before it had written its spec has said nothing either.
    let said = tasks::read_console(vm, boot).unwrap_or_default();
    inputs_of(said, Source::SerialLog).collect()
}

fn event(input: Input) -> Option<Entry> {
    match input {
        Input::Heard { sentinel, source } => Some(Entry::Event { sentinel, source }),
        Input::SerialRotated
        | Input::OutputGrew
        | Input::Vmm(_)
        | Input::VmmGone
        | Input::StreamOpened { .. }
        | Input::StreamClosed { .. }
        | Input::Saved(_)
        | Input::Restored(_)
        | Input::ClockSet { .. }
        | Input::Request { .. } => None,
    }
}

/// Watches a boot to its end.
async fn watch_over(
    vm: &VmDir,
    ledger: &mut Ledger,
    running: Running,
    adopted: Option<&Boot>,
) -> Result<(), MonitorError> {
    let run_state = running.run_state;
    let (mut tasks, mut inputs, said) =
        Tasks::start(vm.spec(), running, adopted.map(|boot| boot.serial_rotations))?;
    let close_server = Close::new();
    let socket = Path::new(name::MONITOR_SOCKET);
    files::remove(socket).map_err(MonitorError::io("replace", socket))?;
    let listener = UnixListener::bind(socket).map_err(MonitorError::io("listen on", socket))?;
    let server = tokio::spawn(server::serve(listener, tasks.inputs(), close_server.closing()));
    let mut owner = Owner::new(vm.spec(), ledger, &mut tasks);
    if adopted.is_some() {
        owner.recover(inputs_of(said, Source::SerialLog), run_state);
    }
    owner.tell_copy();
    owner.let_live();
    announce(&Ready::Watching);
    owner.run(&mut inputs).await;
    let status = owner.close_tasks();
    owner.drain(&mut inputs, Instant::now() + DRAIN_DEADLINE).await;
    clean();
    let last = owner.close(status, &mut inputs).await;
    let _ = files::remove(socket);
    owner.say_last(&last);
    // What they still ask is answered by the end of the connection.
    drop(inputs);
    close_server.tell();
    let _ = timeout(LINGER, server).await;
    Ok(())
}

/// Removes what only a running boot needs. What cannot be removed goes with the VM.
fn clean() {
    let _ = files::clean_boot_dir();
}
