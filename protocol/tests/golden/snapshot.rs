//! Snapshots, and the clock of a guest that stood still.

use firstlight_protocol::codec::{decode, encode};
use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::clock::ClockRequest;
use firstlight_protocol::message::output::Position;
use firstlight_protocol::message::snapshot::{
    ENTROPY_LEN, InterfaceIdentity, SnapshotPrepareRequest, SnapshotPrepared, SnapshotRestoreRequest,
    SnapshotRestored, SnapshotThawed, Step, StepDone,
};

use super::Golden;

/// Every step, in the order of its number on the wire.
const STEPS: [Step; 13] = [
    Step::Drain,
    Step::Disconnect,
    Step::Sync,
    Step::Freeze,
    Step::Thaw,
    Step::Generation,
    Step::Clock,
    Step::Entropy,
    Step::Hostname,
    Step::MachineId,
    Step::Network,
    Step::Environment,
    Step::Token,
];

fn restore() -> SnapshotRestoreRequest {
    SnapshotRestoreRequest {
        boot_id: BootId([1, 2, 3, 4]),
        wall_ns: 1 << 40,
        entropy: [0xee; ENTROPY_LEN],
        hostname: Some("web".into()),
        machine_id: [0xdd; 16],
        interfaces: vec![InterfaceIdentity {
            was: [1; 6],
            mac: [2; 6],
            addresses: vec![("10.0.2.20".parse().unwrap(), 24), ("::1".parse().unwrap(), 128)],
            gateways: vec!["10.0.2.2".parse().unwrap()],
        }],
        nameservers: vec!["10.0.2.3".parse().unwrap()],
        environment: vec![(b"A".to_vec(), b"b".to_vec())],
        token: Secret([0xcc; 32]),
    }
}

pub(super) fn generation_1() -> Vec<Golden> {
    let steps: Vec<StepDone> = STEPS.iter().map(|step| StepDone { step: *step, duration_ns: 300 }).collect();
    let one = vec![StepDone { step: Step::Thaw, duration_ns: 1 }];
    golden! {
        SnapshotPrepareRequest: SnapshotPrepareRequest { drain_ms: 5000, watchdog_ms: 10 } => "fb88130a",
        SnapshotPrepared: SnapshotPrepared { steps, output: Position { stdout: 7, stderr: 300 } } => "0d00fb2c0101fb2c0102fb2c0103fb2c0104fb2c0105fb2c0106fb2c0107fb2c0108fb2c0109fb2c010afb2c010bfb2c010cfb2c0107fb2c01",
        SnapshotThawed: SnapshotThawed { steps: one.clone() } => "010401",
        SnapshotRestoreRequest: restore() => "01020304fd0000000000010000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee0103776562dddddddddddddddddddddddddddddddd0101010101010102020202020202000a0002141801000000000000000000000000000000018001000a00020201000a0002030101410162cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
        SnapshotRestored: SnapshotRestored { steps: one } => "010401",
        ClockRequest: ClockRequest { wall_ns: 1 << 40 } => "fd0000000000010000",
    }
}
