//! `wait --session ID NAME`

use std::time::Duration;

use firstlight_host_ctl::agent;
use firstlight_protocol::message::session::SessionWaitRequest;
use serde::Serialize;
use tokio::time::Instant;

use super::ending::End;
use crate::cli::resolved::Context;
use crate::cli::value::duration;
use crate::command::explain::session_failure;
use crate::command::guest::{connect, running};
use crate::output::{self, Code, Failure, Format};

/// For a wait without a limit: longer than any VM runs.
const FOR_EVER: Duration = Duration::from_hours(24 * 365 * 100);

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    version: u32,
    vm: &'a str,
    session: u64,
    end: End,
}

/// Waits for a session's end, and prints the code that `exec` would have exited with.
pub(in crate::command) async fn wait(
    context: &Context,
    name: &str,
    id: u64,
    limit: Option<Duration>,
) -> Result<(), Failure> {
    let vm = running(context, name, "wait --session").await?;
    let name = &vm.spec().name;
    let deadline = Instant::now() + limit.unwrap_or(FOR_EVER);
    let ended = connect(&vm).await?.request(&SessionWaitRequest { id }, deadline).await;
    let ended = ended.map_err(|error| match (&error, limit) {
        (agent::Error::Timeout(_), Some(limit)) => {
            let text = format!("session {id} of {name} did not end within {}", duration::show(limit));
            Failure::new(Code::TimedOut, text).of_vm(name)
        }
        _ => session_failure(&error, name),
    })?;
    let end = End::of(&ended.outcome);
    match context.format {
        Format::Json => output::json_line(&Report { version: 1, vm: name, session: id, end }),
        Format::Text => output::line(end.exit_code()),
    }
}
