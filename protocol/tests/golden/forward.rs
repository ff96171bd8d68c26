//! Carried connections.

use firstlight_protocol::codec::{decode, encode};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::forward::{
    Address, ForwardDecline, ForwardIncoming, ForwardListenRequest, ForwardListening, ForwardRequest,
    ForwardTakeRequest, Ports,
};

use super::Golden;

pub(super) fn generation_1() -> Vec<Golden> {
    golden! {
        ForwardRequest: ForwardRequest { target: Address::Loopback(8080) } => "00fb901f",
        ForwardRequest: ForwardRequest { target: Address::Tcp("10.0.2.15:80".parse().unwrap()) } => "01000a00020f50",
        ForwardRequest: ForwardRequest { target: Address::Tcp("[::2]:80".parse().unwrap()) } => "01010000000000000000000000000000000250",
        ForwardListenRequest: ForwardListenRequest { address: Address::Unix(b"/s".to_vec()) } => "02022f73",
        ForwardListening: ForwardListening { address: Address::Loopback(1) } => "0001",
        ForwardIncoming: ForwardIncoming { ticket: 251 } => "fbfb00",
        ForwardDecline: ForwardDecline { ticket: 3 } => "03",
        ForwardTakeRequest: ForwardTakeRequest { ticket: 1 << 32 } => "fd0000000001000000",
        Ports: Ports { listening: vec!["0.0.0.0:80".parse().unwrap(), "[::1]:81".parse().unwrap()] } => "02000000000050010000000000000000000000000000000151",
    }
}
