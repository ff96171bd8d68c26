//! The agent's own suite, against an agent in a VM.

use std::io::{IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;

use firstlight_protocol::hex::Secret;
use firstlight_tests::agent_suite::{Client, Place, run};
use firstlight_tests::{Follower, Lab, Vm};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// The agent's port, and how a vhost-user backend is asked for it.
const CONNECT: &[u8] = b"CONNECT 1024\n";

/// More than the numbers of the first ports that are not privileged: a backend may number connections from 0 on, and meet a
/// number that is taken.
const CONNECTIONS: u32 = 1_100;

/// An agent in a VM, through its vsock, or through what its monitor makes of a serial port.
struct InVm<'lab> {
    vm: Vm<'lab>,
    events: Follower,
    token: Secret,
    serial: bool,
}

impl InVm<'_> {
    fn new(vm: Vm<'_>, serial: bool) -> InVm<'_> {
        let spec = std::fs::read(vm.dir().join("boot/boot.json")).unwrap();
        let spec: serde_json::Value = serde_json::from_slice(&spec).unwrap();
        let token = serde_json::from_value(spec["agent"]["token"].clone()).unwrap();
        let mut events = vm.follow_events();
        events.until("AGENT-READY");
        InVm { vm, events, token, serial }
    }
}

impl Place for InVm<'_> {
    fn dial(&self) -> UnixStream {
        // The path may be too long for a socket's name; one through a descriptor never is.
        let directory = std::fs::File::open(self.vm.dir().join("boot")).unwrap();
        let name = if self.serial { "dialer.sock" } else { "vsock" };
        let name = format!("/proc/self/fd/{}/{name}", std::os::fd::AsRawFd::as_raw_fd(&directory));
        let mut stream = UnixStream::connect(name).unwrap();
        stream.write_all(CONNECT).unwrap();
        if self.serial {
            return passed(&stream);
        }
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

/// The socket that the monitor passes on (`SCM_RIGHTS` in `unix(7)`).
#[track_caller]
fn passed(stream: &UnixStream) -> UnixStream {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut answer = [0; 256];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut answer)], &mut control, flags).unwrap();
    let socket = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    let socket = socket.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&answer[..received.bytes])));
    let socket = UnixStream::from(socket);
    socket.set_nonblocking(false).unwrap();
    socket
}

#[track_caller]
fn every_case_holds(road: &str) {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("suite", &["--transport", road, "--", "sleep", "1000"]);
    let mut agent = InVm::new(vm, road == "serial");
    run(&mut agent);
    // It is the one that the last case left, and serves on.
    let _ = Client::connect(&agent);
}

#[test]
fn every_case_holds_in_a_vm() {
    every_case_holds("vsock");
}

#[test]
fn every_case_holds_over_a_serial_port() {
    every_case_holds("serial");
}

#[test]
fn a_vm_takes_more_connections_than_the_agent_s_port_has_for_a_number() {
    let Some(lab) = Lab::open() else { return };
    let agent = InVm::new(lab.start("numbered", &["--transport", "vsock", "--", "sleep", "1000"]), false);
    for _ in 0..CONNECTIONS {
        let _ = Client::connect(&agent);
    }
}
