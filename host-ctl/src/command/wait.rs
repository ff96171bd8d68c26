//! `wait --for CONDITION... [--any] [--timeout] NAME`, and `wait --session ID [--timeout] NAME`

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::vm::{Store, VmDir, VmView};
use firstlight_protocol::boot_spec::Mode;
use firstlight_protocol::headers::State;
use tokio::time::timeout;

use super::session;
use crate::cli::resolved::Context;
use crate::cli::value::condition::{Condition, Verdict};
use crate::cli::value::duration;
use crate::follow::{Follow, Step};
use crate::output::{self, Code, Failure, Format};

/// Wait until something has happened to a VM
///
/// Fails at once when it can no longer happen. Without --for it waits for the program's exit and prints its code.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// A name, or the unique beginning of an id
    name: String,

    /// initializing, running, paused, stopping, stopped, failed, agent-ready, system-ready, headers or exit; may be
    /// repeated
    #[arg(long = "for", value_name = "CONDITION")]
    conditions: Vec<Condition>,

    /// Wait for the end of this session instead, and print its exit code
    #[arg(long, value_name = "ID", conflicts_with_all = ["conditions", "any"])]
    session: Option<u64>,

    /// One of the conditions is enough
    #[arg(long)]
    any: bool,

    /// Give up after this long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

impl Wait {
    pub(crate) async fn run(mut self, context: &Context) -> Result<(), Failure> {
        if let Some(session) = self.session {
            return session::wait(context, &self.name, session, self.timeout).await;
        }
        if self.conditions.is_empty() {
            self.conditions.push(Condition::Exit);
        }
        let vm = Store::open(&context.state_dir)?.resolve(&self.name)?;
        let goal = Goal::new(&self.conditions, self.any);
        let view = match self.timeout {
            Some(limit) => timeout(limit, reach(&vm, goal)).await.unwrap_or_else(|_| {
                let text =
                    format!("{} was not {} within {}", vm.spec().name, self.wanted(), duration::show(limit));
                let state = vm.view().map(|view| view.state.name()).unwrap_or("unknown");
                Err(Failure::new(Code::TimedOut, format!("{text}; it is {state}")).of_vm(&vm.spec().name))
            })?,
            None => reach(&vm, goal).await?,
        };
        self.say(context, &view)
    }

    fn wanted(&self) -> String {
        let names: Vec<String> = self.conditions.iter().map(Condition::to_string).collect();
        names.join(if self.any { " or " } else { " and " })
    }

    fn say(&self, context: &Context, view: &VmView) -> Result<(), Failure> {
        match (context.format, view.exit_code()) {
            (Format::Json, _) => output::json_line(view),
            (Format::Text, Some(code)) if self.conditions.contains(&Condition::Exit) => output::line(code),
            (Format::Text, _) => Ok(()),
        }
    }
}

/// Conditions of which all, or any, have to have come. One that came stays met, whatever happens next.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    open: Vec<Condition>,
    any: bool,
}

impl Goal {
    pub(crate) fn new(conditions: &[Condition], any: bool) -> Goal {
        Goal { open: conditions.to_vec(), any }
    }

    /// Looks at a VM once more.
    fn verdict(&mut self, view: &VmView) -> Verdict {
        let before = self.open.len();
        self.open.retain(|condition| condition.verdict(view) != Verdict::Met);
        let met = if self.any { self.open.len() < before } else { self.open.is_empty() };
        let mut never = self.open.iter().map(|condition| condition.verdict(view) == Verdict::Never);
        let lost = if self.any { never.all(|never| never) } else { never.any(|never| never) };
        match (met, lost) {
            (true, _) => Verdict::Met,
            (false, true) => Verdict::Never,
            (false, false) => Verdict::Pending,
        }
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.open.iter().map(Condition::to_string).collect();
        names.join(if self.any { " or " } else { " and " })
    }
}

/// Waits until the goal is reached, and gives what was known of the VM then.
pub(crate) async fn reach(vm: &VmDir, mut goal: Goal) -> Result<VmView, Failure> {
    let mut follow = Follow::open(vm).await?;
    loop {
        let view = follow.view();
        match goal.verdict(&view) {
            Verdict::Met => return Ok(view),
            Verdict::Never => return Err(never(&goal, &view)),
            Verdict::Pending => {}
        }
        if follow.next().await? == Step::Ended && goal.verdict(&follow.view()) == Verdict::Pending {
            return Err(never(&goal, &follow.view()));
        }
    }
}

/// Why a goal that headers are part of cannot be reached, where that is for their sake.
fn headers_reason(goal: &Goal, view: &VmView) -> Option<String> {
    if !goal.open.contains(&Condition::Headers) {
        return None;
    }
    let Some(headers) = &view.headers else { return Some(" and was given no kernel headers".to_owned()) };
    let reason = headers.reason.as_deref().filter(|_| headers.state == State::Failed)?;
    Some(format!(" (headers: {})", output::text::printable(reason)))
}

fn never(goal: &Goal, view: &VmView) -> Failure {
    let (vm, state) = (&view.name, view.state.name());
    let reason = match &view.failure {
        Some(failure) => format!(" (stage {}: {})", failure.stage, output::text::printable(&failure.reason)),
        None if view.skip_guest_agent && goal.open.contains(&Condition::AgentReady) => {
            " and was booted without an agent".to_owned()
        }
        None if view.mode == Mode::Exec && goal.open.contains(&Condition::SystemReady) => {
            " and has no init of its own (--mode exec)".to_owned()
        }
        None => headers_reason(goal, view).unwrap_or_default(),
    };
    Failure::new(Code::WrongState, format!("{vm} is {state}{reason}: {} cannot come any more", goal.names()))
        .of_vm(vm)
        .hint(format!("see how it went: host-ctl inspect {vm}"))
}
