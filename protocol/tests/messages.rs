//! Any message survives the wire, and fits the frame it is meant for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use firstlight_protocol::codec::{decode, encode};
use firstlight_protocol::frame::MAX_PAYLOAD;
use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::events::{Events, EventsRequest};
use firstlight_protocol::message::exec::{
    ExecEnd, ExecOutcome, ExecRequest, ExecStarted, MAX_CHUNK, SignalRequest,
};
use firstlight_protocol::message::file::{Place, Timestamp};
use firstlight_protocol::message::forward::{
    Address, ForwardDecline, ForwardIncoming, ForwardListenRequest, ForwardListening, ForwardRequest,
    ForwardTakeRequest, MAX_PORTS, Ports,
};
use firstlight_protocol::message::hello::{Hello, Refusal, Welcome};
use firstlight_protocol::message::output::{
    OutputAck, OutputChunk, OutputEnd, OutputRequest, Position, Stream,
};
use firstlight_protocol::message::session::{
    Session, SessionAck, SessionAttachRequest, SessionAttached, SessionChunk, SessionEnd, SessionInputTaken,
    SessionKey, SessionStartRequest, SessionStarted, Sessions, Window,
};
use firstlight_protocol::message::shutdown::ShutdownRequest;
use firstlight_protocol::message::status::Status;
use firstlight_protocol::message::sync::{
    Adjustment, AmendDone, AmendRequest, FetchRequest, Item, ItemContent, Owner, Removal, TreeEnd, TreeItems,
    TreeRequest,
};
use firstlight_protocol::sentinel::ExitStatus;
use firstlight_protocol::version::Range;
use proptest::prelude::*;

fn range() -> impl Strategy<Value = Range> {
    any::<(u16, u16)>().prop_map(|(oldest, newest)| Range { oldest, newest })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![Just(Refusal::WrongToken), range().prop_map(Refusal::NoCommonVersion), Just(Refusal::Busy)]
}

fn error() -> impl Strategy<Value = AgentError> {
    let cause = prop_oneof![
        any::<i32>().prop_map(Cause::Errno),
        any::<String>().prop_map(Cause::Invalid),
        any::<String>().prop_map(Cause::Busy),
        any::<String>().prop_map(Cause::Protocol),
    ];
    (any::<String>(), any::<Option<String>>(), cause).prop_map(|(operation, path, cause)| AgentError {
        operation,
        path,
        cause,
    })
}

fn outcome() -> impl Strategy<Value = ExecOutcome> {
    let status =
        || prop_oneof![any::<u8>().prop_map(ExitStatus::Code), any::<u8>().prop_map(ExitStatus::Signal)];
    prop_oneof![
        status().prop_map(ExecOutcome::Exited),
        status().prop_map(ExecOutcome::TimedOut),
        status().prop_map(ExecOutcome::OutOfMemory),
        error().prop_map(ExecOutcome::SpawnFailed),
    ]
}

prop_compose! {
    fn exec_request()(
        argv: Vec<Vec<u8>>,
        env: Vec<(Vec<u8>, Vec<u8>)>,
        cwd: Option<Vec<u8>>,
        user: Option<String>,
        stdin: bool,
        timeout_ms: Option<u32>,
        kill_after_ms: u32,
    ) -> ExecRequest {
        ExecRequest { argv, env, cwd, user, stdin, timeout_ms, kill_after_ms }
    }
}

prop_compose! {
    fn status()(
        agent_version: String,
        agent_pid: u32,
        kernel: String,
        hostname: String,
        kernel_boot_id: String,
        uptime_ns: u64,
        running_execs: u32,
    ) -> Status {
        Status { agent_version, agent_pid, kernel, hostname, kernel_boot_id, uptime_ns, running_execs }
    }
}

fn position() -> impl Strategy<Value = Position> {
    any::<(u64, u64)>().prop_map(|(stdout, stderr)| Position { stdout, stderr })
}

fn chunk() -> impl Strategy<Value = OutputChunk> {
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    (stream, any::<u64>(), any::<Vec<u8>>()).prop_map(|(stream, sequence, bytes)| OutputChunk {
        stream,
        sequence,
        bytes,
    })
}

