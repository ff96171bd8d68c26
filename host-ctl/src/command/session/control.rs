//! Signals and sizes for a session. They have a connection of their own, so that they wait for no byte of its input.

use std::time::Duration;

use firstlight_host_ctl::agent::{Connection, Unary};
use firstlight_host_ctl::vm::VmDir;
use firstlight_protocol::message::session::{SessionResizeRequest, SessionSignalRequest, Window};
use tokio::time::Instant;

use crate::command::explain::session_failure;
use crate::command::guest::connect;
use crate::output::Failure;

/// How long the agent may take to answer. It has nothing to wait for.
const ANSWER: Duration = Duration::from_secs(10);

/// Says things to one session.
pub(in crate::command) struct Control<'a> {
    vm: &'a VmDir,
    session: u64,
    /// Opened when there is something to say: most commands are never signalled.
    connection: Option<Connection>,
}

impl<'a> Control<'a> {
    /// For the session with this number.
    pub(in crate::command) fn new(vm: &'a VmDir, session: u64) -> Control<'a> {
        Control { vm, session, connection: None }
    }

    /// Sends a signal, by the guest's number.
    pub(in crate::command) async fn signal(&mut self, number: u8) -> Result<(), Failure> {
        let request = SessionSignalRequest { id: self.session, number };
        self.ask(&request).await
    }

    /// Changes the size of its terminal.
    pub(in crate::command) async fn resize(&mut self, window: Window) -> Result<(), Failure> {
        let request = SessionResizeRequest { id: self.session, window };
        self.ask(&request).await
    }

    async fn ask<R: Unary>(&mut self, request: &R) -> Result<R::Answer, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(self.vm).await?,
        };
        let answer = connection.request(request, Instant::now() + ANSWER).await;
        let answer = answer.map_err(|error| session_failure(&error, &self.vm.spec().name))?;
        self.connection = Some(connection);
        Ok(answer)
    }
}
