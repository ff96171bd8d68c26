//! An agent and a peer that says anything, over a socket pair: before its hello, or after one that is good.
//!
//! It does what it is told, and runs as whoever runs this. So it runs in a jail that tools/fuzz.sh makes: a root of
//! its own, with nothing in it, and no network.

#![no_main]

use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

use firstlight_guest_agent::agent::Agent;
use firstlight_guest_agent::listen::Address;
use firstlight_guest_agent::session;
use firstlight_guest_agent::wire::Socket;
use firstlight_protocol::agent_config::AgentConfig;
use firstlight_protocol::boot_spec::Transport;
use firstlight_protocol::codec;
use firstlight_protocol::frame::Header;
use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::hello::Hello;
use firstlight_protocol::version::SUPPORTED;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;
use tokio::time::{Duration, timeout};

const TOKEN: Secret = Secret([9; 32]);

/// A peer that says no more is let go at once, and an agent that has not ended by then never will.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    runtime: Runtime,
    agent: Arc<Agent>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        assert!(!std::path::Path::new("/etc").exists(), "this runs in a jail alone: see tools/fuzz.sh");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let config = AgentConfig {
            boot_id: BootId([1; 4]),
            token: TOKEN,
            port: 1,
            transport: Transport::Vsock,
            program_output: None,
        };
        let agent = {
            let _inside = runtime.enter();
            Agent::new(config, &Address::Unix("/tmp/agent".into()), "/tmp/events".into()).expect("an agent")
        };
        World { runtime, agent: Arc::new(agent) }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let World { runtime, agent } = world();
    let Some((mode, rest)) = bytes.split_first() else { return };
    let said = if mode & 1 == 0 { rest.to_vec() } else { [hello(), framed(rest)].concat() };
    runtime.block_on(async {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).expect("a socket");
        }
        let session = tokio::spawn(session::run(Arc::clone(agent), Socket::new(ours.into()), None));
        let (mut hears, mut says) = tokio::net::UnixStream::from_std(theirs).expect("it").into_split();
        let say = async move {
            let _ = says.write_all(&said).await;
            drop(says);
        };
        let hear = async move {
            let mut answers = vec![0; 64 * 1024];
            while hears.read(&mut answers).await.is_ok_and(|count| count > 0) {}
        };
        let all = async { tokio::join!(say, hear, session) };
        let ended = timeout(PATIENCE, all).await.expect("a session whose peer has left ends");
        ended.2.expect("a session never panics");
    });
});

fn hello() -> Vec<u8> {
    frame(Kind::Hello, 1, &codec::encode(&Hello { token: TOKEN, versions: SUPPORTED }).expect("a hello"))
}

/// Takes pieces for frames: a kind, an id and a length of a byte each, and a payload. Whatever is left is bytes.
fn framed(mut bytes: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    while let Some(([kind, id, length], rest)) = bytes.split_first_chunk::<3>() {
        let (payload, after) = rest.split_at(usize::from(*length).min(rest.len()));
        frames.extend(frame(Kind::ALL[usize::from(*kind) % Kind::ALL.len()], u64::from(*id), payload));
        bytes = after;
    }
    [frames.as_slice(), bytes].concat()
}

fn frame(kind: Kind, id: u64, payload: &[u8]) -> Vec<u8> {
    let header = Header::new(kind, id, payload.len()).expect("a short payload").encode();
    [&header[..], payload].concat()
}
