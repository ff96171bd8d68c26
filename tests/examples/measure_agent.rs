//! Figures of the agent, from one VM:
//!
//! ```sh
//! make build
//! RUSTFLAGS="-C target-feature=+crt-static" cargo run --release --target x86_64-unknown-linux-gnu \
//!     -p firstlight-tests --example measure_agent
//! ```
//!
//! * **throughput**: `host-ctl cp` both ways, and beside it the same number of bytes over a bare vsock connection, from memory
//!   to memory, with nothing of ours on it. For that the program copies itself into the VM, which is why it is static.
//! * **latency**: a ping and a `stat` on a connection of their own, alone and while four copies run, two each way.
//! * **memory**: what the agent holds when idle, and while the copies run.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measuring program prints, and fails by panicking"
)]

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use firstlight_host_ctl::agent::transport::{self, Address, Stream};
use firstlight_host_ctl::agent::{Ask as _, Client, Connection, Ping};
use firstlight_host_ctl::vm::VmDir;
use firstlight_protocol::message::file::{FileStatRequest, Place};
use firstlight_tests::{Lab, Vm};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

/// Bytes moved to measure throughput, and how often. The middle one counts.
const BYTES: usize = 256 << 20;
const ROUNDS: usize = 5;

/// The port of the bare connection, and how much is moved by one call on it.
const PORT: u32 = 7000;
const BLOCK: usize = 256 << 10;

/// Questions asked to measure latency.
const QUESTIONS: usize = 2000;

/// Bytes of each copy that runs meanwhile, again and again. The guest holds a few of them in memory.
const COPIED: usize = 64 << 20;

const TIMEOUT: Duration = Duration::from_secs(120);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if std::env::args().nth(1).as_deref() == Some("guest") {
        return runtime.block_on(bare_guest());
    }
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("measured", &["--memory", "2048M", "--", "sleep", "100000"]);
    let own = std::env::current_exe().unwrap();
    let _ = lab.host_ctl(&["cp", own.to_str().unwrap(), "measured:/measure"]).ok();
    let mut bare = lab.command(&["exec", "measured", "--", "/measure", "guest"]).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(bare.stdout.as_mut().unwrap(), &mut ready).unwrap();
    throughput(&lab, &vm, &runtime);
    bare.kill().unwrap();
    bare.wait().unwrap();
    runtime.block_on(latency(&lab, &vm));
}

/// Serves bare connections: the first byte says which way the others go.
async fn bare_guest() {
    let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, PORT)).unwrap();
    println!("ready");
    let mut block = vec![0; BLOCK];
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        if stream.read_u8().await.unwrap() == b'o' {
            for _ in 0..BYTES / BLOCK {
                stream.write_all(&block).await.unwrap();
            }
        } else {
            for _ in 0..BYTES / BLOCK {
                stream.read_exact(&mut block).await.unwrap();
            }
            stream.write_all(b"!").await.unwrap();
        }
    }
}

fn throughput(lab: &Lab, vm: &Vm<'_>, runtime: &tokio::runtime::Runtime) {
    let (address, _) = agent(vm);
    let (source, back) = (lab.path("source"), lab.path("back"));
    std::fs::write(&source, vec![b'x'; BYTES]).unwrap();
    let (from, to) = (source.to_str().unwrap(), back.to_str().unwrap());
    let mut rows = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        rows[0].push(timed(|| runtime.block_on(bare(&address, b"i"))));
        rows[1].push(timed(|| drop(lab.host_ctl(&["cp", from, "measured:/tmp/file"]).ok())));
        rows[2].push(timed(|| runtime.block_on(bare(&address, b"o"))));
        rows[3].push(timed(|| drop(lab.host_ctl(&["cp", "measured:/tmp/file", to]).ok())));
        std::fs::remove_file(&back).unwrap();
        let _ = vm.sh("rm /tmp/file");
    }
    let rates = rows.map(|mut times| {
        times.sort();
        BYTES as f64 / times[ROUNDS / 2].as_secs_f64() / 1e6
    });
    let percent = |part: f64, whole: f64| 100.0 * part / whole;
    println!(
        "into the guest: bare {:.0} MB/s, cp {:.0} MB/s ({:.0} %)",
        rates[0],
        rates[1],
        percent(rates[1], rates[0])
    );
    println!(
        "out of the guest: bare {:.0} MB/s, cp {:.0} MB/s ({:.0} %)",
        rates[2],
        rates[3],
        percent(rates[3], rates[2])
    );
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

