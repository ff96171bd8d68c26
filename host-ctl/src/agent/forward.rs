//! Carried connections, guest listeners and guest ports: the host's half of `forward`.

use std::io;
use std::net::SocketAddr;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::forward::{
    Address, ForwardDecline, ForwardIncoming, ForwardListenRequest, ForwardListening, ForwardRequest,
    ForwardTakeRequest, MAX_CHUNK, Ports,
};
use firstlight_socket::Stream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::connection::{Connection, Receiver, Sender, expect};
use super::error::{Awaited, Error};

/// A connection in the guest, which an agent connection carries. Dropping it resets it.
pub struct Carrier {
    sender: Sender,
    receiver: Receiver,
    id: u64,
}

/// Why a carried connection did not come to both its ends.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The socket of this side failed, most often because its peer went away.
    #[error("the connection on the host broke: {0}")]
    Socket(io::Error),
    /// The agent, or the guest's side.
    #[error(transparent)]
    Agent(#[from] Error),
}

/// Connects to `target` in the guest.
///
/// # Errors
/// [`Error::Agent`] with the errno of the guest's `connect(2)`, [`Error::Timeout`] at the deadline.
pub async fn connect(connection: Connection, target: &Address, deadline: Instant) -> Result<Carrier, Error> {
    let request = ForwardRequest { target: target.clone() };
    begin(connection, Kind::ForwardRequest, &request, deadline).await
}

/// Takes a connection that a [`GuestListener`] announced.
///
/// # Errors
/// [`Error::Agent`] when it waits no more, [`Error::Timeout`] at the deadline.
pub async fn take(connection: Connection, ticket: u64, deadline: Instant) -> Result<Carrier, Error> {
    begin(connection, Kind::ForwardTakeRequest, &ForwardTakeRequest { ticket }, deadline).await
}

async fn begin<T: bincode::Encode>(
    connection: Connection,
    kind: Kind,
    request: &T,
    deadline: Instant,
) -> Result<Carrier, Error> {
    let (sender, receiver, id, _) = ask(connection, kind, request, Kind::ForwardConnected, deadline).await?;
    Ok(Carrier { sender, receiver, id })
}

/// Sends a request that takes the connection for itself, and waits for its answer's payload.
async fn ask<T: bincode::Encode>(
    mut connection: Connection,
    kind: Kind,
    request: &T,
    answer: Kind,
    deadline: Instant,
) -> Result<(Sender, Receiver, u64, Vec<u8>), Error> {
    let id = connection.fresh_id();
    let exchange = async {
        connection.send(kind, id, request).await?;
        let (header, payload) = connection.recv().await?;
        expect(answer, header.kind, payload)
    };
    let payload = timeout_at(deadline, exchange).await.map_err(|_| Error::Timeout(Awaited::Answer))??;
    let (sender, receiver) = connection.split();
    Ok((sender, receiver, id, payload))
}

impl Carrier {
    /// Carries bytes between the guest's connection and `stream` until both sides of both have ended. Each side's end
    /// goes on to the other; a reset of one resets the other.
    ///
    /// # Errors
    /// [`CarryError`]. Both connections are then reset.
    pub async fn carry(self, stream: Stream) -> Result<(), CarryError> {
        let Carrier { mut sender, receiver, id } = self;
        let (ended, host_ended) = oneshot::channel();
        tokio::try_join!(
            async {
                to_guest(&stream, &mut sender, id).await?;
                // The other direction has failed if it does not listen any more.
                let _ = ended.send(());
                Ok(())
            },
            from_guest(receiver, &stream, host_ended),
        )?;
        stream.finish();
        Ok(())
    }
}

async fn to_guest(stream: &Stream, sender: &mut Sender, id: u64) -> Result<(), CarryError> {
    loop {
        stream.readable().await.map_err(CarryError::Socket)?;
        // A connection that is quiet holds no buffer.
        let mut buffer = vec![0; MAX_CHUNK];
        loop {
            match stream.try_read(&mut buffer) {
                Ok(0) => return Ok(sender.send_bytes(Kind::ForwardEnd, id, &[]).await?),
                Ok(count) => sender.send_bytes(Kind::ForwardBytes, id, &buffer[..count]).await?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(CarryError::Socket(error)),
            }
        }
    }
}

/// Passes on what the guest's side says, to its end. After that it listens until the host's side has ended too, because
/// the guest may still reset the connection.
async fn from_guest(
    mut receiver: Receiver,
    stream: &Stream,
    mut host_ended: oneshot::Receiver<()>,
) -> Result<(), CarryError> {
    loop {
        let (header, payload) = receiver.recv().await?;
        if header.kind == Kind::ForwardBytes {
            stream.write_all(&payload).await.map_err(CarryError::Socket)?;
        } else {
            expect(Kind::ForwardEnd, header.kind, payload)?;
            break;
        }
    }
    stream.end().map_err(CarryError::Socket)?;
    tokio::select! {
        biased;
        _ = &mut host_ended => Ok(()),
        frame = receiver.recv() => {
            let (header, payload) = frame?;
            let error = expect(Kind::ForwardEnd, header.kind, payload).err();
            Err(error.unwrap_or_else(|| Error::Protocol("a connection ended twice".into())).into())
        }
    }
}

/// A listener in the guest, for as long as it is not dropped.
pub struct GuestListener {
    sender: Sender,
    receiver: Receiver,
    id: u64,
    address: Address,
}

/// Listens in the guest.
///
/// # Errors
/// [`Error::Agent`] with the errno of the guest's `bind(2)`, [`Error::Timeout`] at the deadline.
pub async fn listen(
    connection: Connection,
    address: &Address,
    deadline: Instant,
) -> Result<GuestListener, Error> {
    let request = ForwardListenRequest { address: address.clone() };
    let (sender, receiver, id, payload) =
        ask(connection, Kind::ForwardListenRequest, &request, Kind::ForwardListening, deadline).await?;
    let ForwardListening { address } = codec::decode(&payload)?;
    Ok(GuestListener { sender, receiver, id, address })
}

impl GuestListener {
    /// Where it listens, with the port the guest's kernel chose.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The ticket of the next connection. Safe to drop and call again.
    ///
    /// # Errors
    /// [`Error::Lost`] when the agent or the VM ended.
    pub async fn next(&mut self) -> Result<u64, Error> {
        let (header, payload) = self.receiver.recv().await?;
        let payload = expect(Kind::ForwardIncoming, header.kind, payload)?;
        Ok(codec::decode::<ForwardIncoming>(&payload)?.ticket)
    }

    /// Resets a connection.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn decline(&mut self, ticket: u64) -> Result<(), Error> {
        self.sender.send(Kind::ForwardDecline, self.id, &ForwardDecline { ticket }).await
    }
}

/// What listens in the guest, told whenever it changes.
pub struct GuestPorts(Connection);

/// Begins to watch the guest's TCP ports.
///
/// # Errors
/// [`Error::Lost`].
pub async fn ports(mut connection: Connection) -> Result<GuestPorts, Error> {
    let id = connection.fresh_id();
    connection.send(Kind::PortsRequest, id, &()).await?;
    Ok(GuestPorts(connection))
}

impl GuestPorts {
    /// Waits for the next change; the first answer is how it is. Safe to drop and call again.
    ///
    /// # Errors
    /// [`Error::Lost`] when the agent or the VM ended.
    pub async fn next(&mut self) -> Result<Vec<SocketAddr>, Error> {
        let (header, payload) = self.0.recv().await?;
        Ok(codec::decode::<Ports>(&expect(Kind::Ports, header.kind, payload)?)?.listening)
    }
}

#[cfg(test)]
mod tests;
