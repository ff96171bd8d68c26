//! The agent's part of a sync: describe a tree, send what the host chose of it, amend what it has.
//!
//! The host decides. What it decided comes back as lists of paths, so nothing is kept here between two requests.

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::sync::{
    AmendDone, AmendRequest, BATCH, FetchRequest, Item, ItemContent, TreeEnd, TreeItems, TreeRequest,
};
use firstlight_tree::{Error, Exclude, Root, amend as amend_tree, describe, send_selected};
use tokio::task::spawn_blocking;

use super::copy::{joined, too_many};
use crate::agent::Agent;
use crate::bulk::BulkWriter;
use crate::session::SessionError;
use crate::wire::{Connection, FrameWriter};

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
    let Some(_place) = agent.admit_copy() else {
        return refuse(&mut connection.writer, id, &too_many()).await;
    };
    let socket = connection.duplicate_socket()?;
    let described = spawn_blocking(move || {
        let mut writer = BulkWriter::new(socket, id);
        let described = send_items(&mut writer, &request);
        writer.finish().map(|()| described)
    });
    match joined(described.await)?? {
        Ok(special) => {
            Ok(connection.writer.send(Kind::TreeEnd, id, &codec::encode(&TreeEnd { special })?).await?)
        }
        Err(error) => refuse(&mut connection.writer, id, &error.into()).await,
    }
}

fn send_items(writer: &mut BulkWriter, request: &TreeRequest) -> Result<u64, Error> {
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
        writer.message(Kind::TreeItems, codec::encode(&TreeItems { items }))
    };
    let special = describe(&root, &request.place.path, &exclude, request.checksum, &mut take)?;
    if !batch.is_empty() {
        writer.message(Kind::TreeItems, codec::encode(&TreeItems { items: batch }))?;
    }
    Ok(special)
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
    let Some(_place) = agent.admit_copy() else {
        return refuse(&mut connection.writer, id, &too_many()).await;
    };
    let socket = connection.duplicate_socket()?;
    let sent = spawn_blocking(move || {
        let mut writer = BulkWriter::new(socket, id);
        let FetchRequest { place, owner, paths } = request;
        let sent =
            Root::open(&place).and_then(|root| send_selected(&root, &place.path, paths, owner, &mut writer));
        writer.finish().map(|()| sent)
    });
    match joined(sent.await)?? {
        Ok(totals) => Ok(connection.writer.send(Kind::CopyEnd, id, &codec::encode(&totals)?).await?),
        Err(error) => refuse(&mut connection.writer, id, &error.into()).await,
    }
}

/// Removes and adjusts what the host says.
///
/// # Errors
/// [`SessionError`] when the host went away.
pub async fn amend(connection: &mut Connection, id: u64, request: AmendRequest) -> Result<(), SessionError> {
    match joined(spawn_blocking(move || amend_tree(&request)).await)? {
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
