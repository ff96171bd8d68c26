//! The network: loopback, then every interface of the spec, all over one netlink socket.

use firstlight_network::{Netlink, Request, reaches, request};
use nix::errno::Errno;

use super::Context;
use super::devices::DeviceError;
use crate::error::{CallError, Cause};

/// The index of loopback in the first network namespace. Source: `LOOPBACK_IFINDEX` in `net/flow.h`.
const LOOPBACK: u32 = 1;

/// The network could not be configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{operation}: {}", errno.desc())]
    Refused { operation: String, errno: Errno },
}

impl Cause for NetworkError {
    fn errno(&self) -> Option<Errno> {
        match self {
            NetworkError::Device(error) => error.errno(),
            NetworkError::Call(error) => error.errno(),
            NetworkError::Refused { errno, .. } => Some(*errno),
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            NetworkError::Device(error) => error.path(),
            NetworkError::Call(error) => error.path(),
            NetworkError::Refused { .. } => None,
        }
    }
}

/// Brings up loopback and the interfaces of the spec.
///
/// # Errors
/// [`NetworkError`], which names the address, route or interface the kernel refused.
pub(crate) fn configure(context: &Context) -> Result<(), NetworkError> {
    let mut netlink = Netlink::open().map_err(CallError::of("open a netlink socket"))?;
    let mut ask = |operation: &dyn Fn() -> String, request: Request| {
        netlink.request(request).map_err(|errno| NetworkError::Refused { operation: operation(), errno })
    };
    ask(&|| "bring up loopback".into(), request::link_up(LOOPBACK, None))?;
    for interface in &context.spec.network.interfaces {
        let index = context.devices.interface(interface.mac, context.spec.boot.device_timeout_ms)?;
        ask(
            &|| format!("bring up the interface with mtu {:?}", interface.mtu),
            request::link_up(index, interface.mtu),
        )?;
        for address in &interface.addresses {
            ask(&|| format!("add address {address}"), request::address(index, *address))?;
        }
        for gateway in &interface.gateways {
            let on_link = !reaches(&interface.addresses, *gateway);
            ask(&|| format!("add a route by {gateway}"), request::default_route(index, *gateway, on_link))?;
        }
    }
    Ok(())
}
