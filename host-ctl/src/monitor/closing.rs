//! How the tasks of a monitor are told to finish.

use tokio::sync::watch;

/// Tells all who wait; they are also told when it is dropped.
#[derive(Debug)]
pub(super) struct Close(watch::Sender<bool>);

/// Waits to be told.
#[derive(Debug, Clone)]
pub(super) struct Closing(watch::Receiver<bool>);

impl Close {
    pub(super) fn new() -> Close {
        Close(watch::channel(false).0)
    }

    /// Tells everyone, now and later.
    pub(super) fn tell(&self) {
        self.0.send_replace(true);
    }

    /// One more who waits.
    pub(super) fn closing(&self) -> Closing {
        Closing(self.0.subscribe())
    }
}

impl Closing {
    /// Returns when told, at once if that has been. Safe to drop and call again.
    pub(super) async fn told(&mut self) {
        // An error says that the teller is gone, which is told as well.
        let _ = self.0.wait_for(|told| *told).await.map(drop);
    }
}
