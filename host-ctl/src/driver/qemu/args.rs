//! A machine as QEMU's command line. Source: `qemu-system-x86_64(1)`.

use std::ffi::OsString;
use std::path::Path;

use super::vsock::{CHARDEV, DEVICE, PORT};
use crate::driver::accel::Accelerator;
use crate::driver::config::{
    AGENT_PORT_SOCKET, DiskConfig, DiskFormat, EVENTS_PORT_SOCKET, MachineConfig, NetworkBackend,
    NetworkConfig, Origin, SERIAL_FIFO, VHOST_SOCKET, VsockConfig, Writes,
};
use crate::vm::spec::Machine;
use firstlight_protocol::port::serial;

/// The arguments that make QEMU run `machine`.
pub(super) fn of(machine: &MachineConfig) -> Vec<OsString> {
    let mut args = Args { list: Vec::new(), machine: machine.machine };
    args.flag("-nodefaults");
    args.flag("-no-user-config");
    args.option("-name", &machine.name);
    args.option("-display", "none");
    // A guest that ends is held until the monitor has read its last words, however late it comes.
    args.option("-action", "reboot=shutdown,shutdown=pause,panic=pause");
    args.platform(machine);
    match machine.origin {
        Origin::Kernel => {
            args.path("-kernel", &machine.kernel);
            args.path("-initrd", &machine.initramfs);
            args.option("-append", &machine.command_line);
        }
        // The kernel is in the memory, and to read it once more takes as long as a fifth of QEMU's start.
        Origin::Memory { .. } => args.option("-incoming", "defer"),
    }
    // Its standard input is the socket. Whoever connects waits in the socket until QEMU has made the machine.
    args.option("-chardev", "socket,id=qmp,fd=0,server=on,wait=off");
    args.option("-mon", "chardev=qmp,mode=control");
    // QEMU opens both FIFOs for reading and writing, so they always have a reader and keep what nobody reads yet.
    args.option("-chardev", format!("pipe,id=console,path={SERIAL_FIFO}"));
    args.option("-serial", "chardev:console");
    for (name, file) in &machine.credentials {
        // systemd takes them from there. Source: `systemd-creds(1)`.
        args.option("-fw_cfg", format!("name=opt/io.systemd.credentials/{name},file={}", file.display()));
    }
    for (index, disk) in machine.disks.iter().enumerate() {
        args.disk(index, disk);
    }
    if let Some(network) = &machine.network {
        args.network(network);
    }
    match machine.vsock {
        VsockConfig::Serial => args.serial_ports(),
        VsockConfig::Kernel { .. } | VsockConfig::Backend => args.vsock(machine.vsock, &machine.origin),
    }
    args.list
}

/// The default processor, with the host's random numbers: without them each number that the guest's kernel takes before
/// it has gathered its own costs it tens of thousands of instructions, and is worth little. `max` hangs a boot now and
/// then.
const EMULATED_CPU: &str = "qemu64,+rdrand";

/// The machine without what no guest of ours has a use for: QEMU makes it, and a kernel finds it, a little sooner. Timers
/// are the processor's, disks virtio's; power is still turned off over ACPI.
const Q35: &str = "q35,hpet=off,sata=off,smbus=off,vmport=off";

struct Args {
    list: Vec<OsString>,
    machine: Machine,
}

impl Args {
    fn flag(&mut self, flag: &str) {
        self.list.push(flag.into());
    }

    fn option(&mut self, option: &str, value: impl AsRef<str>) {
        self.list.extend([option.into(), value.as_ref().into()]);
    }

    fn path(&mut self, option: &str, value: &Path) {
        self.list.extend([option.into(), value.into()]);
    }

    fn platform(&mut self, machine: &MachineConfig) {
        let kind = match machine.machine {
            Machine::Microvm => "microvm",
            Machine::Q35 => Q35,
        };
        args_memory(self, machine, kind);
        self.option("-smp", machine.cpus.to_string());
        match machine.accelerator {
            Accelerator::Kvm => {
                self.option("-accel", "kvm");
                self.option("-cpu", "host");
            }
            Accelerator::Tcg => {
                self.option("-accel", "tcg");
                self.option("-cpu", EMULATED_CPU);
            }
        }
    }

    /// A virtio device on this machine's bus. What `device` needs beyond its bus is in `properties`.
    fn virtio(&mut self, device: &str, properties: &str) {
        match self.machine {
            Machine::Microvm => self.option("-device", format!("{device}-device{properties}")),
            Machine::Q35 => self.option("-device", format!("{device}-pci{properties}")),
        }
    }

    fn disk(&mut self, index: usize, disk: &DiskConfig) {
        // As JSON, because a path in the comma-separated form would have to be escaped.
        let block = serde_json::json!({
            "driver": match disk.format {
                DiskFormat::Raw => "raw",
                DiskFormat::Overlay => "qcow2",
            },
            "node-name": format!("disk{index}"),
            "read-only": disk.read_only,
            "discard": "unmap",
            "file": { "driver": "file", "filename": disk.image.to_string_lossy() },
        });
        self.option("-blockdev", block.to_string());
        self.virtio("virtio-blk", &format!(",drive=disk{index},serial={}", disk.serial));
    }

