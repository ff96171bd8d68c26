//! What stands in an argument, parsed once: after this no command looks at text again.
//!
//! Each parser's error names what was found and shows a right example.

pub(crate) mod condition;
pub(crate) mod duration;
pub(crate) mod environment;
pub(crate) mod filter;
pub(crate) mod location;
pub(crate) mod network;
pub(crate) mod route;
pub(crate) mod signal;
pub(crate) mod since;
pub(crate) mod size;
pub(crate) mod volume;
