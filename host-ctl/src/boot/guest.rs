//! What the guest is told: a VM's spec as init's boot spec.

use std::net::Ipv4Addr;

use firstlight_initramfs::archive::ROOT_PATH;
use firstlight_protocol::boot_spec::{
    self, Agent, BootSpec, Cidr, Disk, Dns, FileSystem, Headers, Interface, Mac, Network, Root, RootSource,
    RootUpper, Volume,
};
use firstlight_protocol::{headers, port};

use super::Secrets;
use crate::vm::VmSpec;
use crate::vm::spec::{NetworkSpec, RootSpec, UpperSpec};

/// The serial of the root's disk.
pub(super) const ROOT_SERIAL: &str = "root";

/// The serial of the upper layer's disk.
pub(super) const UPPER_SERIAL: &str = "upper";

/// The hardware address in QEMU's user-mode network, in which a guest is alone.
pub(super) const USER_MAC: Mac = Mac([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]);

/// How long init waits for the agent's readiness, in ms. Under emulation on a busy host a boot takes many times as long
/// as on a fast one.
const READY_TIMEOUT_MS: u32 = 30_000;

/// The serial of the disk of volume `index`.
pub(super) fn volume_serial(index: usize) -> String {
    format!("vol{index}")
}

/// The boot spec of one boot of `vm`.
#[must_use]
pub fn boot_spec(vm: &VmSpec, secrets: &Secrets) -> BootSpec {
    BootSpec {
        version: boot_spec::VERSION,
        boot_id: secrets.boot_id,
        mac_key: secrets.mac_key.clone(),
        hostname: vm.hostname.clone(),
        root: root(vm),
        volumes: volumes(vm),
        network: network(&vm.network),
        agent: (!vm.skip_guest_agent).then(|| Agent {
            token: secrets.token.clone(),
            port: port::AGENT,
            ready_timeout_ms: READY_TIMEOUT_MS,
        }),
        program: vm.program.clone(),
        headers: vm
            .headers
            .as_ref()
            .map(|headers| Headers { serial: headers::SERIAL.into(), mask_others: headers.mask_others }),
        boot: vm.boot.clone(),
    }
}

fn root(vm: &VmSpec) -> Root {
    if vm.baked.is_some() {
        // The image's own initrd mounts it; this is what it will have done.
        let disk = Disk { serial: ROOT_SERIAL.into(), file_system: FileSystem::Ext4 };
        return Root { source: RootSource::Disk(disk), upper: RootUpper::Direct };
    }
    let source = match &vm.root {
        RootSpec::Builtin => RootSource::Initramfs(ROOT_PATH.into()),
        RootSpec::Image { file_system, .. } => {
            RootSource::Disk(Disk { serial: ROOT_SERIAL.into(), file_system: *file_system })
        }
    };
    let upper = match &vm.upper {
        // It is memory already, and each boot's own.
        UpperSpec::Tmpfs if vm.root == RootSpec::Builtin => RootUpper::Direct,
        UpperSpec::Tmpfs => RootUpper::Tmpfs,
        UpperSpec::Disk(_) => {
            RootUpper::Disk(Disk { serial: UPPER_SERIAL.into(), file_system: FileSystem::Ext4 })
        }
    };
    Root { source, upper }
}

fn volumes(vm: &VmSpec) -> Vec<Volume> {
    let volume = |(index, volume): (usize, &crate::vm::spec::VolumeSpec)| Volume {
        disk: Disk {
            serial: volume_serial(index),
            // An optional volume without an image has no file system either; init finds no disk and says so.
            file_system: volume.file_system.unwrap_or(FileSystem::Ext4),
        },
        target: volume.target.clone(),
        mode: volume.mode,
        required: volume.required,
    };
    vm.volumes.iter().enumerate().map(volume).collect()
}

