//! From a listener on the host to a socket in the guest.

use std::convert::Infallible;

use firstlight_protocol::message::forward::Address;
use firstlight_socket::{Listener, Stream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{ACCEPT_PAUSE, Direction, Event, Forwarder, ListenError, REQUEST_DEADLINE, Route, SOCKET_MODE};
use crate::agent;
use crate::agent::forward::{Carrier, connect};

/// A route into the guest whose listener is there.
#[derive(Debug)]
pub struct Outward {
    listener: Listener,
    route: Route,
}

impl Outward {
    /// Listens at `from` for connections to `to`.
    ///
    /// # Errors
    /// [`ListenError`], with `EADDRINUSE` or `EACCES` above all.
    pub async fn open(from: &Address, to: &Address) -> Result<Outward, ListenError> {
        let bound = async {
            let listener = Listener::bind(from, SOCKET_MODE).await?;
            let route = Route { direction: Direction::Outward, from: listener.address()?, to: to.clone() };
            Ok(Outward { listener, route })
        };
        bound.await.map_err(|source| ListenError { address: from.clone(), source })
    }

    /// The route, with the port the kernel chose.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Carries connections until dropped.
    pub async fn run(self, forwarder: Forwarder) -> Infallible {
        forwarder.tell(Event::Opened(self.route.clone())).await;
        let mut carried = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = carried.join_next() => continue,
            };
            match accepted {
                Ok(stream) => {
                    let (forwarder, route) = (forwarder.clone(), self.route.clone());
                    // Not before there is a connection: a listener nobody uses must not hold a place.
                    let place = forwarder.place().await;
                    carried.spawn(async move {
                        carry(&forwarder, &route, stream).await;
                        drop(place);
                    });
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

async fn carry(forwarder: &Forwarder, route: &Route, stream: Stream) {
    match reach(forwarder, &route.to).await {
        Ok(carrier) => forwarder.conclude(route, carrier.carry(stream).await).await,
        Err(error) => forwarder.tell(Event::Failed(route.clone(), error.into())).await,
    }
}

async fn reach(forwarder: &Forwarder, target: &Address) -> Result<Carrier, agent::Error> {
    let connection = forwarder.dial().await?;
    connect(connection, target, Instant::now() + REQUEST_DEADLINE).await
}
