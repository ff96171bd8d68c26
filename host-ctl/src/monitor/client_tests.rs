//! A monitor that is being replaced, played by a test: time is virtual, and passes when everybody waits.

use firstlight_protocol::hex::BootId;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::super::ledger::Ledger;
use super::*;
use crate::clock;
use crate::vm::lock::Lock;
use crate::vm::spec::tests::spec;
use crate::vm::{Entry, ProcessId};

/// Longer than any command takes to look once.
const A_WHILE: Duration = Duration::from_secs(1);

/// A VM that runs, whose monitor has taken it and does not listen yet.
struct Lab {
    directory: tempfile::TempDir,
    ledger: Ledger,
    _lock: Lock,
}

impl Lab {
    fn new() -> Lab {
        let directory = tempfile::tempdir().unwrap();
        let file = |name| directory.path().join(name);
        std::fs::write(file(name::SPEC), spec("web").to_json().unwrap()).unwrap();
        let mut ledger = Ledger::open(&file(name::JOURNAL)).unwrap();
        let host_boot = clock::host_boot_id().unwrap();
        ledger.require(Entry::BootStarted { boot_id: BootId([1; 4]), host_boot }).unwrap();
        let process = ProcessId::of(std::process::id()).unwrap().unwrap();
        ledger.require(Entry::VmmStarted { process, vsock: None }).unwrap();
        let lock = Lock::try_take(&file(name::MONITOR_LOCK)).unwrap().unwrap();
        Lab { ledger, _lock: lock, directory }
    }

    /// A command that asks the monitor, and has found that it does not listen.
    async fn command(&self) -> JoinHandle<Result<Connection, ClientError>> {
        let vm = VmDir::open(self.directory.path()).unwrap();
        let command = tokio::spawn(async move { Connection::open(&vm).await });
        sleep(A_WHILE).await;
        command
    }
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_has_the_vm_and_does_not_listen_yet_is_waited_for() {
    let lab = Lab::new();
    let command = lab.command().await;
    let _listener = UnixListener::bind(lab.directory.path().join(name::MONITOR_SOCKET)).unwrap();
    let connection = command.await.unwrap().unwrap();
    assert!(connection.is_connected(), "a VM that runs was said not to");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_once_the_vm_has_ended() {
    let mut lab = Lab::new();
    let command = lab.command().await;
    lab.ledger.require(Entry::VmmExited { status: "exit code 0".into() }).unwrap();
    assert!(!command.await.unwrap().unwrap().is_connected());
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_never_listens_is_said_to_be_what_was_waited_for() {
    let lab = Lab::new();
    let error = lab.command().await.await.unwrap().err().unwrap();
    assert_eq!(error.to_string(), r#"timed out waiting for the monitor of VM "web" to listen"#);
}
