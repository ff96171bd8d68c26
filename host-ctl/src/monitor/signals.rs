//! Signals that came before init's event stream, and who is to hear what became of them.
//!
//! A boot is Running when its console says so, which can be before the stream is connected. Whoever sends a signal then
//! should not have to try again, and must not hear a refusal of a signal that is delivered after all.

use firstlight_protocol::init_command::InitCommand;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use super::server::Client;
use super::wire::Message;

/// Most that wait. Further ones are refused.
const MAX_WAITING: usize = 64;

/// How long one waits: less than its client waits for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Those that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Signals {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    client: Client,
    number: u8,
    until: Instant,
}

impl Signals {
    /// Keeps a signal for the stream to come; `client` is answered when it is there, or when it has not come in time.
    pub(super) fn wait(&mut self, client: Client, number: u8, now: Instant) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(Waiting { client, number, until: now + PATIENCE });
        } else {
            refuse(&client);
        }
    }

    /// The stream is there. A client that has gone meanwhile has been told nothing, so nothing is done for it.
    pub(super) fn deliver(&mut self, commands: &mpsc::Sender<InitCommand>) {
        for Waiting { client, number, .. } in self.waiting.drain(..) {
            if client.has_left() {
                continue;
            }
            match commands.try_send(InitCommand::Signal { number }) {
                Ok(()) => client.say(&Message::Accepted),
                Err(_) => refuse(&client),
            }
        }
    }

    /// When [`Signals::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.first().map(|waiting| waiting.until)
    }

    /// Refuses those that have waited long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        for late in self.waiting.extract_if(.., |waiting| waiting.until <= now) {
            refuse(&late.client);
        }
    }
}

fn refuse(client: &Client) {
    client.say(&Message::Refused {
        reason: "init's event stream is not connected; try again in a moment".into(),
    });
}

#[cfg(test)]
mod tests {
    use super::super::server::double;
    use super::*;

    fn stream() -> (mpsc::Sender<InitCommand>, mpsc::Receiver<InitCommand>) {
        mpsc::channel(1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_is_delivered_once_and_answered_once() {
        let mut signals = Signals::default();
        let (client, mut told) = double::client();
        signals.wait(client, 10, Instant::now());
        assert!(told.next().is_none(), "answered before anybody knew");
        let (commands, mut init) = stream();
        signals.deliver(&commands);
        assert!(matches!(init.try_recv(), Ok(InitCommand::Signal { number: 10 })));
        assert!(matches!(told.next(), Some(Message::Accepted)));
        signals.deliver(&commands);
        signals.expire(Instant::now() + PATIENCE);
        assert!(init.try_recv().is_err() && told.next().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_that_was_refused_is_never_delivered() {
        let mut signals = Signals::default();
        let (early, mut told_early) = double::client();
        let (late, mut told_late) = double::client();
        signals.wait(early, 1, Instant::now());
        tokio::time::advance(PATIENCE / 2).await;
        signals.wait(late, 2, Instant::now());
        signals.expire(signals.deadline().unwrap());
        assert!(matches!(told_early.next(), Some(Message::Refused { .. })));
        let (commands, mut init) = stream();
        signals.deliver(&commands);
        assert!(matches!(init.try_recv(), Ok(InitCommand::Signal { number: 2 })));
        assert!(matches!(told_late.next(), Some(Message::Accepted)));
        assert_eq!(signals.deadline(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_done_for_a_client_that_has_left() {
        let mut signals = Signals::default();
        let (client, told) = double::client();
        signals.wait(client, 9, Instant::now());
        told.leave();
        let (commands, mut init) = stream();
        signals.deliver(&commands);
        assert!(init.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_init_cannot_take_is_refused() {
        let mut signals = Signals::default();
        let (commands, _init) = stream();
        let clients: Vec<_> = (0..=MAX_WAITING)
            .map(|_| {
                let (client, told) = double::client();
                signals.wait(client, 15, Instant::now());
                told
            })
            .collect();
        signals.deliver(&commands);
        let accepted = clients.into_iter().map(|mut told| told.next());
        let accepted = accepted.filter(|answer| matches!(answer, Some(Message::Accepted))).count();
        assert_eq!(accepted, 1, "the stream has room for one");
    }
}
