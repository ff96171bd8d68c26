//! The agent's own suite, against an agent in a VM.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use firstlight_protocol::hex::Secret;
use firstlight_tests::agent_suite::{Client, Place, run};
use firstlight_tests::{Follower, Lab, Vm};

/// The agent's port, and how a vhost-user backend is asked for it.
const CONNECT: &[u8] = b"CONNECT 1024\n";

/// An agent in a VM, through its vsock.
struct InVm<'lab> {
    vm: Vm<'lab>,
    events: Follower,
    token: Secret,
}

impl InVm<'_> {
    fn new(vm: Vm<'_>) -> InVm<'_> {
        let spec = std::fs::read(vm.dir().join("boot/boot.json")).unwrap();
        let spec: serde_json::Value = serde_json::from_slice(&spec).unwrap();
        let token = serde_json::from_value(spec["agent"]["token"].clone()).unwrap();
        let mut events = vm.follow_events();
        events.until("AGENT-READY");
        InVm { vm, events, token }
    }
}

impl Place for InVm<'_> {
    fn dial(&self) -> UnixStream {
        // The path may be too long for a socket's name; one through a descriptor never is.
        let directory = std::fs::File::open(self.vm.dir().join("boot")).unwrap();
        let name = format!("/proc/self/fd/{}/vsock", std::os::fd::AsRawFd::as_raw_fd(&directory));
        let mut stream = UnixStream::connect(name).unwrap();
        stream.write_all(CONNECT).unwrap();
        let mut byte = [0];
        while byte != *b"\n" {
            stream.read_exact(&mut byte).unwrap();
        }
        stream
    }

    fn token(&self) -> Secret {
        self.token.clone()
    }

    fn restart(&mut self) {
        // The agent is the parent of what it executes; killing it breaks this very exec.
        let _ = self.vm.exec(&["sh", "-c", "kill -9 $PPID"]);
        self.events.until("AGENT-READY");
    }
}

#[test]
fn every_case_holds_in_a_vm() {
    let Some(lab) = Lab::open() else { return };
    let mut agent = InVm::new(lab.start("suite", &["--", "sleep", "1000"]));
    run(&mut agent);
    // It is the one that the last case left, and serves on.
    let _ = Client::connect(&agent);
}
