//! The agent's end, at init's word.
//!
//! Init sends SIGTERM when everything but the agent is on its way out. What the program wrote last is then in the
//! pipes, and the host should have it before the VM goes. Connections are served meanwhile.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::program_output::ProgramOutput;
use crate::program_output::flow::Flow;

/// How long the program's last writers may take to go.
const DRAIN: Duration = Duration::from_secs(5);

/// How long the host may take to write everything down.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);

/// How long to wait for a monitor when there is something to tell and none is connected: one may be on its way, started
/// after another died.
const APPEAR: Duration = Duration::from_secs(1);

/// Waits until the program's output is safe with the host, or there is no more hope of that.
pub async fn run(output: Option<&ProgramOutput>) {
    let Some(output) = output else { return };
    let mut flow = output.watch();
    let _ = timeout(DRAIN, flow.wait_for(Flow::has_ended)).await;
    let _ = timeout(ACKNOWLEDGE, settled(&mut flow)).await;
}

/// Waits for the last acknowledgement for as long as there is somebody to give it.
async fn settled(flow: &mut watch::Receiver<Flow>) {
    loop {
        let somebody = flow.wait_for(|flow| flow.has_subscriber() || flow.is_settled());
        if timeout(APPEAR, somebody).await.is_err() {
            return;
        }
        let settled = flow.wait_for(|flow| !flow.has_subscriber() || flow.is_settled()).await;
        if settled.is_ok_and(|flow| flow.is_settled()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use firstlight_protocol::message::output::{Position, Stream};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_longer_than_a_monitor_takes_to_appear() {
        let mut flow = Flow::new(Position::default());
        flow.moved(Stream::Stdout, 1);
        let (_output, mut flow) = watch::channel(flow);
        let begun = Instant::now();
        settled(&mut flow).await;
        assert_eq!(begun.elapsed(), APPEAR);
    }
}
