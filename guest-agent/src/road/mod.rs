//! The road to the host over a virtio-serial port: many connections over the one port, through `multiplex`.

mod port;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use firstlight_multiplex::Guest;
use firstlight_protocol::port::serial;
use nix::errno::Errno;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

pub use port::Port;

use crate::journal;

/// How long the port may take to appear. Its driver is loaded before the agent starts, and learns of its ports
/// in milliseconds.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// The first pause before the file is looked for again, and the longest; it doubles between the two.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Connections that come in over a port, each as a socket.
#[derive(Debug)]
pub struct Road(mpsc::Receiver<std::os::unix::net::UnixStream>);

impl Road {
    /// Opens the port. Whoever dials from then on is connected.
    ///
    /// # Errors
    /// As `open(2)`: `ENOENT` when the machine has no such port, `EBUSY` when another process has it.
    pub async fn open(number: u32) -> io::Result<Road> {
        Road::over(open(number).await?).await
    }

    async fn over(port: Port) -> io::Result<Road> {
        let guest = Guest::open(port).await?;
        // More wait where they cost no descriptors.
        let (sender, connections) = mpsc::channel(1);
        tokio::spawn(async move {
            match guest.serve(sender).await {
                Ok(never) => match never {},
                // Nobody reaches this agent any more; init's own road may still.
                Err(error) => journal::say(&format!("the road over the serial port: {error}")),
            }
        });
        Ok(Road(connections))
    }

    /// The next connection.
    ///
    /// # Errors
    /// `ECONNABORTED` when the port is gone, and then never anything else.
    pub async fn accept(&mut self) -> io::Result<OwnedFd> {
        let socket = self.0.recv().await;
        socket.map(OwnedFd::from).ok_or_else(|| Errno::ECONNABORTED.into())
    }
}

async fn open(number: u32) -> io::Result<Port> {
    let deadline = Instant::now() + OPEN_DEADLINE;
    let mut pause = FIRST_PAUSE;
    loop {
        match find(number).and_then(|device| Port::open(&device)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && Instant::now() < deadline => {
                sleep(pause).await;
                pause = LONGEST_PAUSE.min(pause * 2);
            }
            opened => return opened,
        }
    }
}

fn find(number: u32) -> io::Result<PathBuf> {
    for port in std::fs::read_dir(serial::PORTS)? {
        let name = port?.file_name();
        if name.to_str().is_some_and(|name| serial::is_port(name, number)) {
            return Ok(PathBuf::from("/dev").join(name));
        }
    }
    Err(Errno::ENOENT.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[tokio::test]
    async fn an_open_road_has_been_announced() {
        let (port, mut host) = port::tests::port();
        let _road = Road::over(port).await.unwrap();
        host.set_nonblocking(true).unwrap();
        assert!(
            host.read(&mut [0; 4096]).unwrap() > 0,
            "a host that dials now may speak to an agent that is gone"
        );
    }
}
