//! The requests that configure a network. Source: `rtnetlink(7)`.
//!
//! A request is a typed header and a few attributes by number: the typed attributes of every kind of link there
//! is would be a sixth of this binary.

use std::net::IpAddr;

use firstlight_protocol::boot_spec::{Cidr, Mac};
use netlink_packet_core::{DefaultNla, Emitable, NetlinkPayload, NetlinkSerializable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressFlags, AddressHeader};
use netlink_packet_route::link::{LinkFlags, LinkHeader};
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteProtocol, RouteScope, RouteType};
use nix::libc;

/// A request to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    kind: u16,
    header: Vec<u8>,
    attributes: Vec<DefaultNla>,
}

impl Request {
    fn new(kind: u16, header: &impl Emitable, attributes: Vec<DefaultNla>) -> Request {
        let mut bytes = vec![0; header.buffer_len()];
        header.emit(&mut bytes);
        Request { kind, header: bytes, attributes }
    }
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.header.len() + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(self.header.len());
        header.copy_from_slice(&self.header);
        self.attributes.as_slice().emit(attributes);
    }
}

impl From<Request> for NetlinkPayload<Request> {
    fn from(request: Request) -> NetlinkPayload<Request> {
        NetlinkPayload::InnerMessage(request)
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

fn address_attribute(kind: u16, address: IpAddr) -> DefaultNla {
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    DefaultNla::new(kind, bytes)
}

/// Brings an interface up, with this MTU if there is one.
#[must_use]
pub fn link_up(index: u32, mtu: Option<u32>) -> Request {
    let header =
        LinkHeader { index, flags: LinkFlags::Up, change_mask: LinkFlags::Up, ..LinkHeader::default() };
    Request::new(libc::RTM_SETLINK, &header, mtu.map(|mtu| number(libc::IFLA_MTU, mtu)).into_iter().collect())
}

/// Gives an interface another hardware address, up or not: `virtio_net` changes it as it runs.
#[must_use]
pub fn hardware_address(index: u32, mac: Mac) -> Request {
    let header = LinkHeader { index, ..LinkHeader::default() };
    Request::new(libc::RTM_SETLINK, &header, vec![DefaultNla::new(libc::IFLA_ADDRESS, mac.0.to_vec())])
}

/// Gives an interface an address.
#[must_use]
pub fn address(index: u32, cidr: Cidr) -> Request {
    address_request(libc::RTM_NEWADDR, index, cidr)
}

/// Takes an address away from an interface, and the routes that need it.
#[must_use]
pub fn remove_address(index: u32, cidr: Cidr) -> Request {
    address_request(libc::RTM_DELADDR, index, cidr)
}

fn address_request(kind: u16, index: u32, Cidr { address, prefix }: Cidr) -> Request {
    let header =
        AddressHeader { family: family(address), prefix_len: prefix, index, ..AddressHeader::default() };
    // IFA_LOCAL is the interface's own address in IPv4; in IPv6 the kernel takes either.
    let mut attributes =
        vec![address_attribute(libc::IFA_LOCAL, address), address_attribute(libc::IFA_ADDRESS, address)];
    if address.is_ipv6() {
        // The host hands out addresses, so there is nothing to detect, and an address that is still being
        // looked into cannot be used.
        attributes.push(number(libc::IFA_FLAGS, AddressFlags::Nodad.bits()));
    }
    Request::new(kind, &header, attributes)
}

/// Routes everything else by `gateway`.
#[must_use]
pub fn default_route(index: u32, gateway: IpAddr, on_link: bool) -> Request {
    let header = RouteHeader {
        address_family: family(gateway),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Boot,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        flags: if on_link { RouteFlags::Onlink } else { RouteFlags::empty() },
        ..RouteHeader::default()
    };
    let attributes = vec![address_attribute(libc::RTA_GATEWAY, gateway), number(libc::RTA_OIF, index)];
    Request::new(libc::RTM_NEWROUTE, &header, attributes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
mod tests {
    use super::*;
    use netlink_packet_core::{NetlinkHeader, NetlinkMessage};
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::address::AddressAttribute;
    use netlink_packet_route::link::LinkAttribute;
    use netlink_packet_route::route::{RouteAddress, RouteAttribute};

    /// The request as the crate's own parser understands it.
    fn understood(request: Request) -> RouteNetlinkMessage {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).unwrap();
        let NetlinkPayload::InnerMessage(message) = message.payload else { panic!("{message:?}") };
        message
    }

    #[test]
    fn a_link_is_brought_up_with_its_mtu() {
        let RouteNetlinkMessage::SetLink(link) = understood(link_up(2, Some(1400))) else { panic!() };
        assert_eq!(
            (link.header.index, link.header.flags, link.header.change_mask),
            (2, LinkFlags::Up, LinkFlags::Up)
        );
        assert_eq!(link.attributes, [LinkAttribute::Mtu(1400)]);
    }

    #[test]
    fn an_ipv6_address_is_usable_at_once_and_an_ipv4_address_has_no_such_flag() {
        let ipv6: Cidr = "fec0::15/64".parse().unwrap();
        let RouteNetlinkMessage::NewAddress(message) = understood(address(2, ipv6)) else { panic!() };
        assert_eq!((message.header.family, message.header.prefix_len), (AddressFamily::Inet6, 64));
        assert!(message.attributes.contains(&AddressAttribute::Flags(AddressFlags::Nodad)));
        let ipv4: Cidr = "10.0.2.15/24".parse().unwrap();
        let RouteNetlinkMessage::NewAddress(message) = understood(address(2, ipv4)) else { panic!() };
        assert_eq!(
            message.attributes,
            [AddressAttribute::Local(ipv4.address), AddressAttribute::Address(ipv4.address)]
        );
    }

    #[test]
    fn a_link_gets_another_hardware_address_and_stays_as_it_is() {
        let mac: Mac = "52:54:00:00:00:07".parse().unwrap();
        let RouteNetlinkMessage::SetLink(link) = understood(hardware_address(2, mac)) else { panic!() };
        assert_eq!((link.header.index, link.header.change_mask), (2, LinkFlags::empty()));
        assert_eq!(link.attributes, [LinkAttribute::Address(mac.0.to_vec())]);
    }

    #[test]
    fn an_address_is_taken_away_as_it_was_given() {
        let cidr: Cidr = "10.0.2.15/24".parse().unwrap();
        let RouteNetlinkMessage::NewAddress(given) = understood(address(2, cidr)) else { panic!() };
        let RouteNetlinkMessage::DelAddress(taken) = understood(remove_address(2, cidr)) else { panic!() };
        assert_eq!(given, taken);
    }

    #[test]
    fn a_default_route_names_its_gateway_and_interface() {
        let gateway = "10.0.2.2".parse().unwrap();
        let RouteNetlinkMessage::NewRoute(route) = understood(default_route(2, gateway, true)) else {
            panic!()
        };
        assert_eq!((route.header.destination_prefix_length, route.header.flags), (0, RouteFlags::Onlink));
        let expected = [
            RouteAttribute::Gateway(RouteAddress::Inet("10.0.2.2".parse().unwrap())),
            RouteAttribute::Oif(2),
        ];
        assert_eq!(route.attributes, expected);
    }
}