    fn network(&mut self, network: &NetworkConfig) {
        match &network.backend {
            NetworkBackend::User => self.option("-netdev", "user,id=net0"),
            NetworkBackend::Tap { interface } => {
                self.option("-netdev", format!("tap,id=net0,ifname={interface},script=no,downscript=no"));
            }
        }
        // Nothing boots from the network, so the PCI card needs no boot ROM.
        let rom = match self.machine {
            Machine::Microvm => "",
            Machine::Q35 => ",romfile=",
        };
        self.virtio("virtio-net", &format!(",netdev=net0,mac={}{rom}", network.mac));
    }

    /// On a machine that can be saved it has a port of its own, from which it is unplugged meanwhile: its state is in
    /// another process, or in the host's kernel, and cannot be saved.
    fn vsock(&mut self, vsock: VsockConfig, origin: &Origin) {
        let plug = match self.machine {
            Machine::Microvm => String::new(),
            Machine::Q35 => {
                self.option("-device", format!("pcie-root-port,id={PORT},chassis=1,slot=1"));
                format!(",id={DEVICE},bus={PORT}")
            }
        };
        match (origin, vsock) {
            (Origin::Memory { .. }, _) => {}
            (Origin::Kernel, VsockConfig::Kernel { cid }) => {
                self.virtio("vhost-vsock", &format!(",guest-cid={cid}{plug}"));
            }
            (Origin::Kernel, VsockConfig::Backend) => {
                self.option("-chardev", format!("socket,id={CHARDEV},path={VHOST_SOCKET}"));
                self.virtio("vhost-user-vsock", &format!(",chardev={CHARDEV}{plug}"));
            }
            (_, VsockConfig::Serial) => {}
        }
    }

    /// What stands in for a vsock: QEMU has all of its state, so it can be saved where it is.
    fn serial_ports(&mut self) {
        self.virtio("virtio-serial", ",max_ports=3");
        for (name, number, socket) in
            [("agent", serial::AGENT, AGENT_PORT_SOCKET), ("events", serial::EVENTS, EVENTS_PORT_SOCKET)]
        {
            self.option("-chardev", format!("socket,id={name},path={socket},server=on,wait=off"));
            self.option(
                "-device",
                format!("virtserialport,chardev={name},nr={number},name=firstlight.{name}"),
            );
        }
    }
}

