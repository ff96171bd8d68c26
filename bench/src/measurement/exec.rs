//! A command in the guest, from the host and back: `true`, whose work is to be started and waited for.
//!
//! The least there can be is a connection of one's own over bare vsock, with a fork, an exec and a wait at its end.

use firstlight_host_ctl::agent::session::{self, Event};
use firstlight_protocol::message::exec::{ExecOutcome, ExecRequest};
use firstlight_protocol::message::session::SessionStartRequest;

use super::{Context, ratio_of};
use crate::contest::{Contender, Outcome, Unit, hold, timed_command};
use crate::guest::peer::{Work, once_more};
use crate::guest::{Library, NAME, QemuGa, Ssh};
use crate::report::{Section, Target};

/// Rounds for each repetition of a boot: a command takes milliseconds.
const ROUNDS: usize = 4;

const BARE: &str = "bare vsock: connect, fork, exec and wait";
const LIBRARY: &str = "host-ctl's library";
const COMMAND: &str = "host-ctl exec";
const SSH: &str = "ssh";
const SSH_KEPT: &str = "ssh, over a connection that is kept";
const QEMU_GA: &str = "qemu-guest-agent, guest-exec";

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let (guest, lab) = (context.guest(), &context.lab);
    let library = &guest.library;
    let contenders = vec![
        Contender::new("bare vsock: a byte there and back", || echo(library)),
        Contender::new(BARE, || library.timed(library.bare_round_trip(Work::Execute))),
        Contender::new(LIBRARY, || library.timed(execute(library))),
        Contender::new(COMMAND, || timed_command(&mut lab.command(&["exec", NAME, "--", "true"]))),
        Contender::with(SSH, &guest.ssh, Ssh::exec),
        Contender::with(SSH_KEPT, &guest.ssh, Ssh::exec_kept),
        Contender::with(QEMU_GA, &guest.qemu_ga, QemuGa::exec),
    ];
    let figures = hold(contenders, context.runs * ROUNDS, Unit::Milliseconds);
    let checks = vec![
        ratio_of(&figures, LIBRARY, BARE, Target::Open),
        ratio_of(&figures, COMMAND, SSH, Target::AtMost(1.0)),
        ratio_of(&figures, COMMAND, SSH_KEPT, Target::Open),
        ratio_of(&figures, COMMAND, QEMU_GA, Target::Open),
    ];
    Section {
        name: "exec",
        title: "A command in the guest",
        text: "`true` in one Debian guest, from the host and back. A kept connection saves ssh its handshake; host-ctl makes a \
               new one for each command. qemu-guest-agent does not tell when a command ends and is asked until it has."
            .to_owned(),
        figures,
        checks,
    }
}

/// A byte there and back on a connection that is open.
fn echo(library: &Library) -> Outcome {
    let mut stream = library.wait(library.bare_open(Work::Echo))?;
    library.timed(once_more(&mut stream))
}

/// Runs `true` on a connection of its own, up to its end.
async fn execute(library: &Library) -> Result<(), String> {
    let command = ExecRequest {
        argv: vec![b"/bin/true".to_vec()],
        env: Vec::new(),
        cwd: None,
        user: None,
        stdin: false,
        timeout_ms: None,
        kill_after_ms: 0,
    };
    let request = SessionStartRequest { command, terminal: None, detached: false };
    let connection = library.connect().await?;
    let started = session::start(connection, &request).await;
    let (_, _input, mut output) = started.map_err(|error| error.to_string())?;
    loop {
        match output.next().await.map_err(|error| error.to_string())? {
            Event::Ended(ExecOutcome::Exited(_)) => return Ok(()),
            Event::Ended(outcome) => return Err(format!("true ended in {outcome:?}")),
            Event::Output { .. } | Event::Dropped(_) => {}
        }
    }
}
