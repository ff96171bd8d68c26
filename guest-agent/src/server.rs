//! From the listener to sessions.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::agent::Agent;
use crate::listen::Listener;
use crate::session;

/// Connections that have not said hello yet. More wait in the kernel's backlog: whoever fills this only keeps out
/// others who are not authenticated either, and only until the hello's deadline.
const MAX_HANDSHAKES: usize = 64;

/// How long to let go of the listener when the kernel has no descriptor or memory for another connection; accepting
/// again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts connections and serves each in a task of its own, for as long as it is polled.
pub async fn serve(agent: Arc<Agent>, mut listener: Listener) -> Infallible {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        // The semaphore is never closed; if it were, one handshake more would do no harm.
        let handshake = Arc::clone(&handshakes).acquire_owned().await.ok();
        match listener.accept().await {
            Ok(socket) => {
                tokio::spawn(session::run(Arc::clone(&agent), socket, handshake));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}
