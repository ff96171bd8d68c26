//! Pooled connections to a real agent over a unix socket, its handshakes counted at the agent.
//!
//! The pool's own rules are tested beside it, under virtual time and explored schedules. Here is what only shows with sockets: how
//! many connections an agent sees, and that each of them ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use firstlight_guest_agent::agent::Agent as GuestAgent;
use firstlight_guest_agent::listen::{Address as Listen, Listener};
use firstlight_guest_agent::session;
use firstlight_host_ctl::agent::connection_pool::{Generation, Key, Limit, MAX_TARGETS, Settings};
use firstlight_host_ctl::agent::transport::Address;
use firstlight_host_ctl::agent::{Agent, Agents, Ask as _, Error, Ping, PoolError, StatusRequest, Unary};
use firstlight_protocol::agent_config::AgentConfig;
use firstlight_protocol::boot_spec::Transport;
use firstlight_protocol::codec::CodecError;
use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::message::Kind;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const TOKEN: Secret = Secret([0x51; 32]);
const TTL: Duration = Duration::from_secs(50);

/// Only a failing test waits this long.
const DEADLINE: Duration = Duration::from_secs(30);

/// What an agent has seen of its host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    handshakes: usize,
    ended: usize,
}

/// An agent that counts.
struct Counting {
    _directory: tempfile::TempDir,
    socket: PathBuf,
    seen: watch::Receiver<Seen>,
    /// Tells the agent to drop every connection it has.
    hang_up: Arc<tokio::sync::Notify>,
}

impl Counting {
    async fn start() -> Counting {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent");
        let address = Listen::Unix(socket.clone());
        let config = AgentConfig {
            boot_id: BootId([1; 4]),
            token: TOKEN,
            port: 1024,
            transport: Transport::Vsock,
            program_output: None,
        };
        let agent = GuestAgent::new(config, &address, directory.path().join("events")).unwrap();
        let (books, seen) = watch::channel(Seen::default());
        let hang_up = Arc::new(tokio::sync::Notify::new());
        tokio::spawn(serve(
            Arc::new(agent),
            Listener::bind(&address).await.unwrap(),
            books,
            Arc::clone(&hang_up),
        ));
        Counting { _directory: directory, socket, seen, hang_up }
    }

    /// This agent as that of boot `generation` of the VM `vm`.
    fn of(&self, agents: &Agents, vm: &str, generation: u64) -> Agent {
        agents.at(Key::new(vm, Generation(generation)), Address::Unix(self.socket.clone()), TOKEN)
    }

    fn seen(&self) -> Seen {
        *self.seen.borrow()
    }

    /// Waits until the agent has seen this much.
    #[track_caller]
    fn until(&self, handshakes: usize, ended: usize) -> impl Future<Output = ()> {
        let mut seen = self.seen.clone();
        async move {
            let wanted = Seen { handshakes, ended };
            let waited = timeout(DEADLINE, seen.wait_for(|seen| *seen == wanted)).await.is_ok();
            assert!(waited, "wanted {wanted:?}, seen {:?}", *seen.borrow());
        }
    }
}

async fn serve(
    agent: Arc<GuestAgent>,
    mut listener: Listener,
    books: watch::Sender<Seen>,
    hang_up: Arc<tokio::sync::Notify>,
) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            socket = listener.accept() => {
                sessions.spawn(session::run(Arc::clone(&agent), socket.unwrap(), None));
                books.send_modify(|seen| seen.handshakes += 1);
            }
            Some(_) = sessions.join_next() => books.send_modify(|seen| seen.ended += 1),
            () = hang_up.notified() => sessions.abort_all(),
        }
    }
}

fn agents(ttl: Duration) -> Agents {
    Agents::new(Settings { ttl })
}

fn soon() -> Instant {
    Instant::now() + DEADLINE
}

async fn ping(agent: &Agent) {
    assert_eq!(agent.request(&Ping(b"here".to_vec()), soon()).await.unwrap(), b"here");
}

/// Takes connections and says nothing, as a guest does that hangs.
fn silent(directory: &tempfile::TempDir) -> Address {
    let path = directory.path().join("silent");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            taken.push(stream);
        }
    });
    Address::Unix(path)
}

#[tokio::test]
async fn twenty_first_callers_at_once_make_one_handshake() {
    let counting = Counting::start().await;
    let agents = agents(TTL);
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let agent = counting.of(&agents, "vm", 1);
        callers.spawn(async move { ping(&agent).await });
    }
    callers.join_all().await;
    assert_eq!(counting.seen(), Seen { handshakes: 1, ended: 0 });
}