fn network(network: &NetworkSpec) -> Network {
    match network {
        NetworkSpec::None => Network::default(),
        NetworkSpec::User => user_network(USER_MAC, Ipv4Addr::new(10, 0, 2, 15)),
        NetworkSpec::Copy { mac, address } => user_network(*mac, *address),
        NetworkSpec::Tap { mac, addresses, gateways, dns, mtu, .. } => Network {
            interfaces: vec![Interface {
                mac: Some(*mac),
                addresses: addresses.clone(),
                gateways: gateways.clone(),
                mtu: *mtu,
            }],
            dns: dns.clone(),
        },
    }
}

/// QEMU's user-mode network: the guest is .15, the host .2 and the name server .3. Source: "Using the user mode network
/// stack" in QEMU's manual.
fn user_network(mac: Mac, own: Ipv4Addr) -> Network {
    let address = |host| Ipv4Addr::new(10, 0, 2, host).into();
    Network {
        interfaces: vec![Interface {
            mac: Some(mac),
            addresses: vec![Cidr { address: own.into(), prefix: 24 }],
            gateways: vec![address(2)],
            mtu: None,
        }],
        dns: Dns { servers: vec![address(3)], search: Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use firstlight_protocol::boot_spec::VolumeMode;

    use super::*;
    use crate::vm::spec::tests::spec;
    use crate::vm::spec::{HeadersSpec, VolumeSpec};

    fn boot(vm: &VmSpec) -> BootSpec {
        let boot = boot_spec(vm, &Secrets::random().unwrap());
        // What init would refuse is a mistake here.
        BootSpec::from_json(boot.to_json().as_bytes()).unwrap()
    }

    #[test]
    fn the_default_vm_boots_the_built_in_root_with_an_agent_and_the_user_network() {
        let boot = boot(&spec("web"));
        assert_eq!(boot.root.source, RootSource::Initramfs(ROOT_PATH.into()));
        assert_eq!(boot.root.upper, RootUpper::Direct);
        assert!(!boot.skip_guest_agent());
        assert_eq!(boot.network.interfaces[0].addresses[0].to_string(), "10.0.2.15/24");
    }

    #[test]
    fn disks_are_told_by_the_serials_the_machine_gives_them() {
        let mut vm = spec("web");
        vm.root = RootSpec::Image { path: "/r.img".into(), file_system: FileSystem::Squashfs };
        vm.upper = UpperSpec::Disk("/u.img".into());
        vm.network = NetworkSpec::None;
        vm.headers = Some(HeadersSpec { bundle: "/h.tar.gz".into(), mask_others: false });
        for (image, file_system) in [("/missing.img", None), ("/data.img", Some(FileSystem::Ext4))] {
            let required = file_system.is_some();
            let target = format!("/mnt{image}");
            vm.volumes.push(VolumeSpec {
                image: image.into(),
                file_system,
                target,
                mode: VolumeMode::Ro,
                required,
            });
        }
        let boot = boot(&vm);
        let host = super::super::Host { kernel_vsock: true, tsc_khz: None };
        let secrets = Secrets::random().unwrap();
        let machine = super::super::machine::machine(&vm, &vm.assets.kernel, &secrets, &host).unwrap();
        let serials: Vec<&str> = machine.disks.iter().map(|disk| disk.serial.as_str()).collect();
        assert_eq!(serials, ["root", "upper", "vol1", "headers"]);
        assert_eq!(boot.volumes[1].disk.serial, "vol1");
        assert_eq!(boot.headers.unwrap().serial, "headers");
        assert!(!boot.volumes[0].required);
        assert!(machine.disks[0].read_only && !machine.disks[1].read_only && machine.disks[2].read_only);
        assert!(machine.disks[3].read_only);
    }

    #[test]
    fn a_boot_without_an_agent_has_none() {
        let vm = VmSpec { skip_guest_agent: true, ..spec("web") };
        assert!(boot(&vm).skip_guest_agent());
    }
}
