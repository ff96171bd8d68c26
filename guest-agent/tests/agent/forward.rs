//! Carried connections: connect, listen, half-close, resets, ports.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::forward::{
    Address, ForwardDecline, ForwardIncoming, ForwardListenRequest, ForwardListening, ForwardRequest,
    ForwardTakeRequest, MAX_CHUNK, Ports,
};

use super::common::{Agent, Client, DEADLINE};

fn unix(path: &Path) -> Address {
    Address::Unix(path.as_os_str().as_encoded_bytes().to_vec())
}

fn request(client: &mut Client, target: Address) {
    client.send(Kind::ForwardRequest, 5, &codec::encode(&ForwardRequest { target }).unwrap());
}

/// A connection that carries one to `target`.
#[track_caller]
fn carried(agent: &Agent, target: Address) -> Client {
    let mut client = agent.connect();
    request(&mut client, target);
    assert_eq!(client.expect(Kind::ForwardConnected, 5), b"");
    client
}

/// A service on a free port, and its side of a connection that the agent carries.
fn pair(agent: &Agent) -> (Client, TcpStream) {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = carried(agent, Address::Loopback(service.local_addr().unwrap().port()));
    let (stream, _) = service.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    (client, stream)
}

/// All bytes up to the guest's end.
#[track_caller]
fn receive_all(client: &mut Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let frame = client.receive().expect("the connection was reset");
        if frame.kind == Kind::ForwardEnd {
            return bytes;
        }
        assert_eq!((frame.kind, frame.id), (Kind::ForwardBytes, 5));
        bytes.extend(frame.payload);
    }
}

/// Gives the agent's other tasks turns, until they have done what is expected of them.
#[track_caller]
fn settle(agent: &Agent, done: impl Fn() -> bool) {
    let mut client = agent.connect();
    let settled = (0..10_000).any(|_| {
        client.ping();
        done()
    });
    assert!(settled, "the agent did not settle");
}

#[track_caller]
fn assert_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn the_host_s_end_reaches_the_service_which_still_answers() {
    let agent = Agent::start();
    let (mut client, mut service) = pair(&agent);
    client.send(Kind::ForwardBytes, 5, b"question");
    client.send(Kind::ForwardEnd, 5, &[]);
    let mut heard = String::new();
    service.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "question");
    service.write_all(b"answer").unwrap();
    drop(service);
    assert_eq!(receive_all(&mut client), b"answer");
    client.ping();
}

#[test]
fn the_service_s_end_reaches_the_host_which_still_speaks() {
    let agent = Agent::start();
    let (mut client, mut service) = pair(&agent);
    service.write_all(b"greeting").unwrap();
    service.shutdown(Shutdown::Write).unwrap();
    assert_eq!(receive_all(&mut client), b"greeting");
    client.send(Kind::ForwardBytes, 5, b"late words");
    client.send(Kind::ForwardEnd, 5, &[]);
    drop(client);
    let mut heard = String::new();
    service.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "late words");
}

#[test]
fn many_megabytes_cross_both_ways_at_once() {
    let agent = Agent::start();
    let (mut client, service) = pair(&agent);
    let bytes: Vec<u8> = (0..2_u32 << 20).flat_map(|index| (index * 17).to_le_bytes()).collect();
    let mut sender = Client::new(client.stream.try_clone().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for chunk in bytes.chunks(MAX_CHUNK) {
                sender.send(Kind::ForwardBytes, 5, chunk);
            }
            sender.send(Kind::ForwardEnd, 5, &[]);
        });
        // It gives back what it gets.
        scope.spawn(|| {
            let (mut from, mut to) = (&service, &service);
            std::io::copy(&mut from, &mut to).unwrap();
            service.shutdown(Shutdown::Write).unwrap();
        });
        assert!(receive_all(&mut client) == bytes);
    });
}

#[test]
fn refused_connections_are_typed_and_the_agent_connection_stays_good() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let missing = agent.socket().with_file_name("missing.sock");
    for (target, errno) in [(Address::Loopback(free), libc::ECONNREFUSED), (unix(&missing), libc::ENOENT)] {
        let path = Some(target.to_string());
        request(&mut client, target);
        let error = AgentError { operation: "connect".into(), path, cause: Cause::Errno(errno) };
        assert_eq!(client.expect_error(5), error);
        client.ping();
    }
}

#[test]
fn unix_sockets_are_carried_too() {
    let agent = Agent::start();
    let path = agent.socket().with_file_name("service.sock");
    let service = UnixListener::bind(&path).unwrap();
    let mut client = carried(&agent, unix(&path));
    let (mut stream, _) = service.accept().unwrap();
    client.send(Kind::ForwardBytes, 5, b"hi");
    let mut heard = [0; 2];
    stream.read_exact(&mut heard).unwrap();
    stream.write_all(&heard).unwrap();
    drop(stream);
    assert_eq!(receive_all(&mut client), b"hi");
}

