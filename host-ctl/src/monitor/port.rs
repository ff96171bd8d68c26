//! The host's end of the agent's virtio-serial port: connections for whoever asks.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use firstlight_multiplex::{Request, dial};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};

use super::closing::Closing;
use crate::clock::Stamp;
use crate::driver::config::AGENT_PORT_SOCKET;

/// Clients that may wait for a connection. Those beyond wait before they can ask.
pub(super) const REQUESTS: usize = 64;

/// How long the VMM's socket is left alone when it was lost: it may be the VMM that has ended, which is heard elsewhere.
const PAUSE: Duration = Duration::from_millis(50);

/// When the agent first answered a greeting over its port: the first thing a guest can say.
pub(super) type Greeted = Arc<OnceLock<Stamp>>;

/// Keeps the road to the agent open until `closing`; `first` is there already.
pub(super) async fn keep(
    first: Option<UnixStream>,
    mut requests: mpsc::Receiver<Request>,
    greeted: Greeted,
    mut closing: Closing,
) {
    let kept = async {
        let mut first = first;
        loop {
            let line = match first.take() {
                Some(first) => Ok(first),
                None => UnixStream::connect(Path::new(AGENT_PORT_SOCKET)).await,
            };
            if let Ok(line) = line {
                // When this ends the VMM has hung up. Clients are told by the ends of their connections.
                let _ =
                    dial(line, &mut requests, crate::random::bytes, || _ = greeted.set(Stamp::now())).await;
            }
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = kept => {}
        () = closing.told() => {}
    }
}
