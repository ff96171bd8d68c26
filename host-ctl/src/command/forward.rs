//! `forward [-R ROUTE] [--auto] NAME [ROUTE...]`

use std::collections::BTreeSet;

use clap::Args;
use firstlight_host_ctl::agent;
use firstlight_host_ctl::forward::{self, Direction, Event, Forwarder, Inward, ListenError, Outward};
use firstlight_host_ctl::monitor::client;
use firstlight_host_ctl::operation::Operation;
use firstlight_host_ctl::vm::Store;
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::forward::Address;
use nix::errno::Errno;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::explain::{agent_failure, require_for};
use crate::cli::resolved::Context;
use crate::cli::value::route::{self, Route};
use crate::follow::{Follow, Step};
use crate::interrupt::Interrupts;
use crate::output::text::printable;
use crate::output::{self, Code, Failure, Format};

/// Events on their way to the one that prints them. More than one route waits for it, and none needs to be ahead.
const QUEUE: usize = 16;

/// Carry connections between host and guest, until interrupted
///
/// A ROUTE says where to listen, then where to connect to. Either is a PORT of the loopback, ADDRESS:PORT, or the path of a
/// unix socket. One PORT alone stands for both. Prints a line for each route once it listens.
#[derive(Debug, Args)]
pub(crate) struct Forward {
    /// A name, or the unique beginning of an id
    name: String,

    /// Listen on the host, connect in the guest: 8080:80, 0.0.0.0:8080:80, unix:/host.sock:/guest.sock
    #[arg(value_name = "ROUTE", value_parser = route::parse_outward, required_unless_present_any = ["reverse", "auto"])]
    routes: Vec<Route>,

    /// Listen in the guest, connect on the host: 9000:9000, unix:/guest.sock:/host.sock; may be repeated
    #[arg(short = 'R', long, value_name = "ROUTE", value_parser = route::parse_inward)]
    reverse: Vec<Route>,

    /// Carry every TCP port that something in the guest listens on, for as long as it does
    #[arg(long)]
    auto: bool,
}

impl Forward {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let vm = Store::open(&context.state_dir)?.resolve(&self.name)?;
        client::ensure(&vm).await?;
        require_for("forward", Operation::Exec, &vm.view()?)?;
        let name = vm.spec().name.clone();
        let Some((address, token)) = vm.agent()? else {
            let failure = Failure::new(Code::Unreachable, format!("{name} has no way to its agent"));
            return Err(failure.of_vm(name));
        };
        let mut interrupts = Interrupts::listen()?;
        let mut vm = Follow::open(&vm).await?;
        let (sender, mut events) = mpsc::channel(QUEUE);
        let mut routes = self.open(&Forwarder::new(address, token, sender), &name).await?;
        let printer = Printer { vm: &name, format: context.format };
        let ended = loop {
            tokio::select! {
                Some(event) = events.recv() => printer.print(&event)?,
                Some(ended) = routes.join_next() => break Err(of_route(ended, &name)),
                _ = interrupts.next() => break Ok(()),
                step = vm.next() => if step? == Step::Ended {
                    let failure = Failure::new(Code::Unreachable, format!("{name} has ended, and its routes with it"));
                    break Err(failure.of_vm(&name).hint(format!("see how it ended: host-ctl inspect {name}")));
                },
            }
        };
        // Sockets' files go with their listeners, which this waits for.
        routes.shutdown().await;
        ended
    }

    /// Opens every route, or none.
    async fn open(&self, forwarder: &Forwarder, name: &str) -> Result<JoinSet<agent::Error>, Failure> {
        let mut routes = JoinSet::new();
        for Route { from, to } in &self.routes {
            let outward = Outward::open(from, to).await.map_err(|error| listen_failure(&error, name))?;
            let forwarder = forwarder.clone();
            routes.spawn(async move { match outward.run(forwarder).await {} });
        }
        for Route { from, to } in &self.reverse {
            let inward = Inward::open(forwarder, from, to).await;
            routes.spawn(inward.map_err(|error| agent_failure(&error, name))?.run());
        }
        if self.auto {
            let follow = forward::Follow::open(forwarder, self.asked_for()).await;
            routes.spawn(follow.map_err(|error| agent_failure(&error, name))?.run());
        }
        Ok(routes)
    }

    /// Ports of the guest that have a route of their own.
    fn asked_for(&self) -> BTreeSet<u16> {
        let port = |route: &Route| match &route.to {
            Address::Loopback(port) => Some(*port),
            Address::Tcp(address) => Some(address.port()),
            Address::Unix(_) => None,
        };
        self.routes.iter().filter_map(port).collect()
    }
}