#[test]
fn a_service_that_listens_on_ipv6_alone_is_found_on_the_loopback() {
    let Ok(service) = TcpListener::bind("[::1]:0") else { return };
    let agent = Agent::start();
    carried(&agent, Address::Loopback(service.local_addr().unwrap().port()));
    service.accept().unwrap();
}

#[test]
fn a_host_that_goes_without_its_end_resets_the_connection() {
    let agent = Agent::start();
    let (client, mut service) = pair(&agent);
    drop(client);
    assert_reset(&mut service);
}

#[test]
fn a_service_that_resets_is_an_error_with_its_errno() {
    let agent = Agent::start();
    let (mut client, service) = pair(&agent);
    client.send(Kind::ForwardBytes, 5, b"never read");
    // Closing with bytes unread is a reset; they have arrived once they can be peeked at.
    service.peek(&mut [0]).unwrap();
    drop(service);
    let error = client.expect_error(5);
    assert_eq!((error.operation.as_str(), error.cause), ("receive", Cause::Errno(libc::ECONNRESET)));
    // What was on its way meanwhile means nothing any more.
    client.send(Kind::ForwardBytes, 5, b"late");
    client.send(Kind::ForwardEnd, 5, &[]);
    client.ping();
}

#[test]
fn frames_that_do_not_belong_to_a_carried_connection_end_it() {
    let agent = Agent::start();
    let large = vec![0; MAX_CHUNK + 1];
    for (kind, id, payload) in
        [(Kind::Ping, 5, &[][..]), (Kind::ForwardBytes, 6, b"x"), (Kind::ForwardBytes, 5, &large)]
    {
        let (mut client, mut service) = pair(&agent);
        client.send(kind, id, payload);
        assert!(matches!(client.expect_error(0).cause, Cause::Protocol(_)), "{kind:?}");
        assert_reset(&mut service);
    }
    let (mut client, _service) = pair(&agent);
    client.send(Kind::ForwardEnd, 5, &[]);
    client.send(Kind::ForwardBytes, 5, b"after the end");
    assert!(matches!(client.expect_error(0).cause, Cause::Protocol(_)));
}

/// A connection with a listener on it, and where it listens.
#[track_caller]
fn listen(agent: &Agent, address: Address) -> (Client, Address) {
    let mut client = agent.connect();
    let request = ForwardListenRequest { address };
    client.send(Kind::ForwardListenRequest, 3, &codec::encode(&request).unwrap());
    let listening: ForwardListening = codec::decode(&client.expect(Kind::ForwardListening, 3)).unwrap();
    (client, listening.address)
}

