//! Disks by serial, network interfaces by hardware address, and waiting for either to appear.
//!
//! A driver probes its devices while it is loaded, so most often the first look finds what is wanted. When it
//! does not, a uevent socket is opened, and only then is looked again: whatever appears after that look
//! is announced on the socket.

use std::ffi::CStr;
use std::fmt;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::boot_spec::Mac;
use firstlight_protocol::module_manifest::ModuleManifest;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_KOBJECT_UEVENT};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::{CallError, Cause, io_errno};
use crate::plan::Transports;
use crate::wait::{Deadline, Flag, is_ready, poll, readable};

/// The kernel's own announcements, as opposed to those of a udev.
const KERNEL_GROUP: u32 = 1;

/// Longest sysfs attribute read: a serial has 20 bytes, an address 18.
const MAX_ATTRIBUTE: usize = 64;

/// The interface type of loopback. Source: `linux/if_arp.h`.
const ARPHRD_LOOPBACK: &str = "772";

/// A device was not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("no {wanted}; waited {waited_ms} ms for it")]
    Missing { wanted: Wanted, waited_ms: u32 },
    #[error("the boot was called off while waiting for {wanted}")]
    Cancelled { wanted: Wanted },
}

impl Cause for DeviceError {
    fn errno(&self) -> Option<Errno> {
        match self {
            DeviceError::Call(error) => error.errno(),
            DeviceError::Missing { .. } => Some(Errno::ENODEV),
            DeviceError::Cancelled { .. } => Some(Errno::ECANCELED),
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            DeviceError::Call(error) => error.path(),
            DeviceError::Missing { .. } | DeviceError::Cancelled { .. } => None,
        }
    }
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A disk with this serial.
    Disk(String),
    /// An interface with this address, or the first one that is not loopback.
    Interface(Option<Mac>),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Disk(serial) => write!(f, "disk with serial {serial}"),
            Wanted::Interface(Some(mac)) => write!(f, "network interface with address {mac}"),
            Wanted::Interface(None) => f.write_str("network interface besides loopback"),
        }
    }
}

/// The machine's devices, seen through sysfs.
#[derive(Debug)]
pub(crate) struct Devices {
    sys: OwnedFd,
    cancelled: Arc<Flag>,
}