/// A route ends only with an error.
fn of_route(ended: Result<agent::Error, tokio::task::JoinError>, vm: &str) -> Failure {
    match ended {
        Ok(error) => agent_failure(&error, vm),
        Err(error) => Failure::failed(format!("a route ended: {error}")).of_vm(vm),
    }
}

fn listen_failure(error: &ListenError, vm: &str) -> Failure {
    let failure = Failure::failed(error.to_string()).of_vm(vm);
    match error.source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => {
            failure.hint("choose another port or path to listen on; port 0 is any that is free")
        }
        Some(Errno::EACCES) => failure.hint("ports below 1024 belong to root; choose another"),
        Some(_) | None => failure,
    }
}

struct Printer<'a> {
    vm: &'a str,
    format: Format,
}

/// One line of `forward --json`.
#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    vm: &'a str,
    event: &'static str,
    direction: &'static str,
    from: String,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Reason>,
}

/// Why a connection was not carried.
#[derive(Serialize)]
struct Reason {
    message: String,
    /// The system's name for it, such as `ECONNREFUSED`, whichever side it came from.
    errno: Option<String>,
}

impl Printer<'_> {
    /// Data is what is carried; what is not is for people, on stderr.
    fn print(&self, event: &Event) -> Result<(), Failure> {
        let (name, route, failure) = match event {
            Event::Opened(route) => ("opened", route, None),
            Event::Closed(route) => ("closed", route, None),
            Event::Failed(route, failure) => ("failed", route, Some(failure)),
            Event::Unopened(error) => {
                output::note(format_args!("a port of {} is not carried: {error}", self.vm));
                return Ok(());
            }
        };
        if self.format == Format::Json {
            return output::json_line(&self.json(name, route, failure));
        }
        let shown = printable(&self.text(route));
        if name == "opened" {
            return output::line(shown);
        }
        let why = failure.map_or_else(|| name.to_owned(), |failure| printable(&failure.to_string()));
        output::note(format_args!("{shown}: {why}"));
        Ok(())
    }

    fn text(&self, route: &forward::Route) -> String {
        let forward::Route { direction, from, to } = route;
        match direction {
            Direction::Outward => format!("{from} -> {}:{to}", self.vm),
            Direction::Inward => format!("{}:{from} -> {to}", self.vm),
        }
    }

    fn json(
        &self,
        event: &'static str,
        route: &forward::Route,
        failure: Option<&forward::Failure>,
    ) -> Line<'_> {
        let direction = match route.direction {
            Direction::Outward => "outward",
            Direction::Inward => "inward",
        };
        let error = failure.map(|failure| Reason {
            message: failure.to_string(),
            errno: errno(failure).map(|errno| format!("{:?}", Errno::from_raw(errno))),
        });
        let (from, to) = (route.from.to_string(), route.to.to_string());
        Line { version: 1, vm: self.vm, event, direction, from, to, error }
    }
}

/// The errno behind a failure, of the guest or of the host.
fn errno(failure: &forward::Failure) -> Option<i32> {
    match failure {
        forward::Failure::Agent(agent::Error::Agent(AgentError { cause: Cause::Errno(errno), .. })) => {
            Some(*errno)
        }
        forward::Failure::Agent(_) => None,
        forward::Failure::Connect { source, .. } => source.raw_os_error(),
    }
}
