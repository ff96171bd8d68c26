//! The agent's part of a sync: describe a tree, send what the host chose of it, amend what it has.
//!
//! The host decides. What it decided comes back as lists of paths, so nothing is kept here between two requests.

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::Totals;
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::sync::{
    AmendDone, AmendRequest, BATCH, FetchRequest, Item, ItemContent, TreeEnd, TreeItems, TreeRequest,
};
use firstlight_socket::bulk::BulkWriter;
use firstlight_tree::{Error, Exclude, Frames, Root, amend as amend_tree, describe, send_selected};
use tokio::task::spawn_blocking;

use super::copy::too_many;
use crate::agent::Agent;
use crate::session::SessionError;
use crate::wire::{Connection, FrameWriter, WireError};

/// Bytes of an item besides its path and a link's target, at most.
const ITEM_OVERHEAD: usize = 96;

/// Describes a directory and what is in it.
///
/// # Errors
/// [`SessionError`] when the host went away.
pub async fn describe_tree(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    request: TreeRequest,
) -> Result<(), SessionError> {
    let Some(place) = agent.copies.admit() else {
        return refuse(&mut connection.writer, id, &too_many()).await;
    };
    let described = place.run(connection, move |socket| {
        let mut writer = BulkWriter::new(socket);
        let described = send_items(&request, &mut Frames::new(id, |batch| writer.write(batch)));
        writer.finish().map(|()| described).map_err(WireError::from)
    });
    match described.await?? {
        Ok(special) => {
            Ok(connection.writer.send(Kind::TreeEnd, id, &codec::encode(&TreeEnd { special })?).await?)
        }
        Err(error) => refuse(&mut connection.writer, id, &error.into()).await,
    }
}

/// Sends every item there is. On a thread.
fn send_items<D>(request: &TreeRequest, frames: &mut Frames<D>) -> Result<u64, Error>
where
    D: FnMut(&mut Vec<u8>) -> bool,
{
    let root = Root::open(&request.place)?;
    let exclude = Exclude::new(&request.exclude)?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut take = |item: Item| {
        bytes += size_of_item(&item);
        batch.push(item);
        if bytes < BATCH {
            return Ok(());
        }
        bytes = 0;
        let items = std::mem::take(&mut batch);
        frames.message(Kind::TreeItems, codec::encode(&TreeItems { items }))
    };
    let special = describe(&root, &request.place.path, &exclude, request.checksum, &mut take);
    if !batch.is_empty() {
        frames.message(Kind::TreeItems, codec::encode(&TreeItems { items: batch }))?;
    }
    frames.flush()?;
    special
}

fn size_of_item(item: &Item) -> usize {
    let target = match &item.content {
        ItemContent::Symlink(target) => target.len(),
        ItemContent::Directory | ItemContent::File { .. } => 0,
    };
    item.path.len() + target + ITEM_OVERHEAD
}

/// Sends the files that the host chose.
///
/// # Errors
/// As [`describe_tree`].
pub async fn fetch(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    request: FetchRequest,
) -> Result<(), SessionError> {
    let Some(place) = agent.copies.admit() else {
        return refuse(&mut connection.writer, id, &too_many()).await;
    };
    let sent = place.run(connection, move |socket| {
        let mut writer = BulkWriter::new(socket);
        let sent = send_chosen(request, &mut Frames::new(id, |batch| writer.write(batch)));
        writer.finish().map(|()| sent).map_err(WireError::from)
    });
    match sent.await?? {
        Ok(totals) => Ok(connection.writer.send(Kind::CopyEnd, id, &codec::encode(&totals)?).await?),
        Err(error) => refuse(&mut connection.writer, id, &error.into()).await,
    }
}

/// Sends every file that was chosen. On a thread.
fn send_chosen<D>(request: FetchRequest, frames: &mut Frames<D>) -> Result<Totals, Error>
where
    D: FnMut(&mut Vec<u8>) -> bool,
{
    let FetchRequest { place, owner, paths } = request;
    let sent = send_selected(&Root::open(&place)?, &place.path, paths, owner, frames);
    // What was collected before an error is sent as well: whole frames, so that the error can follow.
    frames.flush()?;
    sent
}

/// Removes and adjusts what the host says.
///
/// # Errors
/// [`SessionError`] when the host went away.
pub async fn amend(connection: &mut Connection, id: u64, request: AmendRequest) -> Result<(), SessionError> {
    match spawn_blocking(move || amend_tree(&request)).await.map_err(|_| SessionError::Abandoned)? {
        Ok(removed) => {
            let done = codec::encode(&AmendDone { removed })?;
            Ok(connection.writer.send(Kind::AmendDone, id, &done).await?)
        }
        Err(error) => refuse(&mut connection.writer, id, &error.into()).await,
    }
}

async fn refuse(writer: &mut FrameWriter, id: u64, error: &AgentError) -> Result<(), SessionError> {
    Ok(writer.send(Kind::Error, id, &codec::encode(error)?).await?)
}
