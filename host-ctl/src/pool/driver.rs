//! What a pool asks of whoever makes its VMs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::policy::{Job, MemberId};

/// How a VM was brought up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// By a boot.
    Boot,
    /// From the golden snapshot.
    Restore,
    /// As a private clone of the golden snapshot.
    Clone,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 3] = [Way::Boot, Way::Restore, Way::Clone];

    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Way::Boot => "boot",
            Way::Restore => "restore",
            Way::Clone => "clone",
        }
    }
}

/// A VM that was brought up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// How.
    pub way: Way,
    /// Why not by a quicker way, where one was tried and failed.
    pub fell_back: Option<String>,
}

impl From<Way> for Made {
    fn from(way: Way) -> Made {
        Made { way, fell_back: None }
    }
}

/// Makes, resets, proves and destroys VMs. A pool never has two pieces of work under way on one VM, and drops a future
/// only at its limit or with the pool itself.
///
/// Made and reset VMs are proved in a step of their own, so that no driver can forget it. How a VM is brought to the
/// golden state is the driver's: destroy and make, or restore from a snapshot.
pub trait Driver: Send + Sync + 'static {
    /// Why it failed, in words.
    type Error: fmt::Display + Send;

    /// Makes the VM and waits until it runs. What a failure leaves is destroyed.
    fn make(&self, vm: MemberId) -> impl Future<Output = Result<Made, Self::Error>> + Send;

    /// Brings a VM that somebody used back to the golden state, memory and disks, and waits until it runs.
    fn reset(&self, vm: MemberId) -> impl Future<Output = Result<Made, Self::Error>> + Send;

    /// Proves that the VM answers, and that nothing of a previous holder is left in it.
    fn prove(&self, vm: MemberId) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Asks whether the VM is alive, with a round trip to its agent. Callers wait for it.
    fn check(&self, vm: MemberId) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Ends the VM by force and removes all of it. One that is not there is destroyed.
    fn destroy(&self, vm: MemberId) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The VMs of this pool that exist, known to it or not.
    ///
    /// # Errors
    /// They cannot be listed.
    fn existing(&self) -> Result<Vec<MemberId>, Self::Error>;
}

/// Does one piece of work. What was made by it is told.
pub(super) async fn perform<D: Driver>(driver: &D, vm: MemberId, job: Job) -> Result<Option<Made>, D::Error> {
    match job {
        Job::Make => driver.make(vm).await.map(Some),
        Job::Reset => driver.reset(vm).await.map(Some),
        Job::Prove => driver.prove(vm).await.map(|()| None),
        Job::Check => driver.check(vm).await.map(|()| None),
        Job::Destroy => driver.destroy(vm).await.map(|()| None),
    }
}