impl Devices {
    /// To be called while `/sys` is where it belongs; afterwards it may move.
    ///
    /// # Errors
    /// Those of opening `/sys`.
    pub(crate) fn open(cancelled: Arc<Flag>) -> Result<Devices, CallError> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let sys = nix::fcntl::open("/sys", flags, Mode::empty()).map_err(CallError::on("open", "/sys"))?;
        Ok(Devices { sys, cancelled })
    }

    /// The device file of the disk with this serial, waiting up to `timeout_ms` milliseconds for it to appear.
    ///
    /// # Errors
    /// [`DeviceError`], which names the serial.
    pub(crate) fn disk(&self, serial: &str, timeout_ms: u32) -> Result<String, DeviceError> {
        let name = self.wait_for(&Wanted::Disk(serial.to_owned()), timeout_ms)?;
        Ok(format!("/dev/{name}"))
    }

    /// The index of the interface with this address, or of the first one that is not loopback.
    ///
    /// # Errors
    /// [`DeviceError`], which names the address.
    pub(crate) fn interface(&self, mac: Option<Mac>, timeout_ms: u32) -> Result<u32, DeviceError> {
        let wanted = Wanted::Interface(mac);
        let name = self.wait_for(&wanted, timeout_ms)?;
        let index = self.attribute(&format!("class/net/{name}/ifindex")).and_then(|index| index.parse().ok());
        // It vanished between two looks.
        index.ok_or(DeviceError::Missing { wanted, waited_ms: 0 })
    }

    /// The ways virtio devices reach this machine, for choosing among the drivers of `manifest`. Where that leaves no choice, as
    /// in an initramfs that was made for one kind of machine, nothing is looked at.
    pub(crate) fn transports_of(&self, manifest: &ModuleManifest) -> Transports {
        match ["virtio_mmio", "virtio_pci"].map(|driver| manifest.contains(driver)) {
            [true, true] => self.transports(),
            [mmio, pci] => Transports { mmio, pci },
        }
    }

    /// The ways virtio devices reach this machine. Source: the ACPI id `LNRO0005` is virtio-mmio's, 0x1af4 the PCI
    /// vendor of virtio.
    fn transports(&self) -> Transports {
        let mmio = self.names("bus/acpi/devices").iter().any(|name| name.starts_with("LNRO0005"));
        let is_virtio = |name: &String| {
            let vendor = self.attribute(&format!("bus/pci/devices/{name}/vendor"));
            vendor.as_deref() == Some("0x1af4")
        };
        Transports { mmio, pci: self.names("bus/pci/devices").iter().any(is_virtio) }
    }

    /// The names of all disks.
    pub(crate) fn disks(&self) -> Vec<String> {
        self.names("block")
    }

    fn look(&self, wanted: &Wanted) -> Option<String> {
        match wanted {
            Wanted::Disk(serial) => {
                let has =
                    |name: &String| self.attribute(&format!("block/{name}/serial")).as_ref() == Some(serial);
                self.disks().into_iter().find(has)
            }
            Wanted::Interface(mac) => {
                let attribute =
                    |name: &str, attribute| self.attribute(&format!("class/net/{name}/{attribute}"));
                let fits = |name: &String| match mac {
                    Some(mac) => attribute(name, "address").is_some_and(|text| text.parse() == Ok(*mac)),
                    None => attribute(name, "type").is_some_and(|kind| kind != ARPHRD_LOOPBACK),
                };
                // The kernel numbers them in order of appearance, and their names follow the numbers.
                self.names("class/net").into_iter().filter(fits).min()
            }
        }
    }

    fn wait_for(&self, wanted: &Wanted, timeout_ms: u32) -> Result<String, DeviceError> {
        if let Some(found) = self.look(wanted) {
            return Ok(found);
        }
        let missing = || DeviceError::Missing { wanted: wanted.clone(), waited_ms: timeout_ms };
        if timeout_ms == 0 {
            return Err(missing());
        }
        let deadline = Deadline::after_ms(timeout_ms);
        let uevents = Uevents::listen().map_err(CallError::of("listen for uevents"))?;
        loop {
            if let Some(found) = self.look(wanted) {
                return Ok(found);
            }
            if deadline.passed() {
                return Err(missing());
            }
            let mut fds = [readable(uevents.as_fd()), readable(self.cancelled.as_fd())];
            poll(&mut fds, Some(deadline)).map_err(CallError::of("wait for uevents"))?;
            if is_ready(&fds[1]) {
                return Err(DeviceError::Cancelled { wanted: wanted.clone() });
            }
            if is_ready(&fds[0]) {
                uevents.drain();
            }
        }
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let Ok(directory) = Dir::openat(&self.sys, directory, flags, Mode::empty()) else {
            return Vec::new();
        };
        let name = |name: &CStr| name.to_str().ok().filter(|name| !name.starts_with('.')).map(str::to_owned);
        directory.into_iter().flatten().filter_map(|entry| name(entry.file_name())).collect()
    }

    /// A sysfs attribute without its line end; `None` when the device has none of this name.
    fn attribute(&self, path: &str) -> Option<String> {
        let file = openat(&self.sys, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = [0; MAX_ATTRIBUTE];
        let count = std::fs::File::from(file).read(&mut bytes).ok()?;
        let text = std::str::from_utf8(bytes.get(..count)?).ok()?;
        Some(text.trim_end_matches(['\n', '\0']).to_owned())
    }
}

/// What the kernel announces of devices from now on.
#[derive(Debug)]
pub(crate) struct Uevents(Socket);

impl Uevents {
    /// Begins to listen.
    ///
    /// # Errors
    /// Those of `socket(2)` and `bind(2)`.
    pub(crate) fn listen() -> nix::Result<Uevents> {
        let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT).map_err(|error| io_errno(&error))?;
        socket.bind(&SocketAddr::new(0, KERNEL_GROUP)).map_err(|error| io_errno(&error))?;
        socket.set_non_blocking(true).map_err(|error| io_errno(&error))?;
        Ok(Uevents(socket))
    }

    /// Takes all announcements that have come. What they say does not matter: each is a reason to look again.
    pub(crate) fn drain(&self) {
        let mut bytes = [0; 4096];
        while nix::unistd::read(&self.0, &mut bytes).is_ok_and(|count| count > 0) {}
    }

    /// Waits until nothing was announced for as long as `quiet`.
    pub(crate) fn settle(&self, quiet: Duration) {
        loop {
            self.drain();
            let mut fds = [readable(self.as_fd())];
            if poll(&mut fds, Some(Deadline::after(quiet))).is_err() || !is_ready(&fds[0]) {
                return;
            }
        }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_initramfs_leaves_no_choice_of_a_transport_the_machine_is_not_looked_at() {
        let devices = Devices {
            // There is nothing here that could be found.
            sys: std::fs::File::open("/proc/self/fdinfo").unwrap().into(),
            cancelled: Arc::new(Flag::new().unwrap()),
        };
        let of = |text: &str| devices.transports_of(&ModuleManifest::parse(text.into()).unwrap());
        assert_eq!(of("virtio_mmio:\noverlay:\n"), Transports { mmio: true, pci: false });
        assert_eq!(of("virtio_pci:\n"), Transports { mmio: false, pci: true });
        assert_eq!(of("virtio_mmio:\nvirtio_pci:\n"), Transports::default(), "neither shows itself");
        assert_eq!(of(""), Transports::default());
    }
}
