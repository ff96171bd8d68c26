//! What every command does that has to do with a session: stay with one, tell it something, say how it ended.

mod attend;
mod control;
mod detach_keys;
mod ending;
mod terminal;
mod terminal_guard;
mod wait;

pub(super) use attend::{Attendance, Manners};
pub(super) use control::Control;
pub(super) use ending::{End, invocation_code, started};
pub(super) use terminal::{Terminal, is_terminal, window};
pub(crate) use terminal_guard::TerminalGuard;
pub(super) use wait::wait;
