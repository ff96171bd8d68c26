//! The wall clock.

use firstlight_protocol::message::clock::ClockRequest;
use firstlight_protocol::message::error::AgentError;

use crate::clock;

/// Sets the wall clock.
///
/// # Errors
/// As `clock_settime(2)`.
pub fn set(request: &ClockRequest) -> Result<(), AgentError> {
    clock::set(request.wall_ns)
}
