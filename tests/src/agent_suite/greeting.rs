//! Hosts that should not be let in.

use firstlight_protocol::codec;
use firstlight_protocol::frame::Header;
use firstlight_protocol::hex::Secret;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::hello::{Hello, Refusal};
use firstlight_protocol::version::{CURRENT, Range, SUPPORTED};

use super::Place;
use super::client::{Client, ID};

#[track_caller]
fn refusal(place: &dyn Place, hello: &Hello) -> Refusal {
    let mut client = Client::dial(place);
    client.send(Kind::Hello, hello);
    let refusal = codec::decode(&client.expect(Kind::Refusal, ID)).unwrap();
    client.expect_end();
    refusal
}

pub(super) fn wrong_token(place: &mut dyn Place) {
    let mut token = place.token().0;
    token[31] ^= 1;
    let unknown = Range { oldest: 900, newest: 900 };
    for versions in [SUPPORTED, unknown] {
        assert_eq!(refusal(place, &Hello { token: Secret(token), versions }), Refusal::WrongToken);
    }
}

pub(super) fn another_age(place: &mut dyn Place) {
    let versions = Range { oldest: CURRENT + 1, newest: CURRENT + 9 };
    let hello = Hello { token: place.token(), versions };
    assert_eq!(refusal(place, &hello), Refusal::NoCommonVersion(SUPPORTED));
}

pub(super) fn no_hello(place: &mut dyn Place) {
    let mut client = Client::dial(place);
    client.send_bytes(Kind::Ping, 3, b"hi");
    assert!(client.expect_violation().contains("starts with Hello"));
}

pub(super) fn large_hello(place: &mut dyn Place) {
    let mut client = Client::dial(place);
    let header = Header::new(Kind::Hello, 1, 4096).unwrap().encode();
    std::io::Write::write_all(&mut client.stream, &header).unwrap();
    assert!(client.expect_violation().contains("over the limit"));
}
