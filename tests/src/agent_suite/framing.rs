//! Bytes that are no protocol: one typed error, a closed connection, and an agent that goes on.

use std::io::Write as _;
use std::net::Shutdown;

use firstlight_protocol::codec;
use firstlight_protocol::frame::{HEADER_LEN, Header};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{PushRequest, Shape};
use firstlight_protocol::message::file::{Place as Path, RemoveRequest};
use firstlight_protocol::message::shutdown::ShutdownRequest;

use super::Place;
use super::client::{Client, ID};

/// What a connection that says `bytes` after its hello is told before it ends.
#[track_caller]
fn violation(place: &dyn Place, bytes: &[u8]) -> String {
    let mut client = Client::connect(place);
    client.stream.write_all(bytes).unwrap();
    let reason = client.expect_violation();
    Client::connect(place).ping();
    reason
}

fn ping_header(change: impl FnOnce(&mut [u8; HEADER_LEN])) -> [u8; HEADER_LEN] {
    let mut header = Header::new(Kind::Ping, 1, 0).unwrap().encode();
    change(&mut header);
    header
}

pub(super) fn oversized(place: &mut dyn Place) {
    let header = ping_header(|bytes| bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes()));
    assert_eq!(violation(place, &header), "frame of 4294967295 bytes is over the limit of 1048576");
}

pub(super) fn unknown_kind(place: &mut dyn Place) {
    let header = ping_header(|bytes| bytes[5] = 0xff);
    assert!(violation(place, &header).contains("unknown kind"));
}

pub(super) fn hostile_length(place: &mut dyn Place) {
    // What begins with a length that claims 2^64 - 1 bytes, in bincode's notation of numbers.
    let payload = [&[0xfd][..], &[0xff; 8], b"short"].concat();
    for kind in [Kind::FileStatRequest, Kind::BatchRequest, Kind::PushRequest, Kind::TreeRequest] {
        let header = Header::new(kind, 1, payload.len()).unwrap().encode();
        let reason = violation(place, &[&header[..], &payload].concat());
        assert!(reason.contains("malformed"), "{reason}");
    }
}

pub(super) fn trailing_bytes(place: &mut dyn Place) {
    let mut payload = codec::encode(&RemoveRequest {
        place: Path::new("/nothing/here"),
        recursive: false,
        ignore_missing: true,
    })
    .unwrap();
    payload.push(0);
    let header = Header::new(Kind::RemoveRequest, 1, payload.len()).unwrap().encode();
    let reason = violation(place, &[&header[..], &payload].concat());
    assert!(reason.contains("followed by 1 unexpected bytes"), "{reason}");
}

pub(super) fn answer(place: &mut dyn Place) {
    let header = Header::new(Kind::Pong, 1, 0).unwrap().encode();
    assert!(violation(place, &header).contains("unexpected Pong"));
}

pub(super) fn cut(place: &mut dyn Place) {
    let payload = codec::encode(&ShutdownRequest { grace_ms: None }).unwrap();
    let header = Header::new(Kind::Ping, 1, 100).unwrap().encode();
    let frame = [&header[..], &payload, &[7; 99]].concat();
    for length in [1, HEADER_LEN - 1, HEADER_LEN, HEADER_LEN + 1, HEADER_LEN + 99] {
        let mut client = Client::connect(place);
        client.stream.write_all(&frame[..length]).unwrap();
        client.stream.shutdown(Shutdown::Write).unwrap();
        // Over a vsock the backend may have closed both directions by then, and with them the agent's last word.
        while let Some(frame) = client.receive() {
            assert_eq!(frame.kind, Kind::Error);
        }
    }
    Client::connect(place).ping();
}

pub(super) fn id_in_use(place: &mut dyn Place) {
    let mut client = Client::connect(place);
    let push = PushRequest {
        place: Path::new("/tmp/never"),
        shape: Shape::Named(b"never".to_vec()),
        durable: false,
    };
    client.send(Kind::PushRequest, &push);
    client.send_bytes(Kind::Ping, ID, b"a second request under the id of a copy");
    assert!(client.expect_violation().contains("unexpected Ping"));
    // One that has been answered is free again.
    let mut client = Client::connect(place);
    client.ping();
    client.ping();
}