async fn bare(address: &Address, way: &[u8; 1]) {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    let mut stream: Stream = transport::connect(address, PORT, deadline).await.unwrap();
    let mut block = vec![0; BLOCK];
    stream.write_all(way).await.unwrap();
    if way == b"i" {
        for _ in 0..BYTES / BLOCK {
            stream.write_all(&block).await.unwrap();
        }
        stream.read_exact(&mut block[..1]).await.unwrap();
    } else {
        for _ in 0..BYTES / BLOCK {
            stream.read_exact(&mut block).await.unwrap();
        }
    }
}

async fn latency(lab: &Lab, vm: &Vm<'_>) {
    let (address, token) = agent(vm);
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    let client = Client::new(Connection::open(&address, &token, deadline).await.unwrap());
    println!("agent, idle: {} KiB resident", resident(vm));
    questions(&client, "alone").await;
    let _ = vm.sh(&format!("head -c {COPIED} /dev/zero >/tmp/big"));
    let source = lab.path("copied");
    std::fs::write(&source, vec![b'x'; COPIED]).unwrap();
    let mut copies: Vec<Child> = (0..4).map(|number| repeated_copy(lab, &source, number)).collect();
    // The copies are under way once their files show up in the guest or their bytes on the host.
    while !vm.sh("ls -A /tmp").contains("copy") {}
    questions(&client, "with 4 copies").await;
    println!("agent, with 4 copies: {} KiB resident", resident(vm));
    for copy in &mut copies {
        assert!(copy.try_wait().unwrap().is_none(), "a copy ended while it was measured");
        copy.kill().unwrap();
        copy.wait().unwrap();
    }
}

/// A shell that copies again and again, into the guest or out of it.
fn repeated_copy(lab: &Lab, source: &Path, number: usize) -> Child {
    let host_ctl = lab.command(&[]);
    let (program, here) = (host_ctl.get_program().to_str().unwrap(), lab.path(&format!("copy{number}")));
    let copy = if number.is_multiple_of(2) {
        format!("{program} cp {} measured:/tmp/copy{number}", source.display())
    } else {
        format!("{program} cp measured:/tmp/big {}", here.display())
    };
    let mut shell = std::process::Command::new("sh");
    shell.env("FIRSTLIGHT_STATE_DIR", lab.state_dir()).args(["-c", &format!("while {copy}; do :; done")]);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

async fn questions(client: &Client, when: &str) {
    let (mut pings, mut stats) = (Vec::new(), Vec::new());
    for _ in 0..QUESTIONS {
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        let begun = Instant::now();
        client.request(&Ping(b"?".to_vec()), deadline).await.unwrap();
        pings.push(begun.elapsed());
        let begun = Instant::now();
        let request = FileStatRequest { place: Place::new("/etc/passwd"), follow: false };
        client.request(&request, deadline).await.unwrap();
        stats.push(begun.elapsed());
    }
    show(&format!("ping, {when}"), pings);
    show(&format!("stat, {when}"), stats);
}

fn show(what: &str, mut samples: Vec<Duration>) {
    samples.sort();
    let at = |percent: usize| samples[(samples.len() * percent / 100).min(samples.len() - 1)];
    println!("{what}: n={} p50={:.2?} p99={:.2?} max={:.2?}", samples.len(), at(50), at(99), at(100));
}

/// What the agent holds of the guest's memory, in KiB.
fn resident(vm: &Vm<'_>) -> u64 {
    vm.sh("awk '/^VmRSS/ {print $2}' /proc/$PPID/status").trim().parse().unwrap()
}

fn agent(vm: &Vm<'_>) -> (Address, firstlight_protocol::hex::Secret) {
    VmDir::open(&vm.dir()).unwrap().agent().unwrap().unwrap()
}