#[track_caller]
fn dial(address: &Address) -> TcpStream {
    let Address::Loopback(port) = address else { panic!("{address}") };
    let stream = TcpStream::connect(("127.0.0.1", *port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

#[track_caller]
fn incoming(listener: &mut Client) -> u64 {
    let incoming: ForwardIncoming = codec::decode(&listener.expect(Kind::ForwardIncoming, 3)).unwrap();
    incoming.ticket
}

fn take(agent: &Agent, ticket: u64) -> Client {
    let mut client = agent.connect();
    client.send(Kind::ForwardTakeRequest, 5, &codec::encode(&ForwardTakeRequest { ticket }).unwrap());
    client
}

#[test]
fn connections_in_the_guest_are_announced_and_taken_in_any_order() {
    let agent = Agent::start();
    let (mut listener, address) = listen(&agent, Address::Loopback(0));
    let mut peers: Vec<TcpStream> = (0..10).map(|_| dial(&address)).collect();
    let tickets: Vec<u64> = peers.iter().map(|_| incoming(&mut listener)).collect();
    for (peer, ticket) in peers.iter_mut().zip(tickets).rev() {
        let mut client = take(&agent, ticket);
        client.expect(Kind::ForwardConnected, 5);
        client.send(Kind::ForwardBytes, 5, &ticket.to_le_bytes());
        client.send(Kind::ForwardEnd, 5, &[]);
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, ticket.to_le_bytes());
    }
}

#[test]
fn a_declined_connection_is_reset_and_a_ticket_is_good_once() {
    let agent = Agent::start();
    let (mut listener, address) = listen(&agent, Address::Loopback(0));
    let mut peer = dial(&address);
    let ticket = incoming(&mut listener);
    listener.send(Kind::ForwardDecline, 3, &codec::encode(&ForwardDecline { ticket }).unwrap());
    assert_reset(&mut peer);
    assert!(matches!(take(&agent, ticket).expect_error(5).cause, Cause::Invalid(_)));
}

#[test]
fn more_connections_than_may_wait_wait_in_the_kernel() {
    let agent = Agent::start();
    let (mut listener, address) = listen(&agent, Address::Loopback(0));
    let peers: Vec<TcpStream> = (0..100).map(|_| dial(&address)).collect();
    for _ in &peers {
        let ticket = incoming(&mut listener);
        listener.send(Kind::ForwardDecline, 3, &codec::encode(&ForwardDecline { ticket }).unwrap());
    }
    for mut peer in peers {
        assert_reset(&mut peer);
    }
}

#[test]
fn a_listener_ends_with_its_connection_and_resets_what_waits() {
    let agent = Agent::start();
    let (mut listener, address) = listen(&agent, Address::Loopback(0));
    let mut peer = dial(&address);
    incoming(&mut listener);
    drop(listener);
    assert_reset(&mut peer);
    let Address::Loopback(port) = address else { panic!("{address}") };
    let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_taken_address_is_an_error_with_its_errno() {
    let agent = Agent::start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Loopback(taken.local_addr().unwrap().port());
    let mut client = agent.connect();
    let request = ForwardListenRequest { address };
    client.send(Kind::ForwardListenRequest, 3, &codec::encode(&request).unwrap());
    let error = client.expect_error(3);
    assert_eq!((error.operation.as_str(), error.cause), ("listen", Cause::Errno(libc::EADDRINUSE)));
    client.ping();
}

#[test]
fn a_unix_listener_takes_an_abandoned_place_and_leaves_none() {
    let agent = Agent::start();
    let path = agent.socket().with_file_name("door.sock");
    drop(UnixListener::bind(&path).unwrap());
    let (mut listener, address) = listen(&agent, unix(&path));
    assert_eq!(address, unix(&path));
    let mut peer = UnixStream::connect(&path).unwrap();
    let mut client = take(&agent, incoming(&mut listener));
    client.expect(Kind::ForwardConnected, 5);
    peer.write_all(b"hi").unwrap();
    assert_eq!(client.expect(Kind::ForwardBytes, 5), b"hi");
    drop(listener);
    client.send(Kind::ForwardBytes, 5, b"still here");
    peer.read_exact(&mut [0; 10]).unwrap();
    settle(&agent, || !path.exists());
}

#[test]
fn a_unix_listener_leaves_other_people_s_files_alone() {
    let agent = Agent::start();
    let file = agent.socket().with_file_name("file");
    std::fs::write(&file, "precious").unwrap();
    let served = agent.socket().with_file_name("served.sock");
    let _service = UnixListener::bind(&served).unwrap();
    for path in [&file, &served] {
        let mut client = agent.connect();
        let request = ForwardListenRequest { address: unix(path) };
        client.send(Kind::ForwardListenRequest, 3, &codec::encode(&request).unwrap());
        assert_eq!(client.expect_error(3).cause, Cause::Errno(libc::EADDRINUSE));
        assert!(path.exists());
    }
}

/// Waits until the ports told have, or have not, this one.
#[track_caller]
fn until(watch: &mut Client, address: SocketAddr, there: bool) {
    loop {
        let ports: Ports = codec::decode(&watch.expect(Kind::Ports, 8)).unwrap();
        if ports.listening.contains(&address) == there {
            return;
        }
    }
}

#[test]
fn ports_are_told_as_they_come_and_go() {
    let agent = Agent::start();
    let mut watch = agent.connect();
    watch.send(Kind::PortsRequest, 8, &[]);
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let service = TcpListener::bind(address).unwrap();
        let address = service.local_addr().unwrap();
        until(&mut watch, address, true);
        drop(service);
        until(&mut watch, address, false);
    }
}

#[test]
fn the_agent_s_own_listeners_are_no_ports_of_the_guest() {
    let agent = Agent::start();
    let (_listener, address) = listen(&agent, Address::Loopback(0));
    let Address::Loopback(port) = address else { panic!("{address}") };
    let mut watch = agent.connect();
    watch.send(Kind::PortsRequest, 8, &[]);
    until(&mut watch, SocketAddr::from(([127, 0, 0, 1], port)), false);
}

#[test]
fn a_hundred_connections_at_once_leave_no_descriptor_behind() {
    let agent = Agent::start();
    // One for the connection that `settle` asks over.
    let before = agent.open_descriptors() + 1;
    let mut pairs: Vec<(Client, TcpStream)> = (0..100).map(|_| pair(&agent)).collect();
    for (client, service) in &mut pairs {
        client.send(Kind::ForwardBytes, 5, b"x");
        service.read_exact(&mut [0]).unwrap();
    }
    drop(pairs);
    settle(&agent, || agent.open_descriptors() == before);
}
