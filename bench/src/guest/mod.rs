//! The VM in which the host's path into a guest is measured: ours, bare vsock, and what people would use instead, all in
//! one Debian and one run.
//!
//! | room | has |
//! | --- | --- |
//! | [`network`] | a link to the guest, in a namespace of our own |
//! | [`peer`] | bare vsock connections |
//! | [`qemu_ga`] | QEMU's guest agent |
//! | [`ssh`] | ssh, scp and rsync |
//!
//! Where one of the others cannot be set up, the reason stands in its place, and the rest is measured without it.

mod network;
pub(crate) mod peer;
mod qemu_ga;
mod ssh;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use firstlight_host_ctl::agent::transport::Address;
use firstlight_host_ctl::agent::{Client, Connection};
use firstlight_host_ctl::vm::VmDir;
use firstlight_host_ctl::vm::spec::Assets;
use firstlight_protocol::hex::Secret;
use firstlight_tests::{Lab, Vm};
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout};

use crate::contest::{Outcome, run, timed, timed_command};
use crate::machine::tools::Tools;
use network::Network;
use peer::Peer;
pub(crate) use qemu_ga::QemuGa;
pub(crate) use ssh::Ssh;

/// How long anything in the guest may take to answer.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The VM's name.
pub(crate) const NAME: &str = "host-path";

/// Where files are copied to, in the guest's memory.
pub(crate) const PLACE: &str = "/tmp/bench";

/// The VM, and the ways into it.
pub(crate) struct Guest {
    /// host-ctl's library, and bare connections.
    pub(crate) library: Library,
    /// OpenSSH and rsync.
    pub(crate) ssh: Result<Ssh, String>,
    /// QEMU's guest agent.
    pub(crate) qemu_ga: Result<QemuGa, String>,
    /// Answers bare connections.
    _peer: Peer,
}

/// Ways into the guest that start no process here.
pub(crate) struct Library {
    runtime: Runtime,
    address: Address,
    /// The same without our monitor, which connects our clients.
    bare: Address,
    token: Secret,
}

impl Guest {
    /// Boots it, and sets up all that can be.
    pub(crate) fn start(lab: &Lab, tools: &Tools, assets: &Assets) -> Guest {
        let image = image();
        let network = image.clone().and_then(|_| Network::make().map(Arc::new));
        let vm = boot(lab, assets, image.as_deref().ok(), network.as_deref().ok());
        let peer = Peer::start(lab, NAME, &tools.peer().to_string_lossy());
        Guest {
            library: Library::to(&vm),
            ssh: network.and_then(|network| Ssh::set_up(lab, NAME, network)),
            qemu_ga: image.and_then(|_| QemuGa::set_up(lab, NAME, &assets.modules)),
            _peer: peer,
        }
    }
}

/// The Debian with the others' servers in it.
fn image() -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/debian-root.sh");
    run(Command::new(script).arg("rivals")).map(|path| path.trim_end().to_owned())
}

/// Without an image the VM has the built-in root, and without a network none.
fn boot<'lab>(lab: &'lab Lab, assets: &Assets, image: Option<&str>, network: Option<&Network>) -> Vm<'lab> {
    let net = network.map_or_else(|| "none".to_owned(), |_| Network::option());
    let mut arguments = vec!["run", "-d", "--name", NAME, "--memory", "1024M", "--net", &net];
    arguments.extend(image.into_iter().flat_map(|image| ["--rootfs", image]));
    arguments.extend(["--", "sleep", "100000"]);
    let mut command = lab.command(&arguments);
    command.env("FIRSTLIGHT_QEMU", qemu_ga::wrapper(lab, &assets.vmm));
    let started = match network {
        Some(network) => network.within(|| run(&mut command)),
        None => run(&mut command),
    };
    started.unwrap_or_else(|why| panic!("the VM of the host's path does not run: {why}"));
    lab.vm(NAME)
}

impl Library {
    fn to(vm: &Vm<'_>) -> Library {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (address, token) = VmDir::open(&vm.dir()).unwrap().agent().unwrap().unwrap();
        let bare = match address.clone() {
            Address::Monitor { backend, .. } => Address::VhostUser(backend),
            address
            @ (Address::VhostUser(_) | Address::Serial(_) | Address::Kernel(_) | Address::Unix(_)) => address,
        };
        Library { runtime, address, bare, token }
    }

    /// Waits for some work, for [`LIMIT`] at most.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let late = |_| Err(format!("no answer within {LIMIT:?}"));
        self.runtime.block_on(async { timeout(LIMIT, work).await.unwrap_or_else(late) })
    }

    /// Takes the time of it.
    pub(crate) fn timed<T>(&self, work: impl Future<Output = Result<T, String>>) -> Outcome {
        timed(|| self.wait(work))
    }

    /// A new connection to the agent.
    pub(crate) async fn connect(&self) -> Result<Connection, String> {
        let connection = Connection::open(&self.address, &self.token, Instant::now() + LIMIT).await;
        connection.map_err(|error| error.to_string())
    }

    /// A new connection for requests.
    pub(crate) fn client(&self) -> Result<Client, String> {
        self.wait(async { Ok(Client::new(self.connect().await?)) })
    }
}

/// Empties [`PLACE`], and takes the time of a command of host-ctl's.
pub(crate) fn host_ctl_into(lab: &Lab, arguments: &[&str]) -> Outcome {
    into(lab, || timed_command(&mut lab.command(arguments)))
}

/// Empties [`PLACE`], then makes an attempt to fill it.
pub(crate) fn into(lab: &Lab, attempt: impl FnOnce() -> Outcome) -> Outcome {
    let script = format!("rm -rf {PLACE} && mkdir {PLACE}");
    run(&mut lab.command(&["exec", NAME, "--", "sh", "-c", &script]))?;
    attempt()
}
