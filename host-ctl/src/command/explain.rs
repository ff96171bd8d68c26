//! The library's errors as failures: which code each is, and what to do next.

use firstlight_host_ctl::agent;
use firstlight_host_ctl::monitor::client::ClientError;
use firstlight_host_ctl::operation::{Operation, Refusal, check};
use firstlight_host_ctl::vm::VmView;
use firstlight_host_ctl::vm::store::StoreError;
use firstlight_host_ctl::vm::vm_dir::VmDirError;

use firstlight_protocol::message::error::{AgentError, Cause};

use crate::output::{Code, Failure};

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let message = error.to_string();
        match error {
            StoreError::NotFound { wanted } => Failure::new(Code::NoSuchVm, message).of_vm(wanted),
            StoreError::Ambiguous { wanted, .. } => Failure::new(Code::NoSuchVm, message).of_vm(wanted),
            StoreError::NameTaken { name } => Failure::new(Code::NameTaken, message).of_vm(name),
            StoreError::InUse { name } => Failure::new(Code::WrongState, message).of_vm(name),
            StoreError::BadName { name } => Failure::usage(message).of_vm(name),
            StoreError::Spec(_) => Failure::usage(message),
            StoreError::VmDir(_) | StoreError::Journal(_) | StoreError::Io { .. } => Failure::failed(message),
        }
    }
}

impl From<VmDirError> for Failure {
    fn from(error: VmDirError) -> Failure {
        Failure::failed(error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let message = error.to_string();
        match error {
            ClientError::Failed { vm, .. } => Failure::failed(message).of_vm(vm),
            ClientError::Damaged { vm, .. } => Failure::new(Code::Corrupt, message)
                .of_vm(vm)
                .hint("remove the snapshot with `host-ctl snapshots rm`, and take it anew"),
            ClientError::Refused { vm, .. } => Failure::new(Code::WrongState, message).of_vm(vm),
            ClientError::Died { vm, .. }
            | ClientError::Protocol { vm, .. }
            | ClientError::Timeout { vm, .. } => {
                let hint = "run host-ctl inspect, which starts a new monitor if this one is gone";
                Failure::new(Code::Unreachable, message).of_vm(vm).hint(hint)
            }
            ClientError::VmDir(error) => error.into(),
            ClientError::Io { vm, .. } => Failure::failed(message).of_vm(vm),
        }
    }
}

/// Refuses an operation that the VM's state does not allow.
pub(super) fn require(operation: Operation, view: &VmView) -> Result<(), Failure> {
    require_for(operation.name(), operation, view)
}

/// [`require`], for the command `name`.
pub(super) fn require_for(name: &str, operation: Operation, view: &VmView) -> Result<(), Failure> {
    check(operation, &view.state, view.skip_guest_agent).map_err(|refusal| {
        let message = refusal.message_for(name, &view.name, &view.state);
        let code = match refusal {
            Refusal::NotYet
            | Refusal::Ended
            | Refusal::Ending
            | Refusal::Paused
            | Refusal::Active
            | Refusal::NoAgent => Code::WrongState,
            Refusal::Unknown => Code::Unreachable,
        };
        Failure::new(code, message).of_vm(&view.name).hint(refusal.hint(&view.name))
    })
}

/// [`agent_failure`], of something that was asked of one session.
pub(super) fn session_failure(error: &agent::Error, vm: &str) -> Failure {
    let failure = agent_failure(error, vm);
    if matches!(error, agent::Error::Agent(AgentError { cause: Cause::Invalid(_), .. })) {
        return failure.hint(format!("which there are: host-ctl sessions {vm}"));
    }
    failure
}

/// An error between us and the agent of `vm`.
pub(super) fn agent_failure(error: &agent::Error, vm: &str) -> Failure {
    let message = error.to_string();
    let (code, hint) = match error {
        agent::Error::Unreachable { .. } | agent::Error::Lost(_) => {
            (Code::Unreachable, Some(format!("see whether it still runs: host-ctl inspect {vm}")))
        }
        agent::Error::Timeout(_) => (
            Code::Unreachable,
            Some(format!("the guest may be stuck; its console: host-ctl logs --all {vm}")),
        ),
        agent::Error::Refused(_) | agent::Error::Protocol(_) | agent::Error::Pool(_) => {
            (Code::Unreachable, None)
        }
        agent::Error::Agent(_) | agent::Error::TooLarge(_) => (Code::Failed, None),
    };
    let failure = Failure::new(code, message).of_vm(vm);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
