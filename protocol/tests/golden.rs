//! The bytes of every message of generation 1, frozen.
//!
//! A VM restored from a snapshot runs the agent it was saved with, so these bytes outlive the build that wrote them. A
//! test that fails here says: raise `version::CURRENT` and keep reading the old bytes; never change a line of this
//! table.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]
#![allow(unreachable_pub, reason = "the tests are one crate")]

#[path = "golden/batch.rs"]
mod batch;

use std::collections::BTreeSet;

use firstlight_protocol::codec::{decode, encode};
use firstlight_protocol::frame::Header;
use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::events::{Events, EventsRequest};
use firstlight_protocol::message::exec::{ExecEnd, ExecOutcome, ExecRequest, ExecStarted, SignalRequest};
use firstlight_protocol::message::hello::{Hello, Refusal, Welcome};
use firstlight_protocol::message::output::{
    OutputAck, OutputChunk, OutputEnd, OutputRequest, Position, Stream,
};
use firstlight_protocol::message::shutdown::ShutdownRequest;
use firstlight_protocol::message::status::Status;
use firstlight_protocol::sentinel::ExitStatus;
use firstlight_protocol::version::Range;

/// Whether these bytes mean a certain message.
type Reader = Box<dyn Fn(&[u8]) -> bool>;

/// A message of one kind: its bytes now, and whether the frozen bytes still mean it.
struct Golden {
    kind: Kind,
    now: Vec<u8>,
    means_the_same: Reader,
    frozen: &'static str,
}

macro_rules! golden {
    ($($kind:ident: $message:expr => $frozen:literal,)*) => {
        vec![$({
            let message = $message;
            Golden {
                kind: Kind::$kind,
                now: encode(&message).unwrap(),
                means_the_same: Box::new(move |bytes| decode(bytes) == Ok(message.clone())),
                frozen: $frozen,
            }
        },)*]
    };
}

#[path = "golden/files.rs"]
mod files;
#[path = "golden/forward.rs"]
mod forward;
#[path = "golden/sessions.rs"]
mod sessions;
#[path = "golden/snapshot.rs"]
mod snapshot;
#[path = "golden/sync.rs"]
mod sync;

/// Kinds whose payload is raw or empty: there is nothing to encode.
const WITHOUT_MESSAGE: [Kind; 18] = [
    Kind::Ping,
    Kind::Pong,
    Kind::StatusRequest,
    Kind::Stdin,
    Kind::StdinEnd,
    Kind::Stdout,
    Kind::Stderr,
    Kind::ShutdownAccepted,
    Kind::FileDone,
    Kind::CopyData,
    Kind::ForwardConnected,
    Kind::ForwardBytes,
    Kind::ForwardEnd,
    Kind::PortsRequest,
    Kind::SessionDone,
    Kind::SessionsRequest,
    Kind::SnapshotThawRequest,
    Kind::ClockDone,
];

fn error(cause: Cause) -> AgentError {
    AgentError { operation: "exec".into(), path: Some("/bin/x".into()), cause }
}

fn request() -> ExecRequest {
    ExecRequest {
        argv: vec![b"sh".to_vec(), vec![0xff]],
        env: vec![(b"A".to_vec(), b"b".to_vec())],
        cwd: Some(b"/tmp".to_vec()),
        user: Some("1:2".into()),
        stdin: true,
        timeout_ms: Some(1500),
        kill_after_ms: 70_000,
    }
}

fn bare_request() -> ExecRequest {
    ExecRequest {
        argv: vec![b"sh".to_vec()],
        env: vec![],
        cwd: None,
        user: None,
        stdin: false,
        timeout_ms: None,
        kill_after_ms: 0,
    }
}

fn status() -> Status {
    Status {
        agent_version: "0.1.0".into(),
        agent_pid: 40,
        kernel: "6.1".into(),
        hostname: "vm".into(),
        kernel_boot_id: "c0ffee".into(),
        uptime_ns: 1 << 40,
        running_execs: 3,
    }
}

fn at(stdout: u64, stderr: u64) -> Position {
    Position { stdout, stderr }
}

