//! Requests with one answer.

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::batch::{Answer, Batch, BatchRequest, Item, Operation, Outcome};

use super::Place;
use super::client::Client;

pub(super) fn in_order(place: &mut dyn Place) {
    let mut client = Client::connect(place);
    for id in 0..200_u64 {
        client.send_bytes(Kind::Ping, id, &id.to_le_bytes());
    }
    for id in 0..200_u64 {
        assert_eq!(client.expect(Kind::Pong, id), id.to_le_bytes());
    }
}

pub(super) fn largest_ping(place: &mut dyn Place) {
    let mut client = Client::connect(place);
    let payload: Vec<u8> = (0..1 << 20).map(|index: u32| index.to_le_bytes()[1]).collect();
    let mut writer = Client { stream: client.stream.try_clone().unwrap() };
    std::thread::scope(|scope| {
        scope.spawn(|| writer.send_bytes(Kind::Ping, 4, &payload));
        assert!(client.expect(Kind::Pong, 4) == payload);
    });
}

pub(super) fn batch(place: &mut dyn Place) {
    let mut client = Client::connect(place);
    let item = |number: usize| Item {
        id: number.to_string(),
        timeout_ms: None,
        operation: Operation::Ping(vec![0; number]),
    };
    let items = (1..=100).map(item).collect();
    let request = BatchRequest { items, parallel: 8, stop_on_error: false, deadline_ms: 60_000 };
    client.send(Kind::BatchRequest, &request);
    let frame = client.receive().unwrap();
    let Batch { results } = codec::decode(&frame.payload).unwrap();
    for (number, result) in (1..=100).zip(&results) {
        assert_eq!(result.outcome, Outcome::Done(Answer::Pong(vec![0; number])));
    }
    // Nothing else had been sent: what comes next answers this.
    client.ping();
}
