//! Whether the guest's vsock is up, for those who dial the guest.
//!
//! A vhost-user backend whose guest has not set its queues up yet can be killed by a connection from the host: it takes
//! the connection, finds no queue, and its only worker ends without a word. So after a new vsock was plugged nobody dials
//! before the guest has: init opens its event stream by itself, within half a second.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Duration, timeout};

use crate::driver::config::VsockConfig;

/// How long the guest may take to dial, a save in between included. One whose init never does has its queues by then.
const PATIENCE: Duration = Duration::from_secs(15);

/// The road to the guest. Clones are one road.
#[derive(Debug, Clone)]
pub(super) struct Road(Arc<watch::Sender<bool>>);

impl Road {
    /// An open one.
    pub(super) fn new() -> Road {
        Road(Arc::new(watch::Sender::new(true)))
    }

    /// The vsock is about to go, or was just plugged: behind a backend the guest has to dial first.
    pub(super) fn replug(&self, vsock: VsockConfig) {
        self.0.send_replace(match vsock {
            VsockConfig::Backend => false,
            VsockConfig::Kernel { .. } | VsockConfig::Serial => true,
        });
    }

    /// The guest has dialled.
    pub(super) fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the guest has dialled, or has had the time for it.
    pub(super) async fn travel(&self) {
        let mut state = self.0.subscribe();
        if timeout(PATIENCE, state.wait_for(|open| *open)).await.is_err() {
            self.open();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_closed_road_is_waited_for_until_the_guest_dials() {
        let road = Road::new();
        road.replug(VsockConfig::Backend);
        let traveller = tokio::spawn({
            let road = road.clone();
            async move { road.travel().await }
        });
        tokio::task::yield_now().await;
        assert!(!traveller.is_finished());
        let begun = tokio::time::Instant::now();
        road.open();
        traveller.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO, "it waited for the time instead of the guest");
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_never_dials_is_dialled_all_the_same() {
        let road = Road::new();
        road.replug(VsockConfig::Backend);
        road.travel().await;
        // Nobody waits twice for it.
        let begun = tokio::time::Instant::now();
        road.travel().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
