//! Routes to whatever listens in the guest, for as long as it does.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use firstlight_protocol::message::forward::Address;
use tokio::task::{AbortHandle, JoinSet};

use super::plan::{self, Carried};
use super::{Event, Forwarder, ListenError, Outward, Route, is_away};
use crate::agent;
use crate::agent::forward::{GuestPorts, ports};

/// Follows the guest's TCP ports.
pub struct Follow {
    forwarder: Forwarder,
    ports: GuestPorts,
    except: BTreeSet<u16>,
    routes: BTreeMap<u16, Open>,
    tasks: JoinSet<Infallible>,
}

/// A port that is carried.
struct Open {
    route: Route,
    task: AbortHandle,
}

impl Follow {
    /// Begins to follow all ports but those in `except`.
    ///
    /// # Errors
    /// [`agent::Error`] when the agent cannot be asked.
    pub async fn open(forwarder: &Forwarder, except: BTreeSet<u16>) -> Result<Follow, agent::Error> {
        let ports = ports(forwarder.dial().await?).await?;
        let (routes, tasks) = (BTreeMap::new(), JoinSet::new());
        Ok(Follow { forwarder: forwarder.clone(), ports, except, routes, tasks })
    }

    /// Follows until dropped; goes on when the agent was started again.
    ///
    /// # Errors
    /// What keeps it from going on.
    pub async fn run(mut self) -> agent::Error {
        loop {
            let error = match self.ports.next().await {
                Ok(listening) => {
                    self.apply(&plan::wanted(&listening, &self.except)).await;
                    continue;
                }
                Err(error) => error,
            };
            if !is_away(&error) {
                return error;
            }
            let again = async { ports(self.forwarder.dial().await?).await };
            match again.await {
                Ok(ports) => self.ports = ports,
                Err(error) => return error,
            }
        }
    }

    async fn apply(&mut self, wanted: &Carried) {
        let carried = self.routes.iter().map(|(port, open)| (*port, open.route.to.clone())).collect();
        let change = plan::change(&carried, wanted);
        for port in change.close {
            if let Some(open) = self.routes.remove(&port) {
                open.task.abort();
                self.forwarder.tell(Event::Closed(open.route)).await;
            }
        }
        for (port, target) in change.open {
            match listen(port, &target).await {
                Ok(outward) => {
                    let route = outward.route().clone();
                    let task = self.tasks.spawn(outward.run(self.forwarder.clone()));
                    self.routes.insert(port, Open { route, task });
                }
                Err(error) => self.forwarder.tell(Event::Unopened(error)).await,
            }
        }
        while self.tasks.try_join_next().is_some() {}
    }
}

/// Listens on the port's own number, or on any when that is taken or takes rights we do not have.
async fn listen(port: u16, target: &Address) -> Result<Outward, ListenError> {
    match Outward::open(&Address::Loopback(port), target).await {
        Err(_) => Outward::open(&Address::Loopback(0), target).await,
        opened => opened,
    }
}
