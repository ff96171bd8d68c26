//! What a pool tells its operator.

use std::fmt;

use super::policy::{Job, LeaseId};

/// Something worth a line in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Work on a VM failed; what becomes of the VM follows from the kind of work.
    Failed {
        /// The VM's name.
        vm: String,
        /// What failed.
        job: Job,
        /// Why, in words.
        reason: String,
    },
    /// A lease ended by itself.
    Expired {
        /// The VM's name.
        vm: String,
        /// The lease.
        lease: LeaseId,
    },
    /// A kind of work fails again and again, or no longer does.
    Degraded {
        /// What fails.
        jobs: Vec<Job>,
    },
    /// A VM could not be made as quickly as others, and was made all the same.
    FellBack {
        /// The VM's name.
        vm: String,
        /// Why, in words.
        reason: String,
    },
    /// The golden snapshot could not be taken.
    NoGolden {
        /// The VM it was to be taken of.
        vm: String,
        /// Why, in words.
        reason: String,
    },
    /// A VM that the pool did not know was destroyed.
    Stray {
        /// Its name.
        vm: String,
    },
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Failed { vm, job, reason } => {
                let (what, then) = match job {
                    Job::Make => ("cannot be made", "destroying what there is of it; another is made later"),
                    Job::Reset => ("cannot be reset", "destroying it; another is made in its place"),
                    Job::Prove => ("is not proved clean", "destroying it; another is made in its place"),
                    Job::Check => ("does not answer", "destroying it; another is made in its place"),
                    Job::Destroy => ("cannot be destroyed", "trying again later"),
                };
                write!(f, "{vm} {what}: {reason}; {then}")
            }
            News::Expired { vm, lease } => write!(f, "{vm}: lease {lease} expired; taking the VM back"),
            News::Degraded { jobs } if jobs.is_empty() => f.write_str("the pool is well again"),
            News::Degraded { jobs } => {
                let names: Vec<&str> = jobs.iter().map(|job| job.name()).collect();
                write!(f, "the pool is degraded: {} fails again and again", names.join(" and "))
            }
            News::FellBack { vm, reason } => {
                write!(f, "{vm} cannot be restored from the golden snapshot: {reason}; booted it instead")
            }
            News::NoGolden { vm, reason } => {
                write!(f, "no golden snapshot can be taken of {vm}: {reason}; VMs are booted instead")
            }
            News::Stray { vm } => write!(f, "{vm} was not known to the pool; destroyed it"),
        }
    }
}