#[tokio::test]
async fn a_ttl_of_zero_is_one_handshake_and_one_close_per_use() {
    let counting = Counting::start().await;
    let agents = agents(Duration::ZERO);
    let agent = counting.of(&agents, "vm", 1);
    for uses in 1..=5 {
        ping(&agent).await;
        counting.until(uses, uses).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_ttl_passes_and_the_next_use_dials() {
    let counting = Counting::start().await;
    let agents = agents(Duration::from_millis(50));
    let agent = counting.of(&agents, "vm", 1);
    ping(&agent).await;
    counting.until(1, 1).await;
    ping(&agent).await;
    counting.until(2, 2).await;
}

#[tokio::test]
async fn of_one_target_too_many_the_least_recently_used_is_closed() {
    let counting = Counting::start().await;
    let agents = agents(TTL);
    let all: Vec<Agent> = (0..=MAX_TARGETS).map(|vm| counting.of(&agents, &vm.to_string(), 1)).collect();
    for agent in &all[..MAX_TARGETS] {
        ping(agent).await;
    }
    ping(&all[0]).await;
    ping(&all[MAX_TARGETS]).await;
    counting.until(MAX_TARGETS + 1, 1).await;
    // The first was used since; it was the second that had to go.
    ping(&all[0]).await;
    assert_eq!(counting.seen().handshakes, MAX_TARGETS + 1);
    ping(&all[1]).await;
    assert_eq!(counting.seen().handshakes, MAX_TARGETS + 2);
}

#[tokio::test]
async fn a_connection_that_ended_while_idle_costs_a_handshake_and_no_error() {
    let counting = Counting::start().await;
    let agents = agents(TTL);
    let agent = counting.of(&agents, "vm", 1);
    ping(&agent).await;
    counting.hang_up.notify_one();
    counting.until(1, 1).await;
    // A later conversation on another socket: by its end the end of the first one has been heard of.
    ping(&counting.of(&agents, "other", 1)).await;
    ping(&agent).await;
    assert_eq!(counting.seen().handshakes, 3);
}

#[tokio::test]
async fn a_request_that_is_given_up_poisons_its_connection() {
    let counting = Counting::start().await;
    let agents = agents(TTL);
    let agent = counting.of(&agents, "vm", 1);
    ping(&agent).await;
    // Polled once and dropped: the request is on its way.
    tokio::select! {
        biased;
        answer = agent.request(&StatusRequest, soon()) => panic!("{answer:?}"),
        () = std::future::ready(()) => {}
    }
    ping(&agent).await;
    counting.until(2, 1).await;
}

/// A status that its caller cannot stand.
struct Panicking;

impl Unary for Panicking {
    const REQUEST: Kind = Kind::StatusRequest;
    const ANSWER: Kind = Kind::Status;
    type Answer = ();

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        Ok(Vec::new())
    }

    fn decode(_: Vec<u8>) -> Result<(), CodecError> {
        panic!("the caller cannot read this")
    }
}

#[tokio::test]
async fn a_panic_inside_a_use_poisons_the_connection_and_strands_nobody() {
    let counting = Counting::start().await;
    let agents = agents(TTL);
    let agent = counting.of(&agents, "vm", 1);
    ping(&agent).await;
    let panicking = agent.clone();
    let panicked = tokio::spawn(async move { panicking.request(&Panicking, soon()).await });
    assert!(panicked.await.unwrap_err().is_panic());
    ping(&agent).await;
    counting.until(2, 1).await;
}

#[tokio::test]
async fn an_error_of_the_guest_poisons_nothing() {
    let counting = Counting::start().await;
    let agents = agents(TTL);
    let agent = counting.of(&agents, "vm", 1);
    let place = firstlight_protocol::message::file::Place::new("/no/such/file");
    let request = firstlight_protocol::message::file::FileStatRequest { place, follow: false };
    assert!(matches!(agent.request(&request, soon()).await, Err(Error::Agent(_))));
    ping(&agent).await;
    assert_eq!(counting.seen(), Seen { handshakes: 1, ended: 0 });
}

#[tokio::test]
async fn a_later_boot_closes_the_connections_to_the_earlier_one() {
    let counting = Counting::start().await;
    let agents = agents(TTL);
    let first = counting.of(&agents, "vm", 1);
    ping(&first).await;
    let second = counting.of(&agents, "vm", 2);
    counting.until(1, 1).await;
    ping(&second).await;
    let refused = first.request(&StatusRequest, soon()).await.unwrap_err();
    assert!(matches!(refused, Error::Pool(PoolError::Superseded { newer: Generation(2) })), "{refused}");
}

#[tokio::test]
async fn a_first_caller_that_leaves_takes_the_dial_from_nobody() {
    let counting = Counting::start().await;
    let agents = agents(TTL);
    let agent = counting.of(&agents, "vm", 1);
    let (first, second) = (agent.clone(), agent.clone());
    let first = tokio::spawn(async move { ping(&first).await });
    let second = tokio::spawn(async move { ping(&second).await });
    tokio::task::yield_now().await;
    first.abort();
    second.await.unwrap();
    // One handshake, or two when the first had begun to use what both waited for.
    assert!(counting.seen().handshakes <= 2);
}

#[tokio::test]
async fn when_all_targets_are_in_use_the_next_one_is_told_so_at_its_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let address = silent(&directory);
    let agents = agents(TTL);
    let mut callers = JoinSet::new();
    let of = |vm: usize| agents.at(Key::new(vm.to_string(), Generation(1)), address.clone(), TOKEN);
    for vm in 0..MAX_TARGETS {
        let agent = of(vm);
        callers.spawn(async move { agent.request(&StatusRequest, soon()).await.map(|_| ()) });
    }
    tokio::task::yield_now().await;
    let refused = of(MAX_TARGETS).request(&StatusRequest, Instant::now() + Duration::from_millis(20)).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, Error::Pool(PoolError::Busy(Limit::Targets(MAX_TARGETS)))), "{refused}");
}

#[tokio::test]
async fn closing_leaves_neither_a_connection_nor_a_task() {
    let counting = Counting::start().await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let agents = agents(TTL);
    let before = metrics.num_alive_tasks() - 1;
    let all: Vec<Agent> = (0..5).map(|vm| counting.of(&agents, &vm.to_string(), 1)).collect();
    for agent in &all {
        ping(agent).await;
    }
    assert_eq!(agents.close(soon()).await.cut, 0);
    counting.until(5, 5).await;
    assert_eq!(metrics.num_alive_tasks(), before);
    let refused = all[0].request(&StatusRequest, soon()).await.unwrap_err();
    assert!(matches!(refused, Error::Pool(PoolError::Closed)), "{refused}");
}
