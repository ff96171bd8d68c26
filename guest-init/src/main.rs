//! x
mod error;
mod sys;
mod wait;
fn main() {}
