//! A pool's errors as failures: which code each is, and what to do next.

use firstlight_host_ctl::pool::PoolError;
use firstlight_host_ctl::pool::client::ClientError;
use firstlight_host_ctl::pool::wire::RefusalKind;

use crate::output::{Code, Failure};

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Failure {
        let message = error.to_string();
        match error {
            PoolError::BadName { .. } | PoolError::Bounds(_) => Failure::usage(message),
            PoolError::Served { pool } => Failure::new(Code::NameTaken, message)
                .hint(format!("choose another name, or end it: host-ctl pool drain {pool}")),
            PoolError::Records(_) | PoolError::List { .. } | PoolError::Io { .. } => Failure::failed(message)
                .hint("its VMs are left as they are, and pool serve takes them over once this is mended"),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let message = error.to_string();
        match error {
            ClientError::NotServed { pool } => {
                Failure::new(Code::Unreachable, message).hint(format!("serve it: host-ctl pool serve {pool}"))
            }
            ClientError::Refused { pool, kind, .. } => refused(kind, message, &pool),
            ClientError::Timeout { .. } | ClientError::Ended { .. } | ClientError::Protocol { .. } => {
                Failure::new(Code::Unreachable, message)
            }
            ClientError::Io { .. } => Failure::failed(message),
        }
    }
}

fn refused(kind: RefusalKind, message: String, pool: &str) -> Failure {
    let status = format!("see who has them: host-ctl pool status {pool}");
    match kind {
        RefusalKind::BadRequest => Failure::usage(message),
        RefusalKind::TimedOut => Failure::new(Code::TimedOut, message).hint(status),
        RefusalKind::Unavailable => Failure::new(Code::WrongState, message).hint(status),
        RefusalKind::NoSuchVm => Failure::new(Code::NoSuchVm, message).hint(status),
        RefusalKind::LeaseOver => Failure::new(Code::WrongState, message).hint(status),
    }
}
