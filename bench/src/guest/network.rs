//! A network of the guest's and ours alone: a tap device in a namespace that ends with us. Source:
//! `network_namespaces(7)`.

use std::fs::File;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

use crate::contest::run;

/// The host's end of the guest's link.
const TAP: &str = "fl0";
const HOST: &str = "192.168.77.1/24";
/// The guest's.
const GUEST: &str = "192.168.77.2";

/// The namespace. It is there for as long as this value or a process in it.
pub(crate) struct Network(File);

impl Network {
    /// Makes it, with a tap device that is up.
    pub(crate) fn make() -> Result<Network, String> {
        // A namespace is a thread's own until it is inherited, so a thread makes it.
        std::thread::scope(|scope| scope.spawn(make).join().unwrap())
    }

    /// Does `work` in the namespace, and so do the commands that it starts.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET)
                .unwrap_or_else(|errno| panic!("cannot enter the network namespace: {errno}"));
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }

    /// What `run --net` is told.
    pub(crate) fn option() -> String {
        format!("tap:{TAP},address={GUEST}/24")
    }

    /// The guest's address.
    pub(crate) fn guest() -> &'static str {
        GUEST
    }
}

fn make() -> Result<Network, String> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| format!("cannot make a network namespace, which takes root: {errno}"))?;
    for arguments in [
        "link set lo up".to_owned(),
        format!("tuntap add dev {TAP} mode tap"),
        format!("addr add {HOST} dev {TAP}"),
        format!("link set {TAP} up"),
    ] {
        run(Command::new("ip").args(arguments.split(' ')))?;
    }
    let file = File::open("/proc/thread-self/ns/net");
    Ok(Network(file.map_err(|error| format!("cannot hold the network namespace: {error}"))?))
}
