//! The host's half against a scripted agent.

use std::time::Duration;

use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::hello::Welcome;
use firstlight_socket::Listener;
use nix::errno::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::agent::connection::halves;

/// Only a failing test waits this long.
fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// The agent's side of a connection.
struct Agent {
    sender: Sender,
    receiver: Receiver,
}

impl Agent {
    async fn pair() -> (Connection, Agent) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (sender, receiver) = halves(Box::new(theirs));
        let mut agent = Agent { sender, receiver };
        let token = Secret([1; 32]);
        let welcome = async {
            let (header, _) = agent.receiver.recv().await.unwrap();
            let welcome = Welcome { version: 1, boot_id: BootId([1; 4]) };
            agent.sender.send(Kind::Welcome, header.id, &welcome).await.unwrap();
        };
        let (connection, ()) = tokio::join!(Connection::over(Box::new(ours), &token, deadline()), welcome);
        (connection.unwrap(), agent)
    }

    async fn expect(&mut self, kind: Kind) -> (u64, Vec<u8>) {
        let (header, payload) = self.receiver.recv().await.unwrap();
        assert_eq!(header.kind, kind);
        (header.id, payload)
    }

    async fn fail(&mut self, id: u64, errno: Errno) {
        let cause = Cause::Errno(errno as i32);
        let error = AgentError { operation: "connect".into(), path: None, cause };
        self.sender.send(Kind::Error, id, &error).await.unwrap();
    }
}

fn errno(error: &Error) -> Option<Errno> {
    let Error::Agent(AgentError { cause: Cause::Errno(errno), .. }) = error else { return None };
    Some(Errno::from_raw(*errno))
}

/// A connection that is being carried: the client's side, the agent's side, and how it ends.
async fn carried() -> (TcpStream, Agent, u64, tokio::task::JoinHandle<Result<(), CarryError>>) {
    let (connection, mut agent) = Agent::pair().await;
    let target = Address::Loopback(80);
    let answer = async {
        let (id, _) = agent.expect(Kind::ForwardRequest).await;
        agent.sender.send_bytes(Kind::ForwardConnected, id, &[]).await.unwrap();
        id
    };
    let (carrier, id) = tokio::join!(connect(connection, &target, deadline()), answer);
    let listener = Listener::bind(&Address::Loopback(0), 0).await.unwrap();
    let Address::Loopback(port) = listener.address().unwrap() else { panic!("no loopback") };
    let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let stream = listener.accept().await.unwrap();
    (client, agent, id, tokio::spawn(carrier.unwrap().carry(stream)))
}

#[tokio::test]
async fn each_side_s_end_goes_on_to_the_other_and_both_finish() {
    let (mut client, mut agent, id, end) = carried().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(agent.expect(Kind::ForwardBytes).await.1, b"question");
    agent.expect(Kind::ForwardEnd).await;
    agent.sender.send_bytes(Kind::ForwardBytes, id, b"answer").await.unwrap();
    agent.sender.send_bytes(Kind::ForwardEnd, id, &[]).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
    end.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_the_client_says_after_the_guest_s_end_still_arrives() {
    let (mut client, mut agent, id, end) = carried().await;
    agent.sender.send_bytes(Kind::ForwardEnd, id, &[]).await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    client.write_all(b"late").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(agent.expect(Kind::ForwardBytes).await.1, b"late");
    agent.expect(Kind::ForwardEnd).await;
    end.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_connect_keeps_its_errno() {
    let (connection, mut agent) = Agent::pair().await;
    let target = Address::Loopback(80);
    let answer = async {
        let (id, _) = agent.expect(Kind::ForwardRequest).await;
        agent.fail(id, Errno::ECONNREFUSED).await;
    };
    let (refused, ()) = tokio::join!(connect(connection, &target, deadline()), answer);
    assert_eq!(errno(&refused.err().unwrap()), Some(Errno::ECONNREFUSED));
}

#[tokio::test]
async fn a_reset_in_the_guest_resets_the_client_even_after_the_guest_s_end() {
    for ended in [false, true] {
        let (mut client, mut agent, id, end) = carried().await;
        if ended {
            agent.sender.send_bytes(Kind::ForwardEnd, id, &[]).await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
        agent.fail(id, Errno::ECONNRESET).await;
        let Err(CarryError::Agent(error)) = end.await.unwrap() else { panic!("no agent error") };
        assert_eq!(errno(&error), Some(Errno::ECONNRESET));
        if !ended {
            let reset = client.read(&mut [0]).await.unwrap_err();
            assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
        }
    }
}

#[tokio::test]
async fn a_client_that_resets_closes_the_agent_connection_without_an_end() {
    let (client, mut agent, _, end) = carried().await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert!(matches!(end.await.unwrap(), Err(CarryError::Socket(_))));
    assert!(matches!(agent.receiver.recv().await, Err(Error::Lost(_))));
}

#[tokio::test]
async fn an_agent_that_dies_resets_the_client() {
    let (mut client, agent, _, end) = carried().await;
    drop(agent);
    assert!(matches!(end.await.unwrap(), Err(CarryError::Agent(Error::Lost(_)))));
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
