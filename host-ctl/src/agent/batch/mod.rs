//! Many operations in one round trip: one frame there, one frame back.
//!
//! [`document`] reads the operations from JSON and [`report`] writes the results, as `docs/batch.md` describes them.

pub mod document;
pub mod report;

use std::time::Duration;

use firstlight_protocol::codec::{self, CodecError};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::batch::{Batch, BatchRequest, Item, Operation, Outcome};
use tokio::time::Instant;

use super::agents::Ask;
use super::error::Error;
use super::unary::Unary;

/// How long after the batch's own deadline its answer may arrive: it has to be written, carried and read.
const TRAVEL: Duration = Duration::from_secs(5);

impl Unary for BatchRequest {
    const REQUEST: Kind = Kind::BatchRequest;
    const ANSWER: Kind = Kind::Batch;
    type Answer = Batch;

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self)
    }

    fn decode(payload: Vec<u8>) -> Result<Batch, CodecError> {
        codec::decode(&payload)
    }
}

/// A batch of these operations, all at once, whose ids are `ids`.
#[must_use]
pub fn at_once<I: Into<String>>(
    operations: impl IntoIterator<Item = (I, Operation)>,
    limit: Duration,
) -> BatchRequest {
    let items =
        operations.into_iter().map(|(id, operation)| Item { id: id.into(), timeout_ms: None, operation });
    let items: Vec<Item> = items.collect();
    let all = u16::try_from(items.len()).unwrap_or(u16::MAX);
    let parallel = all.clamp(1, firstlight_protocol::message::batch::MAX_PARALLEL);
    BatchRequest { items, parallel, stop_on_error: false, deadline_ms: millis(limit) }
}

/// Performs a batch. It takes the connection until its answer comes, so a long one belongs on a connection of its own.
///
/// # Errors
/// As [`Ask::request`]; what becomes of a single item is in its result and no error here.
pub async fn perform(agent: &impl Ask, request: &BatchRequest) -> Result<Batch, Error> {
    let deadline = Instant::now() + Duration::from_millis(request.deadline_ms.into()) + TRAVEL;
    let batch = agent.request(request, deadline).await?;
    let asked = request.items.iter().map(|item| &item.id);
    if asked.eq(batch.results.iter().map(|result| &result.id)) {
        Ok(batch)
    } else {
        Err(Error::Protocol("the results of a batch are not those of its items".into()))
    }
}

/// Performs one operation as a batch of one.
///
/// # Errors
/// As [`perform`].
pub async fn perform_one(agent: &impl Ask, operation: Operation, limit: Duration) -> Result<Outcome, Error> {
    let mut batch = perform(agent, &at_once([("1", operation)], limit)).await?;
    batch
        .results
        .pop()
        .map(|result| result.outcome)
        .ok_or_else(|| Error::Protocol("a batch without results".into()))
}

/// A duration in whole milliseconds, as the protocol has them.
#[must_use]
pub fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
