//! What each operation of a batch is.

use firstlight_protocol::message::batch::{Answer, Command, MAX_OUTPUT, Operation, Outcome, Ran};
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::exec::{ExecOutcome, ExecRequest};
use firstlight_tree::manage;
use tokio::time::{Instant, timeout_at};

use crate::agent::Agent;
use crate::op::{events, file, network, stats, status, versions};
use crate::process::{Allowance, Limit};

/// Performs one operation, by `deadline` at the latest.
pub(super) async fn perform(
    agent: &Agent,
    operation: &Operation,
    deadline: Instant,
    allowance: &Allowance,
) -> Outcome {
    match operation {
        Operation::Ping(bytes) => Outcome::Done(Answer::Pong(bytes.clone())),
        Operation::Status => outcome(status::answer(agent), |status| Answer::Status(Box::new(status))),
        Operation::Events(request) => outcome(events::answer(agent, request), Answer::Events),
        Operation::Exec(command) => exec(agent, command, deadline, allowance).await,
        Operation::Stats => outcome(stats::answer(), |stats| Answer::Stats(Box::new(stats))),
        Operation::Network => outcome(network::answer(), |network| Answer::Network(Box::new(network))),
        Operation::Versions => outcome(versions::answer(), |versions| Answer::Versions(Box::new(versions))),
        Operation::Health { decided: false } => Outcome::Done(Answer::Health(agent.health.now())),
        Operation::Health { decided: true } => match timeout_at(deadline, agent.health.decided()).await {
            Ok(health) => Outcome::Done(Answer::Health(health)),
            Err(_) => Outcome::TimedOut(None),
        },
        Operation::SetHealth(checks) => outcome(agent.health.set(checks.clone()), Answer::Health),
        Operation::Stat(request) => {
            on_file(request, manage::stat, deadline, |stat| Answer::Stat(Box::new(stat))).await
        }
        Operation::List(request) => on_file(request, manage::list, deadline, Answer::List).await,
        Operation::MakeDir(request) => {
            on_file(request, manage::make_dir, deadline, |()| Answer::FileDone).await
        }
        Operation::Remove(request) => on_file(request, manage::remove, deadline, |()| Answer::FileDone).await,
        Operation::Rename(request) => on_file(request, manage::rename, deadline, |()| Answer::FileDone).await,
    }
}

fn outcome<T>(result: Result<T, AgentError>, answer: impl FnOnce(T) -> Answer) -> Outcome {
    match result {
        Ok(value) => Outcome::Done(answer(value)),
        Err(error) => Outcome::Error(error),
    }
}

async fn on_file<Q, A>(
    request: &Q,
    operation: fn(&Q) -> Result<A, firstlight_tree::Error>,
    deadline: Instant,
    answer: impl FnOnce(A) -> Answer,
) -> Outcome
where
    Q: Clone + Send + 'static,
    A: Send + 'static,
{
    match timeout_at(deadline, file::perform(request.clone(), operation)).await {
        Ok(result) => outcome(result, answer),
        Err(_) => Outcome::TimedOut(None),
    }
}

async fn exec(agent: &Agent, command: &Command, deadline: Instant, allowance: &Allowance) -> Outcome {
    let stream = usize::try_from(command.max_output.min(MAX_OUTPUT)).unwrap_or(usize::MAX);
    let request = ExecRequest {
        argv: command.argv.clone(),
        env: command.env.clone(),
        cwd: command.cwd.clone(),
        user: command.user.clone(),
        stdin: false,
        timeout_ms: None,
        kill_after_ms: 0,
    };
    let collected = agent.processes.collect(request, deadline, Limit { stream, allowance }).await;
    let (ended, output) = match collected {
        Ok(collected) => collected,
        Err(error) => return Outcome::Error(error),
    };
    let (status, out_of_memory) = match ended {
        Some(ExecOutcome::Exited(status)) => (status, false),
        Some(ExecOutcome::OutOfMemory(status)) => (status, true),
        Some(ExecOutcome::SpawnFailed(error)) => return Outcome::Error(error),
        Some(ExecOutcome::TimedOut(_)) | None => return Outcome::TimedOut(Some(output)),
    };
    Outcome::Done(Answer::Exec(Ran { status, out_of_memory, output }))
}