fn generation_1() -> Vec<Golden> {
    let range = Range { oldest: 1, newest: 300 };
    let end = |outcome| ExecEnd { outcome };
    let mut table = golden! {
        Hello: Hello { token: Secret([0xab; 32]), versions: range } => "abababababababababababababababababababababababababababababababab01fb2c01",
        Welcome: Welcome { version: 1, boot_id: BootId([0x5f, 0x1c, 0x09, 0xae]) } => "015f1c09ae",
        Refusal: Refusal::WrongToken => "00",
        Refusal: Refusal::NoCommonVersion(range) => "0101fb2c01",
        Refusal: Refusal::Busy => "02",
        Status: status() => "05302e312e302803362e3102766d06633066666565fd000000000001000003",
        ExecRequest: request() => "0202736801ff010141016201042f746d700103313a320101fbdc05fc70110100",
        ExecRequest: bare_request() => "01027368000000000000",
        ExecStarted: ExecStarted { pid: 4242 } => "fb9210",
        SignalRequest: SignalRequest { number: 64 } => "40",
        ExecEnd: end(ExecOutcome::Exited(ExitStatus::Code(7))) => "000007",
        ExecEnd: end(ExecOutcome::TimedOut(ExitStatus::Signal(9))) => "010109",
        ExecEnd: end(ExecOutcome::OutOfMemory(ExitStatus::Signal(9))) => "020109",
        ExecEnd: end(ExecOutcome::SpawnFailed(error(Cause::Errno(2)))) => "03046578656301062f62696e2f780004",
        OutputRequest: OutputRequest { from: at(0, 251) } => "00fbfb00",
        OutputChunk: OutputChunk { stream: Stream::Stdout, sequence: 250, bytes: b"hi".to_vec() } => "00fa026869",
        OutputChunk: OutputChunk { stream: Stream::Stderr, sequence: 1 << 33, bytes: vec![0] } => "01fd00000000020000000100",
        OutputAck: OutputAck { written: at(65_536, 65_535) } => "fc00000100fbffff",
        OutputEnd: OutputEnd { end: at(1, 2) } => "0102",
        EventsRequest: EventsRequest { from_seq: u64::MAX } => "fdffffffffffffffff",
        Events: Events { lines: b"FIRSTLIGHT-X\n".to_vec() } => "0d46495253544c494748542d580a",
        ShutdownRequest: ShutdownRequest { grace_ms: None } => "00",
        ShutdownRequest: ShutdownRequest { grace_ms: Some(10_000) } => "01fb1027",
        Error: error(Cause::Invalid("no".into())) => "046578656301062f62696e2f7801026e6f",
        Error: error(Cause::Busy("later".into())) => "046578656301062f62696e2f7802056c61746572",
        Error: AgentError { operation: "read request".into(), path: None, cause: Cause::Protocol("?".into()) } => "0c7265616420726571756573740003013f",
        BatchRequest: batch::every_operation() => "09016101090001aa0162010901016301090207016401090301026964010141016201012f010175050165010904016601090501670109060168010907010169010908030178000101740a0b0c0d0e017901500a0b0c0d0e017a02fb901f012f0a0b0c0d0e0201fbb80b",
        BatchRequest: batch::every_file_operation() => "050161010909022f72017001016201090a022f720170010161016301090b022f72017001fbed01016401090c022f7201700100016501090d022f7201700174010201fbb80b",
        Batch: batch::every_file_answer() => "030161fb2c01000800fba401010203040a0607080101740162fb2c01000901016e00fba401010203040a060708010163fb2c01000a",
        Batch: batch::every_outcome() => "080161fb2c01000001aa0162fb2c010002016c0163fb2c010003000300016f010165000164fb2c0101026f7001022f7000040165fb2c0102000166fb2c0102010167fb2c010301016f010165000168fb2c010300",
        Batch: batch::every_answer() => "050161fb2c010001017601016b0168016202030162fb2c0100040102030405060708090a0b0c0d0101640e0f10111201012f016513141501016c1e1f202128292a2b0132333409353637093c3d3e093f40410946474809494a4b090150015100520163fb2c010005016801016501016d030101016102000a000202016501fd000000000000000000000000000002016501016e0164fb2c01000601760102016b01620178010169016e01700165fb2c01000703040163000102010103040164016301010201010304016401630201020101030401640163030102010103040164",
    };
    table.extend(files::generation_1());
    table.extend(forward::generation_1());
    table.extend(sessions::generation_1());
    table.extend(snapshot::generation_1());
    table.extend(sync::generation_1());
    table
}