/// Without a scope id: one is a number of the guest's own interfaces, and does not travel.
fn socket_address() -> impl Strategy<Value = SocketAddr> {
    any::<(IpAddr, u16)>().prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        any::<u16>().prop_map(Address::Loopback),
        socket_address().prop_map(Address::Tcp),
        any::<Vec<u8>>().prop_map(Address::Unix),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    any::<(Vec<u8>, Vec<u8>)>().prop_map(|(root, path)| Place { root, path })
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<(i64, u32)>().prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn item() -> impl Strategy<Value = Item> {
    let content = prop_oneof![
        Just(ItemContent::Directory),
        any::<(u64, Option<[u8; 32]>)>().prop_map(|(size, digest)| ItemContent::File { size, digest }),
        any::<Vec<u8>>().prop_map(ItemContent::Symlink),
    ];
    (any::<Vec<u8>>(), any::<u32>(), timestamp(), content).prop_map(|(path, mode, modified, content)| Item {
        path,
        mode,
        modified,
        content,
    })
}

fn amendment() -> impl Strategy<Value = AmendRequest> {
    let removal = any::<(Vec<u8>, bool)>().prop_map(|(path, directory)| Removal { path, directory });
    let adjustment = (any::<Vec<u8>>(), any::<u32>(), timestamp())
        .prop_map(|(path, mode, modified)| Adjustment { path, mode, modified });
    (place(), prop::collection::vec(removal, 0..4), prop::collection::vec(adjustment, 0..4))
        .prop_map(|(place, remove, adjust)| AmendRequest { place, remove, adjust })
}

fn key() -> impl Strategy<Value = SessionKey> {
    any::<(u64, u64)>().prop_map(|(id, started_ns)| SessionKey { id, started_ns })
}

fn session_start() -> impl Strategy<Value = SessionStartRequest> {
    let window = any::<Option<(u16, u16)>>();
    (exec_request(), window, any::<bool>()).prop_map(|(command, window, detached)| SessionStartRequest {
        command,
        terminal: window.map(|(rows, columns)| Window { rows, columns }),
        detached,
    })
}

fn session() -> impl Strategy<Value = Session> {
    let flags = any::<(bool, bool)>();
    let figures = any::<(u32, u64, u32, u64, u64)>();
    (key(), any::<Vec<Vec<u8>>>(), flags, figures, prop::option::of(outcome())).prop_map(
        |(key, argv, (detached, terminal), (pid, age_ns, readers, oldest, sequence), outcome)| Session {
            key,
            pid,
            argv,
            age_ns,
            detached,
            terminal,
            readers,
            oldest,
            sequence,
            outcome,
        },
    )
}

macro_rules! survive {
    ($($name:ident: $strategy:expr;)*) => {
        proptest! {$(
            #[test]
            fn $name(message in $strategy) {
                prop_assert_eq!(decode(&encode(&message).unwrap()), Ok(message));
            }
        )*}
    };
}

survive! {
    any_hello_survives: (any::<[u8; 32]>(), range())
        .prop_map(|(token, versions)| Hello { token: Secret(token), versions });
    any_welcome_survives: any::<(u16, [u8; 4])>()
        .prop_map(|(version, boot_id)| Welcome { version, boot_id: BootId(boot_id) });
    any_refusal_survives: refusal();
    any_status_survives: status();
    any_exec_request_survives: exec_request();
    any_exec_start_survives: any::<u32>().prop_map(|pid| ExecStarted { pid });
    any_signal_survives: any::<u8>().prop_map(|number| SignalRequest { number });
    any_exec_end_survives: outcome().prop_map(|outcome| ExecEnd { outcome });
    any_output_request_survives: position().prop_map(|from| OutputRequest { from });
    any_output_chunk_survives: chunk();
    any_output_acknowledgement_survives: position().prop_map(|written| OutputAck { written });
    any_output_end_survives: position().prop_map(|end| OutputEnd { end });
    any_events_request_survives: any::<u64>().prop_map(|from_seq| EventsRequest { from_seq });
    any_events_survive: any::<Vec<u8>>().prop_map(|lines| Events { lines });
    any_shutdown_survives: any::<Option<u32>>().prop_map(|grace_ms| ShutdownRequest { grace_ms });
    any_error_survives: error();
    any_session_start_survives: session_start();
    any_start_of_a_session_survives: (key(), any::<u32>()).prop_map(|(key, pid)| SessionStarted { key, pid });
    any_attachment_request_survives: any::<(u64, Option<u64>, bool)>()
        .prop_map(|(id, from, take_over)| SessionAttachRequest { id, from, take_over });
    any_attachment_survives: (key(), any::<(u64, bool, bool)>()).prop_map(
        |(key, (input, takes_input, terminal))| SessionAttached { key, input, takes_input, terminal });
    any_session_chunk_survives: chunk().prop_map(
        |OutputChunk { stream, sequence, bytes }| SessionChunk { stream, sequence, bytes });
    any_session_acknowledgement_survives: any::<(u64, bool)>()
        .prop_map(|(through, end)| SessionAck { through, end });
    any_taking_of_input_survives: any::<u64>().prop_map(|bytes| SessionInputTaken { bytes });
    any_end_of_a_session_survives: (any::<u64>(), outcome())
        .prop_map(|(sequence, outcome)| SessionEnd { sequence, outcome });
    any_list_of_sessions_survives: prop::collection::vec(session(), 0..5)
        .prop_map(|sessions| Sessions { sessions });
    any_forward_survives: address().prop_map(|target| ForwardRequest { target });
    any_listen_request_survives: address().prop_map(|address| ForwardListenRequest { address });
    any_listener_survives: address().prop_map(|address| ForwardListening { address });
    any_announcement_survives: any::<u64>().prop_map(|ticket| ForwardIncoming { ticket });
    any_refusal_of_a_connection_survives: any::<u64>().prop_map(|ticket| ForwardDecline { ticket });
    any_taking_of_a_connection_survives: any::<u64>().prop_map(|ticket| ForwardTakeRequest { ticket });
    any_request_of_a_tree_survives: (place(), any::<(bool, Vec<Vec<u8>>)>())
        .prop_map(|(place, (checksum, exclude))| TreeRequest { place, checksum, exclude });
    any_items_survive: prop::collection::vec(item(), 0..9).prop_map(|items| TreeItems { items });
    any_end_of_a_tree_survives: any::<u64>().prop_map(|special| TreeEnd { special });
    any_fetch_survives: (place(), any::<(u32, u32, Vec<Vec<u8>>)>())
        .prop_map(|(place, (uid, gid, paths))| FetchRequest { place, owner: Owner { uid, gid }, paths });
    any_amendment_survives: amendment();
    any_end_of_an_amendment_survives: any::<u64>().prop_map(|removed| AmendDone { removed });
    any_ports_survive: prop::collection::vec(socket_address(), 0..9).prop_map(|listening| Ports { listening });
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes: Vec<u8>) {
        let _ = decode::<Hello>(&bytes);
        let _ = decode::<ExecEnd>(&bytes);
        let _ = decode::<OutputChunk>(&bytes);
        let _ = decode::<Status>(&bytes);
        let _ = decode::<AgentError>(&bytes);
    }

    #[test]
    fn hostile_lengths_inside_a_message_are_errors(length in MAX_PAYLOAD as u64..) {
        // argv of so many entries, or one of so many bytes.
        let length = [&[0xfd][..], &length.to_le_bytes()].concat();
        prop_assert!(decode::<ExecRequest>(&length).is_err());
        prop_assert!(decode::<ExecRequest>(&[&[1], &length[..]].concat()).is_err());
    }
}

#[test]
fn the_largest_chunk_fits_its_frame() {
    let chunk = OutputChunk { stream: Stream::Stderr, sequence: u64::MAX, bytes: vec![0; MAX_CHUNK] };
    assert!(encode(&chunk).unwrap().len() <= MAX_PAYLOAD as usize);
}

#[test]
fn the_largest_chunk_of_a_session_fits_its_frame() {
    let chunk = SessionChunk { stream: Stream::Stderr, sequence: u64::MAX, bytes: vec![0; MAX_CHUNK] };
    assert!(encode(&chunk).unwrap().len() <= MAX_PAYLOAD as usize);
}

#[test]
fn the_most_ports_fit_their_frame() {
    let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), u16::MAX);
    let ports = Ports { listening: vec![address; MAX_PORTS] };
    assert!(encode(&ports).unwrap().len() <= MAX_PAYLOAD as usize);
}
