//! From a listener in the guest to a socket on the host.

use std::io;

use firstlight_protocol::message::forward::Address;
use firstlight_socket::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{Direction, Event, Failure, Forwarder, REQUEST_DEADLINE, Route, is_away};
use crate::agent;
use crate::agent::forward::{GuestListener, listen, take};

/// Connections to be declined, on their way to the one who can. More wait in their own tasks.
const DECLINED: usize = 8;

/// A route out of the guest whose listener is there.
pub struct Inward {
    listener: GuestListener,
    forwarder: Forwarder,
    route: Route,
}

impl Inward {
    /// Listens at `from` in the guest for connections to `to`.
    ///
    /// # Errors
    /// [`agent::Error::Agent`] with the errno of the guest's `bind(2)`.
    pub async fn open(forwarder: &Forwarder, from: &Address, to: &Address) -> Result<Inward, agent::Error> {
        let connection = forwarder.dial().await?;
        let listener = listen(connection, from, Instant::now() + REQUEST_DEADLINE).await?;
        let route = Route { direction: Direction::Inward, from: listener.address().clone(), to: to.clone() };
        Ok(Inward { listener, forwarder: forwarder.clone(), route })
    }

    /// Carries connections until dropped; listens again when the agent was started again.
    ///
    /// # Errors
    /// What keeps it from listening again.
    pub async fn run(mut self) -> agent::Error {
        self.forwarder.tell(Event::Opened(self.route.clone())).await;
        loop {
            let error = self.serve().await;
            if !is_away(&error) {
                return error;
            }
            match Inward::open(&self.forwarder, &self.route.from, &self.route.to).await {
                Ok(again) => self = again,
                Err(error) => return error,
            }
        }
    }

    /// Carries connections until the agent goes away.
    async fn serve(&mut self) -> agent::Error {
        let (declined, mut decline) = mpsc::channel(DECLINED);
        let mut carried = JoinSet::new();
        loop {
            let done = tokio::select! {
                ticket = self.listener.next() => match ticket {
                    Ok(ticket) => {
                        let (forwarder, route) = (self.forwarder.clone(), self.route.clone());
                        let place = forwarder.place().await;
                        let declined = declined.clone();
                        carried.spawn(async move {
                            if carry(&forwarder, &route, ticket).await == Taken::No {
                                // It fails only when the listener is gone, which declines everything.
                                let _ = declined.send(ticket).await;
                            }
                            drop(place);
                        });
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Some(ticket) = decline.recv() => self.listener.decline(ticket).await,
                Some(_) = carried.join_next() => Ok(()),
            };
            if let Err(error) = done {
                return error;
            }
        }
    }
}

/// Whether the guest's connection found somebody.
#[derive(PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}

async fn carry(forwarder: &Forwarder, route: &Route, ticket: u64) -> Taken {
    let address = &route.to;
    let stream = match timeout(REQUEST_DEADLINE, Stream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => {
            return fail(forwarder, route, Failure::Connect { address: address.clone(), source }).await;
        }
        Err(_) => {
            let source = io::ErrorKind::TimedOut.into();
            return fail(forwarder, route, Failure::Connect { address: address.clone(), source }).await;
        }
    };
    let taken = async {
        let connection = forwarder.dial().await?;
        take(connection, ticket, Instant::now() + REQUEST_DEADLINE).await
    };
    match taken.await {
        Ok(carrier) => {
            forwarder.conclude(route, carrier.carry(stream).await).await;
            Taken::Yes
        }
        Err(error) => fail(forwarder, route, error.into()).await,
    }
}

async fn fail(forwarder: &Forwarder, route: &Route, failure: Failure) -> Taken {
    forwarder.tell(Event::Failed(route.clone(), failure)).await;
    Taken::No
}
