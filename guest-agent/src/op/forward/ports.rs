//! Which TCP ports somebody listens on in the guest, told whenever they change.
//!
//! The kernel announces sockets that are destroyed (`SKNLGRP_INET_TCP_DESTROY`, `sock_diag(7)`) and none that begin to
//! listen, so the agent looks: here, where a look costs two small reads, and only while a host wants to know.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::forward::{MAX_PORTS, Ports};
use tokio::time::{Instant, sleep_until};

use super::waiting::Waiting;
use super::{proc_net, refuse};
use crate::agent::Agent;
use crate::failure;
use crate::session::SessionError;
use crate::wire::Connection;

/// Between two looks: short enough that nobody who starts a server and turns to the browser notices.
const INTERVAL: Duration = Duration::from_millis(250);

/// Tells the ports until the host closes the connection.
///
/// # Errors
/// [`SessionError`] when the host broke the protocol.
pub async fn ports(agent: &Agent, connection: &mut Connection, id: u64) -> Result<(), SessionError> {
    let Connection { reader, writer, .. } = connection;
    let mut told = None;
    loop {
        let next = Instant::now() + INTERVAL;
        match look(&agent.waiting) {
            Ok(ports) if told.as_ref() == Some(&ports) => {}
            Ok(ports) => {
                writer.send(Kind::Ports, id, &codec::encode(&ports)?).await?;
                told = Some(ports);
            }
            Err(error) => {
                let error = failure::system("read", Some(Path::new("/proc/net/tcp")), &error);
                return refuse(writer, id, &error).await;
            }
        }
        tokio::select! {
            frame = reader.next() => match frame? {
                None => return Ok(()),
                Some(frame) => {
                    let expected = "the connection belongs to the list of ports, which takes nothing";
                    return Err(SessionError::Unexpected { kind: frame.header.kind, expected });
                }
            },
            () = sleep_until(next) => {}
        }
    }
}

fn look(waiting: &Waiting) -> std::io::Result<Ports> {
    let listening = proc_net::listening()?;
    let others = listening.iter().filter(|listening| !waiting.is_own(listening.inode));
    let mut listening: Vec<SocketAddr> = others.map(|listening| listening.address).collect();
    listening.sort_unstable_by_key(|address| (address.port(), address.ip()));
    // Several processes may share one with SO_REUSEPORT.
    listening.dedup();
    listening.truncate(MAX_PORTS);
    Ok(Ports { listening })
}
