//! The lock of `core`, by a name of its own so that the exploration of interleavings can put another in its place.

pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};
