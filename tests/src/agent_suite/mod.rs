//! What an agent has to do wherever it runs: the same cases over a unix socket, without a VM (`guest-agent/tests`), and in a
//! real one (`tests/vm`).
//!
//! The cases say everything through the protocol. They look at files with the agent's own operations, each in a
//! directory of its own, so they need nothing of the machine the agent is on but a `/tmp`.

mod client;
mod copies;
mod framing;
mod greeting;
mod requests;

use std::os::unix::net::UnixStream;

use firstlight_protocol::hex::Secret;

pub use client::Client;

/// Where an agent runs.
pub trait Place {
    /// A new connection to its port, before the hello.
    fn dial(&self) -> UnixStream;

    /// What it wants to be shown.
    fn token(&self) -> Secret;

    /// Kills the agent as a crash does, and waits until another has taken its place.
    fn restart(&mut self);
}

/// One case, and what it shows.
pub type Case = (&'static str, fn(&mut dyn Place));

/// All of them.
pub const CASES: &[Case] = &[
    ("a wrong token is refused before anything is told", greeting::wrong_token),
    ("a host of another age learns what the agent speaks", greeting::another_age),
    ("a request before the hello ends the connection", greeting::no_hello),
    ("a large hello is refused from its header alone", greeting::large_hello),
    ("an oversized frame is named and ends the connection", framing::oversized),
    ("an unknown kind is named and ends the connection", framing::unknown_kind),
    ("a hostile length inside a message is malformed and no allocation", framing::hostile_length),
    ("bytes after a message end the connection", framing::trailing_bytes),
    ("an answer in a request's place ends the connection", framing::answer),
    ("a stream cut inside a frame harms nobody", framing::cut),
    ("an id that is in use cannot be used again", framing::id_in_use),
    ("requests sent in one go are answered in order", requests::in_order),
    ("the largest ping comes back whole", requests::largest_ping),
    ("a batch is one frame there and one frame back", requests::batch),
    ("a tree that is pushed is pulled unchanged", copies::there_and_back),
    ("a host that vanishes leaves nothing half-written", copies::vanished_host),
    ("an agent that is killed leaves nothing half-written", copies::killed_agent),
    ("control goes on beside copies", copies::control_beside_copies),
    ("a host that stops reading holds up nobody and loses nothing", copies::stopped_reader),
];

/// Runs every case, saying which one it is.
///
/// # Panics
/// At the first that does not hold.
#[track_caller]
#[allow(clippy::print_stderr, reason = "the test runner captures it and shows it with a failure")]
pub fn run(place: &mut dyn Place) {
    for (what, case) in CASES {
        eprintln!("case: {what}");
        case(place);
    }
}