/// Every kind with its number.
const NUMBERS: [(Kind, u16); 79] = [
    (Kind::Hello, 1),
    (Kind::Welcome, 2),
    (Kind::Refusal, 3),
    (Kind::Ping, 4),
    (Kind::Pong, 5),
    (Kind::StatusRequest, 6),
    (Kind::Status, 7),
    (Kind::ExecRequest, 8),
    (Kind::ExecStarted, 9),
    (Kind::Stdin, 10),
    (Kind::StdinEnd, 11),
    (Kind::Stdout, 12),
    (Kind::Stderr, 13),
    (Kind::SignalRequest, 14),
    (Kind::ExecEnd, 15),
    (Kind::OutputRequest, 16),
    (Kind::OutputChunk, 17),
    (Kind::OutputAck, 18),
    (Kind::OutputEnd, 19),
    (Kind::EventsRequest, 20),
    (Kind::Events, 21),
    (Kind::ShutdownRequest, 22),
    (Kind::ShutdownAccepted, 23),
    (Kind::Error, 24),
    (Kind::FileStatRequest, 32),
    (Kind::FileStat, 33),
    (Kind::FileListRequest, 34),
    (Kind::FileList, 35),
    (Kind::MakeDirRequest, 36),
    (Kind::RemoveRequest, 37),
    (Kind::RenameRequest, 38),
    (Kind::FileDone, 39),
    (Kind::PullRequest, 40),
    (Kind::PushRequest, 41),
    (Kind::CopyEntry, 42),
    (Kind::CopyData, 43),
    (Kind::CopyEnd, 44),
    (Kind::CopyDone, 45),
    (Kind::SessionStartRequest, 64),
    (Kind::SessionStarted, 65),
    (Kind::SessionAttachRequest, 66),
    (Kind::SessionAttached, 67),
    (Kind::SessionChunk, 68),
    (Kind::SessionAck, 69),
    (Kind::SessionInputTaken, 70),
    (Kind::SessionEnd, 71),
    (Kind::SessionSignalRequest, 72),
    (Kind::SessionResizeRequest, 73),
    (Kind::SessionDone, 74),
    (Kind::SessionWaitRequest, 75),
    (Kind::SessionsRequest, 76),
    (Kind::Sessions, 77),
    (Kind::BatchRequest, 80),
    (Kind::Batch, 81),
    (Kind::ForwardRequest, 112),
    (Kind::ForwardConnected, 113),
    (Kind::ForwardBytes, 114),
    (Kind::ForwardEnd, 115),
    (Kind::ForwardListenRequest, 116),
    (Kind::ForwardListening, 117),
    (Kind::ForwardIncoming, 118),
    (Kind::ForwardDecline, 119),
    (Kind::ForwardTakeRequest, 120),
    (Kind::PortsRequest, 121),
    (Kind::Ports, 122),
    (Kind::TreeRequest, 128),
    (Kind::TreeItems, 129),
    (Kind::TreeEnd, 130),
    (Kind::FetchRequest, 131),
    (Kind::AmendRequest, 132),
    (Kind::AmendDone, 133),
    (Kind::SnapshotPrepareRequest, 144),
    (Kind::SnapshotPrepared, 145),
    (Kind::SnapshotThawRequest, 146),
    (Kind::SnapshotThawed, 147),
    (Kind::SnapshotRestoreRequest, 148),
    (Kind::SnapshotRestored, 149),
    (Kind::ClockRequest, 160),
    (Kind::ClockDone, 161),
];

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).unwrap();
    (0..hexadecimal.len()).step_by(2).map(digits).collect()
}

#[test]
fn every_message_has_the_bytes_it_always_had() {
    let changed: Vec<String> = generation_1()
        .iter()
        .filter(|golden| hexadecimal(&golden.now) != golden.frozen)
        .map(|golden| format!("{:?} is now {}", golden.kind, hexadecimal(&golden.now)))
        .collect();
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

#[test]
fn frozen_bytes_still_mean_the_same_message() {
    for golden in generation_1() {
        assert!((golden.means_the_same)(&bytes(golden.frozen)), "{:?} {}", golden.kind, golden.frozen);
    }
}

#[test]
fn frozen_bytes_that_are_cut_mean_nothing() {
    for golden in generation_1() {
        let bytes = bytes(golden.frozen);
        for length in 0..bytes.len() {
            assert!(!(golden.means_the_same)(&bytes[..length]), "{:?} cut to {length}", golden.kind);
        }
    }
}

#[test]
fn every_kind_is_in_the_table() {
    let listed: BTreeSet<u16> = generation_1().iter().map(|golden| golden.kind.number()).collect();
    let raw: BTreeSet<u16> = WITHOUT_MESSAGE.iter().map(|kind| kind.number()).collect();
    assert!(listed.is_disjoint(&raw));
    let all: BTreeSet<u16> = Kind::ALL.iter().map(|kind| kind.number()).collect();
    assert_eq!(&listed | &raw, all, "a kind has no golden bytes");
}

#[test]
fn every_kind_keeps_its_number() {
    for (kind, number) in NUMBERS {
        let header = Header::new(kind, 9, 0).unwrap().encode();
        assert_eq!(header[4..6], number.to_le_bytes(), "{kind:?}");
        assert_eq!(Kind::from_number(number), Some(kind));
    }
    assert_eq!(Kind::ALL.len(), NUMBERS.len(), "a kind has no frozen number");
}