/// The machine and its memory. A vhost-user backend has to share it, and so do we to save it; a private one only its guest sees.
fn args_memory(args: &mut Args, machine: &MachineConfig, kind: &str) {
    args.option("-m", format!("{}M", machine.memory_mib));
    let size = machine.memory_mib;
    let (memory, share) = match (&machine.origin, machine.vsock, machine.machine) {
        (Origin::Memory { ram, writes }, _, _) => {
            let share = match writes {
                Writes::Shared => "on",
                Writes::Private => "off",
            };
            (format!("memory-backend-file,mem-path={}", ram.display()), share)
        }
        (Origin::Kernel, VsockConfig::Kernel { .. } | VsockConfig::Serial, Machine::Microvm) => {
            args.option("-machine", kind);
            return;
        }
        (Origin::Kernel, _, _) => ("memory-backend-memfd".to_owned(), "on"),
    };
    args.option("-machine", format!("{kind},memory-backend=ram"));
    args.option("-object", format!("{memory},id=ram,size={size}M,share={share}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> MachineConfig {
        MachineConfig {
            name: "web".into(),
            origin: Origin::Kernel,
            vmm: "/usr/bin/qemu-system-x86_64".into(),
            machine: Machine::Microvm,
            accelerator: Accelerator::Tcg,
            cpus: 2,
            memory_mib: 256,
            kernel: "/k,1/vmlinuz".into(),
            initramfs: "boot/initramfs".into(),
            command_line: "console=ttyS0".into(),
            credentials: vec![],
            disks: vec![DiskConfig {
                image: "/a,b \"c\".img".into(),
                format: DiskFormat::Raw,
                serial: "root".into(),
                read_only: true,
            }],
            network: Some(NetworkConfig {
                mac: "52:54:00:12:34:56".parse().unwrap(),
                backend: NetworkBackend::User,
            }),
            vsock: VsockConfig::Backend,
        }
    }

    /// The values given to `option`.
    fn values(machine: &MachineConfig, option: &str) -> Vec<String> {
        let args: Vec<String> = of(machine).into_iter().map(|arg| arg.into_string().unwrap()).collect();
        let pairs = args.windows(2).filter(|pair| pair[0] == option);
        pairs.map(|pair| pair[1].clone()).collect()
    }

    #[test]
    fn a_path_with_commas_and_quotes_reaches_qemu_unharmed() {
        let blockdev = &values(&machine(), "-blockdev")[0];
        let block: serde_json::Value = serde_json::from_str(blockdev).unwrap();
        assert_eq!(block["file"]["filename"], "/a,b \"c\".img");
        assert_eq!(block["read-only"], true);
        assert_eq!(values(&machine(), "-kernel"), ["/k,1/vmlinuz"]);
    }

    #[test]
    fn devices_are_on_the_machine_s_own_bus() {
        let microvm = values(&machine(), "-device");
        assert!(microvm.contains(&"virtio-blk-device,drive=disk0,serial=root".to_owned()), "{microvm:?}");
        assert!(microvm.contains(&"vhost-user-vsock-device,chardev=vsock".to_owned()), "{microvm:?}");
        let q35 = values(&MachineConfig { machine: Machine::Q35, ..machine() }, "-device");
        assert!(q35.iter().all(|device| device.contains("-pci,") || device.starts_with("pcie-")), "{q35:?}");
    }

    #[test]
    fn a_vhost_user_backend_shares_the_guest_s_memory_and_the_kernel_s_vsock_does_not() {
        assert_eq!(values(&machine(), "-object"), ["memory-backend-memfd,id=ram,size=256M,share=on"]);
        assert_eq!(values(&machine(), "-machine"), ["microvm,memory-backend=ram"]);
        let kernel = MachineConfig { vsock: VsockConfig::Kernel { cid: 77 }, ..machine() };
        assert_eq!(values(&kernel, "-object"), Vec::<String>::new());
        let savable = MachineConfig { machine: Machine::Q35, ..kernel.clone() };
        assert_eq!(values(&savable, "-object").len(), 1, "a memory that nobody shares cannot be saved");
        assert!(values(&kernel, "-device").contains(&"vhost-vsock-device,guest-cid=77".to_owned()));
    }

    #[test]
    fn a_machine_that_gets_a_saved_memory_has_neither_initramfs_nor_vsock_but_the_port_for_one() {
        let origin = Origin::Memory { ram: "/proc/1/fd/7".into(), writes: Writes::Shared };
        let machine = MachineConfig { machine: Machine::Q35, origin, ..machine() };
        assert_eq!(values(&machine, "-incoming"), ["defer"]);
        let memory = "memory-backend-file,mem-path=/proc/1/fd/7,id=ram,size=256M,share=on";
        assert_eq!(values(&machine, "-object"), [memory]);
        assert_eq!((values(&machine, "-kernel"), values(&machine, "-initrd")), (vec![], vec![]));
        let devices = values(&machine, "-device");
        assert!(devices.iter().any(|device| device.starts_with("pcie-root-port,")), "{devices:?}");
        assert!(!devices.iter().any(|device| device.contains("vsock-pci")), "{devices:?}");
    }

    #[test]
    fn the_ports_in_the_place_of_a_vsock_are_there_from_the_first() {
        for origin in [Origin::Kernel, Origin::Memory { ram: "memory".into(), writes: Writes::Private }] {
            let machine = MachineConfig { vsock: VsockConfig::Serial, origin, ..machine() };
            let devices = values(&machine, "-device");
            let ports: Vec<&String> = devices.iter().filter(|device| device.contains("nr=")).collect();
            assert_eq!(ports.len(), 2, "{devices:?}");
            assert!(!devices.iter().any(|device| device.contains("vsock")), "{devices:?}");
        }
    }

    #[test]
    fn a_memory_that_is_mapped_privately_is_not_shared() {
        let origin = Origin::Memory { ram: "restore/memory".into(), writes: Writes::Private };
        let machine = MachineConfig { vsock: VsockConfig::Serial, origin, ..machine() };
        let memory = "memory-backend-file,mem-path=restore/memory,id=ram,size=256M,share=off";
        assert_eq!(values(&machine, "-object"), [memory]);
    }

    #[test]
    fn an_overlay_is_opened_as_one() {
        let mut machine = machine();
        machine.disks[0].format = DiskFormat::Overlay;
        assert!(values(&machine, "-blockdev")[0].contains("\"driver\":\"qcow2\""));
    }

    #[test]
    fn a_tap_device_is_used_as_it_is() {
        let backend = NetworkBackend::Tap { interface: "tap7".into() };
        let network = Some(NetworkConfig { mac: "52:54:00:00:00:01".parse().unwrap(), backend });
        let machine = MachineConfig { network, ..machine() };
        assert_eq!(values(&machine, "-netdev"), ["tap,id=net0,ifname=tap7,script=no,downscript=no"]);
    }

    #[test]
    fn the_processor_is_the_host_s_under_kvm_alone() {
        assert_eq!(values(&machine(), "-cpu"), [EMULATED_CPU]);
        let kvm = MachineConfig { accelerator: Accelerator::Kvm, ..machine() };
        assert_eq!((values(&kvm, "-accel"), values(&kvm, "-cpu")), (vec!["kvm".into()], vec!["host".into()]));
    }
}
