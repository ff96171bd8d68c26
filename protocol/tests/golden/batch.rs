//! Batches that hold one of each: every operation, every outcome, every answer.

use firstlight_protocol::message::batch::{
    Answer, Batch, BatchRequest, Captured, Command, Item, ItemResult, Operation, Outcome, Output, Ran, Skip,
};
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::events::{Events, EventsRequest};
use firstlight_protocol::message::file::{
    FileKind, FileList, FileListRequest, FileStat, FileStatRequest, Listed, MakeDirRequest, Metadata, Place,
    RemoveRequest, RenameRequest, Timestamp,
};
use firstlight_protocol::message::health::{Check, CheckHealth, Finding, Health, Probe, State};
use firstlight_protocol::message::network::{Gateway, Interface, Network};
use firstlight_protocol::message::stats::{
    Cpu, Disk, Filesystem, Link, Memory, Percent, Pressure, Program, Stall, Stalls, Stats, Traffic,
};
use firstlight_protocol::message::status::Status;
use firstlight_protocol::message::versions::{Os, Versions};
use firstlight_protocol::sentinel::ExitStatus;

fn batch_of(operations: Vec<Operation>) -> BatchRequest {
    let items = operations.into_iter().zip('a'..).map(|(operation, id)| Item {
        id: id.into(),
        timeout_ms: Some(9),
        operation,
    });
    BatchRequest { items: items.collect(), parallel: 2, stop_on_error: true, deadline_ms: 3000 }
}

fn check(name: &str, probe: Probe) -> Check {
    Check {
        name: name.into(),
        probe,
        interval_ms: 10,
        timeout_ms: 11,
        failures: 12,
        successes: 13,
        grace_ms: 14,
    }
}

pub fn every_operation() -> BatchRequest {
    let command = Command {
        argv: vec![b"id".to_vec()],
        env: vec![(b"A".to_vec(), b"b".to_vec())],
        cwd: Some(b"/".to_vec()),
        user: Some("u".into()),
        max_output: 5,
    };
    let checks = vec![
        check("x", Probe::Exec(vec![b"t".to_vec()])),
        check("y", Probe::Tcp(80)),
        check("z", Probe::Http { port: 8080, path: "/".into() }),
    ];
    let operations = vec![
        Operation::Ping(vec![0xaa]),
        Operation::Status,
        Operation::Events(EventsRequest { from_seq: 7 }),
        Operation::Exec(command),
        Operation::Stats,
        Operation::Network,
        Operation::Versions,
        Operation::Health { decided: true },
        Operation::SetHealth(checks),
    ];
    batch_of(operations)
}

pub fn every_file_operation() -> BatchRequest {
    let place = || Place { root: b"/r".to_vec(), path: b"p".to_vec() };
    batch_of(vec![
        Operation::Stat(FileStatRequest { place: place(), follow: true }),
        Operation::List(FileListRequest { place: place(), after: Some(b"a".to_vec()) }),
        Operation::MakeDir(MakeDirRequest { place: place(), parents: true, mode: 0o755 }),
        Operation::Remove(RemoveRequest { place: place(), recursive: true, ignore_missing: false }),
        Operation::Rename(RenameRequest { from: place(), to: b"t".to_vec(), keep_existing: true }),
    ])
}

pub fn every_file_answer() -> Batch {
    let metadata = Metadata {
        kind: FileKind::File,
        mode: 0o644,
        uid: 1,
        gid: 2,
        size: 3,
        allocated: 4,
        modified: Timestamp { seconds: 5, nanos: 6 },
        links: 7,
        inode: 8,
    };
    let stat = FileStat { metadata: metadata.clone(), target: Some(b"t".to_vec()) };
    let list = FileList { entries: vec![Listed { name: b"n".to_vec(), metadata }], more: true };
    let answers = vec![Answer::Stat(Box::new(stat)), Answer::List(list), Answer::FileDone];
    results(answers.into_iter().map(Outcome::Done).collect())
}

