//! What is done to single names: a file an operation, each from its request to its answer.

mod list;
mod make_dir;
mod remove;
mod rename;
mod stat;

#[cfg(test)]
mod tests;

pub use list::list;
pub use make_dir::make_dir;
pub use remove::remove;
pub use rename::rename;
pub use stat::stat;
