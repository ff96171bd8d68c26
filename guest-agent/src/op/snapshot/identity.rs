//! Who a copy is: entropy, names and addresses, by system calls alone.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use firstlight_network::{Netlink, Request, reaches, request};
use firstlight_protocol::boot_spec::{Cidr, Mac};
use firstlight_protocol::hex;
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::snapshot::{InterfaceIdentity, MAX_INTERFACES};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockaddrStorage;
use nix::unistd::{gethostname, sethostname};

use crate::{failure, sys};

const RANDOM: &str = "/dev/urandom";
const HOSTNAME: &str = "/etc/hostname";
const HOSTS: &str = "/etc/hosts";
const MACHINE_ID: &str = "/etc/machine-id";
const RESOLV_CONF: &str = "/etc/resolv.conf";
const LINKS: &str = "/sys/class/net";

/// Mixes in bytes that nobody else has, and makes the kernel's generator take new keys at once. Without the second step
/// a copy goes on with the keys it was saved with for up to a minute. Source: `random(4)`.
pub(super) fn add_entropy(bytes: &[u8]) -> Result<(), AgentError> {
    let device = fs::File::options().write(true).open(RANDOM).map_err(of_io("open", RANDOM))?;
    sys::add_entropy(&device, bytes).map_err(of_io("add entropy to", RANDOM))?;
    sys::reseed(&device).map_err(of_io("reseed", RANDOM))
}

/// Sets the host name, and the files that say it.
pub(super) fn set_hostname(name: &str) -> Result<(), AgentError> {
    let old = gethostname().map_err(of_errno("get the host name", None))?;
    sethostname(name).map_err(of_errno("set the host name", None))?;
    write(HOSTNAME, &format!("{name}\n"))?;
    replace_in_hosts(&old.to_string_lossy(), name)
}

/// Source: `machine-id(5)`.
pub(super) fn set_machine_id(id: [u8; 16]) -> Result<(), AgentError> {
    write(MACHINE_ID, &format!("{}\n", hex::encode(&id)))
}

/// Gives interfaces their new addresses, in place of all they had.
pub(super) fn set_network(
    interfaces: &[InterfaceIdentity],
    nameservers: &[IpAddr],
) -> Result<(), AgentError> {
    if interfaces.len() > MAX_INTERFACES {
        return Err(failure::invalid("set up the network", format!("more than {MAX_INTERFACES} interfaces")));
    }
    if !interfaces.is_empty() {
        let mut netlink = Netlink::open().map_err(of_errno("open a netlink socket", None))?;
        for interface in interfaces {
            set_interface(&mut netlink, interface)?;
        }
    }
    if nameservers.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = nameservers.iter().map(|server| format!("nameserver {server}\n")).collect();
    write(RESOLV_CONF, &lines.concat())
}

fn set_interface(netlink: &mut Netlink, identity: &InterfaceIdentity) -> Result<(), AgentError> {
    let name = find(&[identity.mac, identity.was]).ok_or_else(|| {
        failure::invalid("set up the network", format!("no interface {}", Mac(identity.was)))
    })?;
    let link = Path::new(LINKS).join(&name);
    let index = if_nametoindex(name.as_str()).map_err(of_errno("look up", Some(&link)))?;
    let mut ask = |operation: &str, request: Request| {
        netlink.request(request).map_err(|errno| failure::system(operation, Some(&link), &errno.into()))
    };
    let had = addresses_of(&name)?;
    for address in &had {
        ask("remove an address of", request::remove_address(index, *address))?;
    }
    ask("set the hardware address of", request::hardware_address(index, Mac(identity.mac)))?;
    ask("bring up", request::link_up(index, None))?;
    let addresses: Vec<Cidr> = identity
        .addresses
        .iter()
        .map(|(address, prefix)| Cidr { address: *address, prefix: *prefix })
        .collect();
    for address in &addresses {
        ask("add an address to", request::address(index, *address))?;
    }
    for gateway in &identity.gateways {
        let on_link = !reaches(&addresses, *gateway);
        ask("add a route by", request::default_route(index, *gateway, on_link))?;
    }
    match (had.first(), addresses.first()) {
        (Some(old), Some(new)) => replace_in_hosts(&old.address.to_string(), &new.address.to_string()),
        (None, _) | (_, None) => Ok(()),
    }
}

/// The interface with one of these hardware addresses; the first is that of a request which is repeated.
fn find(macs: &[[u8; 6]]) -> Option<String> {
    let entries: Vec<_> = fs::read_dir(LINKS).ok()?.flatten().collect();
    let has = |entry: &fs::DirEntry, mac: [u8; 6]| {
        let address = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        address.trim_end() == Mac(mac).to_string()
    };
    let found = macs.iter().find_map(|mac| entries.iter().find(|entry| has(entry, *mac)))?;
    found.file_name().into_string().ok()
}

fn addresses_of(name: &str) -> Result<Vec<Cidr>, AgentError> {
    let entries = getifaddrs().map_err(of_errno("list interfaces", None))?;
    let of_interface = entries.filter(|entry| entry.interface_name == name);
    Ok(of_interface.filter_map(|entry| cidr(entry.address.as_ref()?, entry.netmask.as_ref()?)).collect())
}

fn cidr(address: &SockaddrStorage, mask: &SockaddrStorage) -> Option<Cidr> {
    let ip = |address: &SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    let ones = match ip(mask)? {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    Some(Cidr { address: ip(address)?, prefix: u8::try_from(ones).ok()? })
}

fn replace_in_hosts(old: &str, new: &str) -> Result<(), AgentError> {
    match fs::read_to_string(HOSTS) {
        Ok(text) => write(HOSTS, &replace_words(&text, old, new)),
        Err(_) => Ok(()),
    }
}

/// `text` with each word that is `old` replaced; white space stays as it is.
fn replace_words(text: &str, old: &str, new: &str) -> String {
    let words = text.split_inclusive(char::is_whitespace).map(|piece| {
        let word = piece.trim_end();
        if word == old { format!("{new}{}", &piece[word.len()..]) } else { piece.to_owned() }
    });
    words.collect()
}

/// Writes a file in place, so that one which is mounted over the image's own is written too. A root that cannot be
/// written keeps what it has.
fn write(path: &'static str, text: &str) -> Result<(), AgentError> {
    match fs::write(path, text) {
        Err(error)
            if error.raw_os_error() == Some(libc::EROFS) || error.kind() == io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        result => result.map_err(of_io("write", path)),
    }
}

fn of_io(operation: &'static str, path: &'static str) -> impl FnOnce(io::Error) -> AgentError {
    move |error| failure::system(operation, Some(Path::new(path)), &error)
}

fn of_errno(operation: &'static str, path: Option<&Path>) -> impl FnOnce(Errno) -> AgentError {
    let path = path.map(Path::to_owned);
    move |errno| failure::system(operation, path.as_deref(), &errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_are_replaced_and_white_space_stays() {
        let hosts = "127.0.0.1\tlocalhost\n10.0.2.15  web web.example\n10.0.2.150 webs\n";
        let renamed = replace_words(hosts, "web", "copy");
        assert_eq!(renamed, "127.0.0.1\tlocalhost\n10.0.2.15  copy web.example\n10.0.2.150 webs\n");
        let moved = replace_words(&renamed, "10.0.2.15", "10.0.2.16");
        assert!(moved.contains("10.0.2.16  copy") && moved.contains("10.0.2.150 webs"), "{moved}");
    }
}
