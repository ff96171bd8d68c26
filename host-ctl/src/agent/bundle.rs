//! All that a guest has to say of itself, in one round trip.
//!
//! The legs are gathered in parallel in the guest, and each fails alone.

use std::time::Duration;

use firstlight_protocol::message::batch::{Answer, Batch, Operation, Outcome};
use firstlight_protocol::message::health::Health;
use firstlight_protocol::message::network::Network;
use firstlight_protocol::message::stats::Stats;
use firstlight_protocol::message::status::Status;
use firstlight_protocol::message::versions::Versions;
use serde::Serialize;

use super::agents::Ask;
use super::batch::{at_once, perform, report};
use super::error::Error;

/// How long the guest may take. Each leg reads a few files.
const LIMIT: Duration = Duration::from_secs(5);

const LEGS: [(&str, Operation); 5] = [
    ("status", Operation::Status),
    ("health", Operation::Health { decided: false }),
    ("stats", Operation::Stats),
    ("network", Operation::Network),
    ("versions", Operation::Versions),
];

/// What the guest says of itself.
#[derive(Debug, Serialize)]
pub struct Bundle {
    /// Its agent and kernel.
    pub status: Leg<Status>,
    /// Its health checks.
    pub health: Leg<Health>,
    /// What it uses.
    pub stats: Leg<Stats>,
    /// How it is connected.
    pub network: Leg<Network>,
    /// What runs in it.
    pub versions: Leg<Versions>,
}

/// One part: `{"value": …}`, or `{"error": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leg<T> {
    /// It was gathered.
    Value(T),
    /// Why it could not be.
    Error(String),
}

/// Gathers all legs.
///
/// # Errors
/// As [`perform`]: the guest said nothing at all.
pub async fn gather(agent: &impl Ask) -> Result<Bundle, Error> {
    Ok(sort(perform(agent, &at_once(LEGS, LIMIT)).await?))
}

/// Puts each answer where it belongs. [`perform`] has proved that they are in order.
fn sort(batch: Batch) -> Bundle {
    let mut outcomes = batch.results.into_iter().map(|result| result.outcome);
    let mut next = || outcomes.next().unwrap_or(Outcome::TimedOut(None));
    Bundle {
        status: leg(next(), |answer| if let Answer::Status(status) = answer { Some(*status) } else { None }),
        health: leg(next(), |answer| if let Answer::Health(health) = answer { Some(health) } else { None }),
        stats: leg(next(), |answer| if let Answer::Stats(stats) = answer { Some(*stats) } else { None }),
        network: leg(
            next(),
            |answer| if let Answer::Network(network) = answer { Some(*network) } else { None },
        ),
        versions: leg(
            next(),
            |answer| if let Answer::Versions(versions) = answer { Some(*versions) } else { None },
        ),
    }
}

fn leg<T>(outcome: Outcome, take: impl FnOnce(Answer) -> Option<T>) -> Leg<T> {
    match outcome {
        Outcome::Done(answer) => {
            take(answer).map_or_else(|| Leg::Error("the agent answered something else".into()), Leg::Value)
        }
        Outcome::TimedOut(_) => Leg::Error("timed out".into()),
        failed @ (Outcome::Error(_) | Outcome::Skipped(_)) => Leg::Error(report::summary(&failed)),
    }
}

#[cfg(test)]
mod tests {
    use firstlight_protocol::message::batch::ItemResult;
    use firstlight_protocol::message::error::{AgentError, Cause};
    use firstlight_protocol::message::health::State;

    use super::*;

    #[test]
    fn a_leg_that_fails_hides_no_other() {
        let error = AgentError { operation: "read".into(), path: None, cause: Cause::Busy("later".into()) };
        let health = Health { state: State::Unchecked, checks: Vec::new() };
        let outcomes = [
            Outcome::Error(error),
            Outcome::Done(Answer::Health(health.clone())),
            Outcome::TimedOut(None),
            Outcome::Done(Answer::Pong(Vec::new())),
        ];
        let result = |outcome| ItemResult { id: String::new(), elapsed_us: 0, outcome };
        let bundle = sort(Batch { results: outcomes.into_iter().map(result).collect() });
        assert_eq!(bundle.status, Leg::Error("read: later".into()));
        assert_eq!(bundle.health, Leg::Value(health));
        assert_eq!(bundle.stats, Leg::Error("timed out".into()));
        assert!(matches!(bundle.network, Leg::Error(_)));
        assert!(matches!(bundle.versions, Leg::Error(_)));
    }
}
