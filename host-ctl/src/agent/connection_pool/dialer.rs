//! How connections are made and unmade: the pool's only view of the world.

use super::key::Key;

/// Makes and closes the connections of a pool.
pub trait Dialer: Send + Sync + 'static {
    /// What is pooled. All holders use it at the same time.
    type Connection: Send + Sync + 'static;
    /// Why there is none. One value is shared by all who waited.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Makes a connection to `key`. Dropping the future must release what it has of one: the pool does so when the
    /// key is superseded, when it is closed, and after [`DIAL_LIMIT`](super::DIAL_LIMIT).
    fn dial(&self, key: &Key) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Gives up the connection's descriptors and ends its tasks, although some holder may still have the value.
    /// Called once for each connection made, and given up after [`CLOSE_LIMIT`](super::CLOSE_LIMIT).
    fn close(&self, connection: &Self::Connection) -> impl Future<Output = ()> + Send;
}
