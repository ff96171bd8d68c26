//! Making a directory on one side like one on the other, by sending what differs.
//!
//! ```text
//!  describe the source ─┐
//!                       ├─► plan ─► clear what is in the way ─► send what differs ─► remove and adjust
//!  describe the target ─┘   pure
//! ```
//!
//! Both sides are described at once, each in one pass; what is planned is sent as one stream. No round trip is made for a
//! single file. `docs/decisions/0012-sync.md` says more.

mod plan;
mod side;

use std::future::Future;
use std::path::PathBuf;

use firstlight_protocol::message::copy::{Content, Entry};
use firstlight_protocol::message::file::Place;
use firstlight_protocol::message::sync::{Adjustment, AmendRequest, Item, Owner, Removal};

use crate::agent::{self, Connection};
use crate::copy::{self, CopyError, Moved, Selection, Source};

pub use plan::{Conflict, Count, Plan, Rules};
pub use side::Guest;

/// What a sync goes by.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether it may remove, and how it compares.
    pub rules: Rules,
    /// Patterns of what is left alone on both sides.
    pub exclude: Vec<Vec<u8>>,
}

/// Which way it goes. Directories of the host are absolute paths.
#[derive(Debug, Clone)]
pub enum Direction {
    /// Into the guest.
    In {
        /// The host's directory.
        from: PathBuf,
        /// The guest's.
        to: Place,
    },
    /// Out of the guest.
    Out {
        /// The guest's directory.
        from: Place,
        /// The host's.
        to: PathBuf,
    },
}

/// A sync failed. Files that had arrived by then stay; nothing was removed but what stood in the way.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Files could not be described, sent or amended.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A directory stands in the way.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

impl From<agent::Error> for SyncError {
    fn from(error: agent::Error) -> SyncError {
        SyncError::Copy(error.into())
    }
}

/// A sync whose plan is made.
pub struct Sync {
    guest: Guest,
    direction: Direction,
    /// What the source's directory itself is.
    base: Item,
    /// Whether the destination has to be made.
    missing: bool,
    plan: Plan,
}

impl Sync {
    /// Describes both sides and plans.
    ///
    /// # Errors
    /// [`SyncError`]: a source that is not there, above all. A destination that is not there is empty.
    pub async fn prepare(
        mut guest: Guest,
        direction: Direction,
        options: &Options,
    ) -> Result<Sync, SyncError> {
        let (source, destination) = match &direction {
            Direction::In { from, to } => {
                let host = side::describe_on_host(from.clone(), options);
                tokio::join!(host, guest.describe(to, options))
            }
            Direction::Out { from, to } => {
                let host = side::describe_on_host(to.clone(), options);
                let (host, guest) = tokio::join!(host, guest.describe(from, options));
                (guest, host)
            }
        };
        let (source, destination) = (source?, side::or_empty(destination)?);
        let plan = plan::plan(&source, &destination, options.rules)?;
        let missing = destination.is_empty();
        let base = source.into_iter().next();
        let base = base.ok_or_else(|| agent::Error::Protocol("a tree without its root".into()))?;
        Ok(Sync { guest, direction, base, missing, plan })
    }

    /// What is going to be done.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Does it, and gives how many files were removed. `bulk` is a connection of its own for the content. Ends early when
    /// `stop` does.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn run(
        mut self,
        bulk: Connection,
        moved: Moved,
        stop: impl Future<Output = ()>,
    ) -> Result<u64, SyncError> {
        let Plan { clear, send, remove, adjust, .. } = std::mem::take(&mut self.plan);
        let mut removed = self.amend(clear, Vec::new()).await?;
        if self.missing || !send.is_empty() {
            self.send(bulk, send, moved, stop).await?;
        }
        removed += self.amend(remove, adjust).await?;
        Ok(removed)
    }

    async fn send(
        &self,
        bulk: Connection,
        paths: Vec<Vec<u8>>,
        moved: Moved,
        stop: impl Future<Output = ()>,
    ) -> Result<(), SyncError> {
        let sent = match &self.direction {
            Direction::In { from, to } => {
                // Whoever writes owns: in the guest that is the agent, which is root.
                let owner = Owner { uid: 0, gid: 0 };
                let selection = self.selection(paths, owner, side::place(from), moved);
                copy::push(bulk, Source::Selected(selection), to, false, stop).await
            }
            Direction::Out { from, to } => {
                let selection = self.selection(paths, side::ourselves(), from.clone(), moved);
                copy::fetch(bulk, selection, to, stop).await
            }
        };
        sent.map(drop).map_err(SyncError::Copy)
    }

    fn selection(&self, paths: Vec<Vec<u8>>, owner: Owner, place: Place, moved: Moved) -> Selection {
        let base = Entry {
            path: Vec::new(),
            mode: self.base.mode,
            uid: owner.uid,
            gid: owner.gid,
            modified: self.base.modified,
            attributes: Vec::new(),
            content: Content::Directory,
        };
        Selection { base, paths, owner, place, moved }
    }

    async fn amend(&mut self, remove: Vec<Removal>, adjust: Vec<Adjustment>) -> Result<u64, SyncError> {
        let mut removed = 0;
        for (remove, adjust) in side::amendments(remove, adjust) {
            removed += match &self.direction {
                Direction::In { to, .. } => {
                    let request = AmendRequest { place: to.clone(), remove, adjust };
                    self.guest.amend(&request).await?
                }
                Direction::Out { to, .. } => {
                    let request = AmendRequest { place: side::place(to), remove, adjust };
                    side::amend_on_host(request).await?
                }
            };
        }
        Ok(removed)
    }
}