pub fn every_outcome() -> Batch {
    let captured = |text: &str, omitted| Captured { bytes: text.into(), omitted };
    let output = Output { stdout: captured("o", 1), stderr: captured("e", 0) };
    let error = AgentError { operation: "op".into(), path: Some("/p".into()), cause: Cause::Errno(2) };
    let outcomes = vec![
        Outcome::Done(Answer::Pong(vec![0xaa])),
        Outcome::Done(Answer::Events(Events { lines: b"l".to_vec() })),
        Outcome::Done(Answer::Exec(Ran {
            status: ExitStatus::Code(3),
            out_of_memory: false,
            output: output.clone(),
        })),
        Outcome::Error(error),
        Outcome::Skipped(Skip::AfterError),
        Outcome::Skipped(Skip::Deadline),
        Outcome::TimedOut(Some(output)),
        Outcome::TimedOut(None),
    ];
    results(outcomes)
}

fn results(outcomes: Vec<Outcome>) -> Batch {
    let results = outcomes.into_iter().zip('a'..).map(|(outcome, id)| ItemResult {
        id: id.into(),
        elapsed_us: 300,
        outcome,
    });
    Batch { results: results.collect() }
}

pub fn every_answer() -> Batch {
    let answers = vec![
        Answer::Status(Box::new(Status {
            agent_version: "v".into(),
            agent_pid: 1,
            kernel: "k".into(),
            hostname: "h".into(),
            kernel_boot_id: "b".into(),
            uptime_ns: 2,
            running_execs: 3,
        })),
        Answer::Stats(Box::new(stats())),
        Answer::Network(Box::new(network())),
        Answer::Versions(Box::new(Versions {
            agent: "v".into(),
            protocol_oldest: 1,
            protocol_newest: 2,
            kernel: "k".into(),
            kernel_build: "b".into(),
            architecture: "x".into(),
            os: Some(Os { id: "i".into(), version: "n".into(), name: "p".into() }),
        })),
        Answer::Health(health()),
    ];
    results(answers.into_iter().map(Outcome::Done).collect())
}

fn stats() -> Stats {
    let traffic = |first| Traffic { bytes: first, packets: first + 1, errors: first + 2, dropped: first + 3 };
    let stall = |first: u32| Stall {
        avg10: Percent(first),
        avg60: Percent(first + 1),
        avg300: Percent(first + 2),
        total_us: 9,
    };
    let stalls = |first| Stalls { some: stall(first), full: stall(first + 3) };
    Stats {
        at_ns: 1,
        cpu: Cpu { count: 2, user_us: 3, system_us: 4, idle_us: 5, steal_us: 6 },
        memory: Memory { total: 7, available: 8, free: 9, cached: 10, swap_total: 11, swap_free: 12 },
        tasks: 13,
        disks: vec![Disk {
            name: "d".into(),
            reads: 14,
            read_bytes: 15,
            writes: 16,
            written_bytes: 17,
            busy_ms: 18,
        }],
        filesystems: vec![Filesystem {
            path: "/".into(),
            kind: "e".into(),
            size: 19,
            used: 20,
            available: 21,
        }],
        links: vec![Link { name: "l".into(), received: traffic(30), sent: traffic(40) }],
        pressure: Some(Pressure { cpu: stalls(50), memory: stalls(60), io: stalls(70) }),
        program: Some(Program { cpu_us: 80, memory: Some(81), memory_max: None, oom_kills: 82 }),
    }
}

fn network() -> Network {
    Network {
        hostname: "h".into(),
        interfaces: vec![Interface {
            name: "e".into(),
            mac: Some("m".into()),
            mtu: 3,
            up: true,
            addresses: vec!["a".into()],
        }],
        gateways: vec![
            Gateway { address: "10.0.2.2".parse().unwrap(), interface: "e".into() },
            Gateway { address: "fd00::2".parse().unwrap(), interface: "e".into() },
        ],
        nameservers: vec!["n".into()],
    }
}

fn health() -> Health {
    let states = [State::Unchecked, State::Starting, State::Healthy, State::Unhealthy];
    let checks = states.into_iter().map(|state| CheckHealth {
        name: "c".into(),
        state,
        runs: 1,
        failures: 2,
        last: Some(Finding { ok: true, at_ns: 3, elapsed_us: 4, detail: "d".into() }),
    });
    Health { state: State::Unhealthy, checks: checks.collect() }
}
