//! `guest-agent`: started by init, serves the host until SIGTERM.
//!
//! The C library calls [`entry`] and not the standard library's start, which looks for the main thread's stack in a file of
//! `/proc`: 107 KB for the C library's `sscanf`, in each VM's memory.

#![cfg_attr(not(test), no_main)]

mod entry;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use firstlight_guest_agent::agent::{Agent, MAX_BLOCKING_THREADS};
use firstlight_guest_agent::listen::{Address, Listener};
use firstlight_guest_agent::options::Options;
use firstlight_guest_agent::ready::Announcement;
use firstlight_guest_agent::{config, journal, server, sys, teardown};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::Interest;

/// How the agent ended, by its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Success = 0,
    Failure = 1,
}

fn main() -> Exit {
    match run() {
        Ok(()) => Exit::Success,
        Err(error) => {
            journal::say(&error);
            Exit::Failure
        }
    }
}

/// Half of the smallest buffer that bulk bytes go through; everything else the agent allocates is far smaller.
const BUFFER_BYTES: i32 = 16 * 1024;

/// Of the threads that wait for the disk. Nothing recurses on them; the largest thing on their stacks is a path.
const STACK_BYTES: usize = 256 * 1024;

/// How long such a thread waits for more to do. The next one is soon made, and an idle agent should be small.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(1);

fn run() -> Result<(), Box<dyn Error>> {
    sys::return_buffers_from(BUFFER_BYTES);
    let options = Options::parse(std::env::args_os().skip(1))?;
    let config = config::load(options.config.as_deref())?;
    let announcement = Announcement::from_environment()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_stack_size(STACK_BYTES)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .build()?;
    let ended = runtime.block_on(async {
        let address = options.unix_socket.map_or_else(|| Address::of(&config), Address::Unix);
        let agent = Arc::new(Agent::new(config, &address, options.events)?);
        let termination = Termination::catch()?;
        let listener = Listener::bind(&address).await?;
        announcement.say()?;
        agent.copies.tidy_up();
        if let Some(output) = &agent.output {
            output.start();
        }
        let end = async {
            termination.wait().await?;
            tokio::join!(teardown::run(agent.output.as_deref()), agent.copies.end());
            Ok(())
        };
        tokio::select! {
            never = server::serve(Arc::clone(&agent), listener) => match never {},
            ended = end => ended,
        }
    });
    // A thread may still wait for a disk; the VM does not.
    runtime.shutdown_background();
    ended
}

/// SIGTERM as something to wait for.
struct Termination(sys::Watched);

impl Termination {
    /// Blocks the signal, so that it waits in the descriptor. Commands start with nothing blocked.
    fn catch() -> io::Result<Termination> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Termination(sys::watch(signals.into(), Interest::READABLE)?))
    }

    async fn wait(&self) -> io::Result<()> {
        self.0.readable().await?.retain_ready();
        Ok(())
    }
}
