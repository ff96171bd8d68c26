//! Connections carried into the guest, out of it, and to whatever listens there.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use firstlight_tests::{Follower, Lab, Vm};

/// Only a failing test waits this long.
const DEADLINE: Duration = Duration::from_secs(60);

/// A service that answers each connection with all it was sent, once the client has ended its side.
const ECHO: &str = "nc -ll -p 7000 -e cat";

/// Starts a VM with the echo service on port 7000.
fn start<'lab>(lab: &'lab Lab, name: &str) -> Vm<'lab> {
    let vm = lab.start(name, &["--", "sh", "-c", ECHO]);
    await_listener(&vm, 7000);
    vm
}

fn await_listener(vm: &Vm<'_>, port: u16) {
    let _ = vm.sh(&format!("until netstat -ltn | grep -q :{port}; do :; done"));
}

/// Connections that may wait for an echo service: what its listener says to the guest's kernel, which resets some of those
/// that are more.
const BACKLOG: usize = 20;

/// The next line of `forward --json` of this kind.
#[track_caller]
fn next(forward: &mut Follower, event: &str) -> serde_json::Value {
    loop {
        let line: serde_json::Value = serde_json::from_str(&forward.line()).unwrap();
        if line["event"] == event {
            return line;
        }
    }
}

/// Where a route listens that has just been opened.
#[track_caller]
fn opened(forward: &mut Follower) -> SocketAddr {
    let line = next(forward, "opened");
    let port = line["from"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[track_caller]
fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

#[track_caller]
fn echo(mut stream: TcpStream, bytes: &[u8]) {
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert!(back == bytes, "{} bytes came back of {}", back.len(), bytes.len());
    });
}

#[test]
fn connections_into_the_guest_are_carried_with_their_half_close_many_at_once() {
    let Some(lab) = Lab::open() else { return };
    let services = format!("{} & {ECHO}", ECHO.replace("7000", "7001"));
    let vm = lab.start("into", &["--", "sh", "-c", &services]);
    for port in [7000, 7001] {
        await_listener(&vm, port);
    }
    let mut forward = lab.follow(&["forward", "--json", "into", "0:7000", "0:7001"]);
    let addresses = [(); 2].map(|()| opened(&mut forward));
    let [address, _] = addresses;
    echo(dial(address), b"question");
    let bytes: Vec<u8> = (0..1_u32 << 20).flat_map(u32::to_le_bytes).collect();
    echo(dial(address), &bytes);
    let clients: Vec<TcpStream> = addresses.repeat(BACKLOG).into_iter().map(dial).collect();
    for (client, number) in clients.into_iter().zip(0_u32..) {
        echo(client, &number.to_le_bytes());
    }
}

#[test]
fn a_port_nobody_listens_on_is_a_reset_with_its_errno() {
    let Some(lab) = Lab::open() else { return };
    let _vm = start(&lab, "closed");
    let mut forward = lab.follow(&["forward", "--json", "closed", "0:7001"]);
    let mut client = dial(opened(&mut forward));
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(next(&mut forward, "failed")["error"]["errno"], "ECONNREFUSED");
}

#[test]
fn unix_sockets_are_carried_and_leave_no_file() {
    let Some(lab) = Lab::open() else { return };
    let vm = start(&lab, "unix");
    let path = lab.path("host.sock");
    let route = format!("unix:{}:7000", path.display());
    let mut forward = lab.follow(&["forward", "--json", "unix", &route]);
    next(&mut forward, "opened");
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(b"hi").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    client.read_to_string(&mut back).unwrap();
    assert_eq!(back, "hi");
    // The VM's end is the forward's, in order.
    vm.stop();
    assert_eq!(forward.end(), 5);
    assert!(!path.exists());
}

#[test]
fn connections_out_of_the_guest_reach_the_host() {
    let Some(lab) = Lab::open() else { return };
    let vm = start(&lab, "out");
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    let mut forward = lab.follow(&["forward", "--json", "out", "-R", &format!("9000:{port}")]);
    next(&mut forward, "opened");
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = service.accept().unwrap();
        let mut question = [0; 9];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(b"an answer\n").unwrap();
        question
    });
    assert_eq!(vm.sh("echo question | nc 127.0.0.1 9000"), "an answer\n");
    assert_eq!(&answer.join().unwrap(), b"question\n");
    // Nobody listens on the host any more.
    let _ = vm.exec(&["sh", "-c", "echo again | nc 127.0.0.1 9000"]);
    assert_eq!(next(&mut forward, "failed")["error"]["errno"], "ECONNREFUSED");
}

#[test]
fn ports_are_followed_as_they_open_and_close_and_the_agent_restarts() {
    let Some(lab) = Lab::open() else { return };
    let vm = start(&lab, "auto");
    let mut forward = lab.follow(&["forward", "--json", "--auto", "auto"]);
    let first = next(&mut forward, "opened");
    assert_eq!(first["to"], "localhost:7000");
    // It ends after one connection.
    let _ = vm.sh("nc -l -p 7002 -e cat >/dev/null 2>&1 &");
    let second = next(&mut forward, "opened");
    assert_eq!(second["to"], "localhost:7002");
    let port = second["from"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    echo(dial(SocketAddr::from(([127, 0, 0, 1], port))), b"followed");
    assert_eq!(next(&mut forward, "closed")["to"], "localhost:7002");

    let agent = vm.sh("awk '/^PPid/ {print $2}' /proc/self/status");
    let _ = vm.exec(&["kill", "-9", agent.trim()]);
    let port = first["from"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    echo(dial(SocketAddr::from(([127, 0, 0, 1], port))), b"after the restart");
}
