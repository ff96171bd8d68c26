//! The cases that hold wherever an agent runs, here without a VM. `tests/vm/agent_suite.rs` has them in one.

use std::os::unix::net::UnixStream;

use firstlight_protocol::hex::Secret;
use firstlight_tests::agent_suite::{Place, run};

use super::common::{Agent, TOKEN};

impl Place for Agent {
    fn dial(&self) -> UnixStream {
        Agent::dial(self)
    }

    fn token(&self) -> Secret {
        TOKEN
    }

    fn restart(&mut self) {
        Agent::restart(self);
    }
}

#[test]
fn every_case_holds_over_a_unix_socket() {
    run(&mut Agent::start());
}
