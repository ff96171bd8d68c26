//! Bytes cross the network; addresses and names are set.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use firstlight_tests::Lab;

#[test]
fn the_network_carries_bytes_from_guest_to_host_and_back() {
    let Some(lab) = Lab::open() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 9];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(b"an answer\n").unwrap();
        question
    });
    // QEMU's user network shows the host's loopback as 10.0.2.2.
    let script = format!("echo question | nc 10.0.2.2 {port}");
    let run = lab.host_ctl(&["run", "--rm", "--net", "user", "--", "sh", "-c", &script]).ok();
    assert_eq!(run.text(), "an answer\n");
    assert_eq!(&peer.join().unwrap(), b"question\n");
}

#[test]
fn loopback_works_without_a_network() {
    let Some(lab) = Lab::open() else { return };
    let argv = ["--", "ping", "-q", "-c", "1", "127.0.0.1"];
    let run = lab.host_ctl(&[&["run", "--rm", "--net", "none"][..], &argv].concat()).ok();
    assert!(run.text().contains(" 0% packet loss"), "{}", run.text());
}

#[test]
fn addresses_routes_and_names_are_set_and_usable_at_once() {
    let Some(lab) = Lab::open() else { return };
    let script = "ip -o addr show scope global; ip route; cat /etc/hosts";
    let run = lab.host_ctl(&["run", "--name", "both", "--net", "user", "--", "sh", "-c", script]).ok();
    let text = run.text();
    for wanted in ["10.0.2.15/24", "default via 10.0.2.2", "127.0.0.1", "both"] {
        assert!(text.contains(wanted), "no {wanted:?} in: {text}");
    }
    assert!(!text.contains("tentative"), "an address is still unusable: {text}");
}

#[test]
fn a_device_of_another_network_namespace_is_none() {
    let Some(lab) = Lab::open() else { return };
    // What the host has besides loopback; /sys goes on to show it in a namespace that has loopback alone.
    let mut devices = std::fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().file_name());
    let Some(device) = devices.find(|name| name != "lo").and_then(|name| name.into_string().ok()) else {
        return;
    };
    let net = format!("tap:{device},address=192.168.7.2/24");
    let inside = lab.command(&["run", "--dry-run", "--net", &net, "--", "true"]);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net"]).arg(inside.get_program()).args(inside.get_args());
    command.env("FIRSTLIGHT_STATE_DIR", lab.state_dir());
    let run = command.output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("there is no network device {device}")), "{said}");
}
