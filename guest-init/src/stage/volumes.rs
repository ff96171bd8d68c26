//! Volumes: further file systems inside the root.

use super::mounts::{MountError, perform};
use super::{Context, Done};
use crate::plan::Mount;

/// Mounts a volume as planned. An optional one that cannot be mounted is skipped.
///
/// # Errors
/// [`MountError`] of a required volume.
pub(crate) fn mount(mounts: &[Mount], required: bool, context: &Context) -> Result<Done, MountError> {
    // The drivers are loaded and have probed by now: an optional disk that is not there is not worth a wait
    // that the program would have to wait for as well.
    let timeout_ms = if required { context.spec.boot.device_timeout_ms } else { 0 };
    match perform(mounts, &context.devices, timeout_ms) {
        Ok(()) => Ok(Done::default()),
        Err(error) if required => Err(error),
        Err(error) => Ok(Done { skipped: Some(crate::error::Fault::from(error).to_string()) }),
    }
}
