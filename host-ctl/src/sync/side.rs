//! The two sides of a sync: what each can be asked.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::file::Place;
use firstlight_protocol::message::sync::{
    Adjustment, AmendRequest, BATCH, Item, Owner, Removal, TreeItems, TreeRequest,
};
use firstlight_tree::{Errno, Error as TreeError, Exclude, Root, amend, describe};
use rustix::process::{getegid, geteuid};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, timeout};

use super::{Options, SyncError};
use crate::agent::{Awaited, Connection, Error, expect};
use crate::copy::CopyError;

/// How long the guest may take for one part of its description. With checksums that may be one large file.
const DESCRIBE_IDLE: Duration = Duration::from_mins(10);

/// How long one amendment may take: thousands of removals.
const AMEND_DEADLINE: Duration = Duration::from_mins(10);

/// Items that one amendment names, at most; paths of usual lengths then fit a frame by far.
const MAX_AMENDED: usize = 4096;

/// The guest's side.
pub struct Guest(Connection);

impl Guest {
    /// Asks over this connection, which nothing else uses meanwhile.
    #[must_use]
    pub fn new(connection: Connection) -> Guest {
        Guest(connection)
    }

    pub(super) async fn describe(
        &mut self,
        place: &Place,
        options: &Options,
    ) -> Result<Vec<Item>, SyncError> {
        let id = self.0.fresh_id();
        let Options { rules, exclude } = options;
        let request =
            TreeRequest { place: place.clone(), checksum: rules.checksum, exclude: exclude.clone() };
        self.0.send(Kind::TreeRequest, id, &request).await?;
        let mut items = Vec::new();
        loop {
            let frame = timeout(DESCRIBE_IDLE, self.0.recv()).await;
            let (header, payload) = frame.map_err(|_| Error::Timeout(Awaited::Answer))??;
            if header.kind == Kind::TreeItems {
                let part: TreeItems = codec::decode(&payload).map_err(Error::from)?;
                if !part.items.iter().all(Item::is_sound) {
                    return Err(Error::Protocol("a tree has a file outside itself".into()).into());
                }
                items.extend(part.items);
            } else {
                expect(Kind::TreeEnd, header.kind, payload)?;
                return Ok(items);
            }
        }
    }

    pub(super) async fn amend(&mut self, request: &AmendRequest) -> Result<u64, SyncError> {
        Ok(self.0.request(request, Instant::now() + AMEND_DEADLINE).await?.removed)
    }
}

pub(super) async fn describe_on_host(path: PathBuf, options: &Options) -> Result<Vec<Item>, SyncError> {
    let Options { rules, exclude } = options.clone();
    on_thread(move || {
        let (place, exclude) = (place(&path), Exclude::new(&exclude)?);
        let mut items = Vec::new();
        let mut take = |item| {
            items.push(item);
            Ok(())
        };
        describe(&Root::open(&place)?, &place.path, &exclude, rules.checksum, &mut take)?;
        Ok(items)
    })
    .await
}

pub(super) async fn amend_on_host(request: AmendRequest) -> Result<u64, SyncError> {
    on_thread(move || amend(&request)).await
}

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TreeError> + Send + 'static,
) -> Result<T, SyncError> {
    let done: Result<_, JoinError> = spawn_blocking(work).await;
    // The thread is lost only when the runtime ends.
    done.map_err(|_| CopyError::Interrupted)?.map_err(|error| CopyError::Host(error).into())
}

/// A destination that is not there is an empty one.
pub(super) fn or_empty(described: Result<Vec<Item>, SyncError>) -> Result<Vec<Item>, SyncError> {
    let missing = match &described {
        Err(SyncError::Copy(CopyError::Guest(Error::Agent(AgentError {
            cause: Cause::Errno(errno),
            ..
        })))) => *errno == Errno::NOENT.raw_os_error(),
        Err(SyncError::Copy(CopyError::Host(error))) => error.errno() == Some(Errno::NOENT),
        Ok(_) | Err(_) => false,
    };
    if missing { Ok(Vec::new()) } else { described }
}

/// An absolute path of the host.
pub(super) fn place(path: &Path) -> Place {
    Place::new(path.as_os_str().as_bytes())
}

/// Whose files this process makes.
pub(super) fn ourselves() -> Owner {
    Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() }
}

/// Amendments in groups that each fit a frame: all that goes, then all that is adjusted.
pub(super) fn amendments(
    remove: Vec<Removal>,
    adjust: Vec<Adjustment>,
) -> Vec<(Vec<Removal>, Vec<Adjustment>)> {
    let remove = groups(remove, |removal| removal.path.len()).into_iter().map(|group| (group, Vec::new()));
    let adjust = groups(adjust, |adjustment| adjustment.path.len()).into_iter();
    remove.chain(adjust.map(|group| (Vec::new(), group))).collect()
}

fn groups<T>(items: Vec<T>, length: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut groups, mut bytes) = (Vec::<Vec<T>>::new(), 0);
    for item in items {
        bytes += length(&item);
        match groups.last_mut() {
            Some(group) if bytes < BATCH && group.len() < MAX_AMENDED => group.push(item),
            Some(_) | None => {
                bytes = length(&item);
                groups.push(vec![item]);
            }
        }
    }
    groups
}
