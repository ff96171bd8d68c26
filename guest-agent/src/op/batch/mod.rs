//! Many operations in one round trip.
//!
//! ```text
//!  items ──► lane ──► perform ──┐
//!        ──► lane ──► perform ──┼──► results, in the order of the items
//!        ──► lane ──► perform ──┘
//! ```
//!
//! As many lanes as the host wants in parallel take one item after the other. No item outlives the batch's deadline, so
//! the answer comes then at the latest, with what there is. A host that goes away meanwhile ends nothing.

mod lanes;
mod perform;

use std::collections::HashSet;
use std::time::Duration;

use firstlight_protocol::codec;
use firstlight_protocol::message::batch::{
    ANSWER_BYTES, Answer, Batch, BatchRequest, MAX_DEADLINE_MS, MAX_ID, MAX_ITEMS, MAX_PARALLEL, Outcome,
};
use firstlight_protocol::message::error::AgentError;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::failure;
use crate::process::Allowance;
use lanes::Lanes;

const OPERATION: &str = "batch";

/// Performs the batch.
///
/// # Errors
/// When the batch as a whole breaks a limit, and then nothing of it was done.
pub async fn answer(agent: &Agent, request: &BatchRequest) -> Result<Batch, AgentError> {
    check(request).map_err(|reason| failure::invalid(OPERATION, reason))?;
    let _place = agent
        .batches
        .try_acquire()
        .map_err(|_| failure::busy(OPERATION, "too many batches are under way"))?;
    let deadline = Instant::now() + Duration::from_millis(request.deadline_ms.into());
    let allowance = Allowance::new(ANSWER_BYTES);
    let lanes = Lanes::new(&request.items, deadline, request.stop_on_error);
    let allowance = &allowance;
    let perform = |operation, deadline| async move {
        within(allowance, perform::perform(agent, operation, deadline, allowance).await)
    };
    lanes.run(request.parallel, perform).await;
    Ok(Batch { results: lanes.into_results() })
}

fn check(request: &BatchRequest) -> Result<(), String> {
    let BatchRequest { items, parallel, deadline_ms, .. } = request;
    if items.len() > MAX_ITEMS {
        return Err(format!(
            "{} operations are over the limit of {MAX_ITEMS}; send several batches",
            items.len()
        ));
    }
    if !(1..=MAX_PARALLEL).contains(parallel) {
        return Err(format!("{parallel} at one time is not 1 to {MAX_PARALLEL}"));
    }
    if *deadline_ms > MAX_DEADLINE_MS {
        return Err(format!("a deadline of {deadline_ms} ms is over the limit of {MAX_DEADLINE_MS}"));
    }
    let mut ids = HashSet::new();
    for item in items {
        if item.id.is_empty() || item.id.len() > MAX_ID {
            return Err(format!("an id has 1 to {MAX_ID} bytes, and one here has {}", item.id.len()));
        }
        if !ids.insert(item.id.as_str()) {
            return Err(format!("the id {:?} is there twice", item.id));
        }
    }
    Ok(())
}

/// The outcome, or in its place the error that there is no room for it. What a command wrote was counted when it was read.
fn within(allowance: &Allowance, outcome: Outcome) -> Outcome {
    let counted = matches!(outcome, Outcome::Done(Answer::Exec(_)) | Outcome::TimedOut(_));
    if counted || codec::encode(&outcome).is_ok_and(|bytes| allowance.take_all(bytes.len())) {
        outcome
    } else {
        let reason = format!("the answers are over {ANSWER_BYTES} bytes together");
        Outcome::Error(failure::busy(OPERATION, reason))
    }
}

#[cfg(test)]
mod tests {
    use firstlight_protocol::message::batch::{Item, ItemResult, Operation};

    use super::*;

    fn request(ids: &[&str]) -> BatchRequest {
        let item = |id: &&str| Item { id: (*id).into(), timeout_ms: None, operation: Operation::Status };
        BatchRequest {
            items: ids.iter().map(item).collect(),
            parallel: 1,
            stop_on_error: false,
            deadline_ms: 1000,
        }
    }

    #[test]
    fn limits_are_told_by_name() {
        assert_eq!(check(&request(&["a", "b"])), Ok(()));
        assert_eq!(check(&request(&[])), Ok(()));
        let twice = check(&request(&["a", "b", "a"])).unwrap_err();
        assert_eq!(twice, "the id \"a\" is there twice");
        assert!(check(&request(&[""])).is_err() && check(&request(&[&"x".repeat(MAX_ID + 1)])).is_err());
        assert!(check(&request(&vec!["x"; MAX_ITEMS + 1])).unwrap_err().contains("over the limit of 256"));
        for (parallel, deadline_ms) in [(0, 1), (MAX_PARALLEL + 1, 1), (1, MAX_DEADLINE_MS + 1)] {
            assert!(check(&BatchRequest { parallel, deadline_ms, ..request(&[]) }).is_err());
        }
    }

    #[test]
    fn the_largest_answer_fits_in_a_frame() {
        let allowance = Allowance::new(ANSWER_BYTES);
        let result = |number: usize| {
            let outcome = within(&allowance, Outcome::Done(Answer::Pong(vec![7; 100_000])));
            ItemResult { id: format!("{number:0MAX_ID$}"), elapsed_us: u64::MAX, outcome }
        };
        let batch = Batch { results: (0..MAX_ITEMS).map(result).collect() };
        let done = batch.results.iter().filter(|result| matches!(result.outcome, Outcome::Done(_))).count();
        assert_eq!(done, ANSWER_BYTES / 100_000);
        assert!(codec::encode(&batch).is_ok());
    }
}
