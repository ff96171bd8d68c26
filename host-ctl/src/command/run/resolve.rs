//! From flags to the spec of a VM: every default is filled in and every file is found before anything starts.

use std::path::Path;

use firstlight_host_ctl::assets::{self, AssetError, Environment, Wanted};
use firstlight_host_ctl::headers::manifest_of;
use firstlight_host_ctl::image::{self, ImageError};
use firstlight_host_ctl::snapshot::Obstacle;
use firstlight_host_ctl::vm::id::hostname;
use firstlight_host_ctl::vm::spec::{self, HeadersSpec, LogLimits, NetworkSpec, RootSpec, VolumeSpec};
use firstlight_host_ctl::vm::{Draft, Store, VmId, VmSpec};
use firstlight_protocol::boot_spec::{self, Dns, Mac, Program, StageOrder};
use nix::net::if_::if_nametoindex;

use super::options::{Accel, Machine, Mode, Stages, Transport, VmOptions};
use crate::cli::value::environment;
use crate::cli::value::network::Net;
use crate::cli::value::volume::Volume;
use crate::output::Failure;

/// What a VM without a command runs.
const IDLE: [&str; 2] = ["sleep", "infinity"];

/// What a VM without a command runs in systemd mode.
const DEFAULT_INIT: &str = "/sbin/init";

/// Commands that mean systemd mode where no mode is given. Whether the image has systemd there, init finds out: only it
/// can follow the image's links.
const INITS: [&str; 6] = [
    "/init",
    "/sbin/init",
    "/usr/sbin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/bin/systemd",
];

/// Makes the spec, and the draft that holds the VM's files. Without a name it gets one from its id.
pub(crate) fn spec(
    options: &VmOptions,
    name: Option<&str>,
    store: &Store,
) -> Result<(VmSpec, Draft), Failure> {
    let id = VmId::random().map_err(|error| Failure::failed(format!("no random bytes: {error}")))?;
    let name = name.map_or_else(|| format!("vm-{}", &id.to_string()[..6]), str::to_owned);
    let draft = store.draft(&name)?;
    let wanted = Wanted {
        kernel: options.kernel.clone().filter(|_| !is_baked(options)),
        modules: options.modules.clone(),
        builtin_root: options.rootfs.is_none(),
    };
    refuse_for_baked(options)?;
    let program = program(options)?;
    let volumes = options.volume.iter().map(volume).collect::<Result<_, _>>()?;
    let headers = options.headers.as_deref().map(|bundle| headers(bundle, options)).transpose()?;
    let labels =
        options.label.iter().map(|label| (label.key.clone(), label.value.clone().unwrap_or_default()));
    let mut spec = VmSpec::new(&name, id, assets::find(&wanted, &Environment::of_process())?, program);
    spec.cpus = options.cpus;
    spec.memory_mib = u32::try_from(options.memory >> 20).unwrap_or(u32::MAX);
    spec.machine = machine(options);
    spec.accel = accel(options.accel);
    spec.volumes = volumes;
    spec.headers = headers;
    spec.network = network(&options.net, id)?;
    spec.hostname = hostname(&name);
    spec.boot.stages = stages(options.stages);
    spec.boot.transport = transport(options.transport);
    spec.skip_guest_agent = options.skip_guest_agent;
    spec.labels = labels.collect();
    spec.logs = LogLimits { max_size: options.log_max_size, max_files: options.log_max_files };
    refuse_unsavable(options, &spec)?;
    // What costs time comes last: a mistake in any flag is said before an image is made.
    spec.root = match &options.rootfs {
        Some(image) if is_baked(options) => {
            let baked =
                image::prepare_baked(image, options.kernel.as_deref(), options.initrd.as_deref(), &draft)?;
            spec.baked = Some(baked);
            RootSpec::Builtin
        }
        Some(source) => image::root(source, &draft)?,
        None => RootSpec::Builtin,
    };
    spec.validate().map_err(|error| Failure::usage(error.to_string()))?;
    Ok((spec, draft))
}

fn program(options: &VmOptions) -> Result<Program, Failure> {
    let mut variables = Vec::new();
    for file in &options.env_file {
        variables.extend(environment::read_file(file).map_err(Failure::usage)?);
    }
    variables.extend(options.env.iter().cloned());
    let mode = mode(options);
    let argv = match mode {
        _ if !options.argv.is_empty() => options.argv.clone(),
        boot_spec::Mode::Exec => IDLE.map(str::to_owned).to_vec(),
        boot_spec::Mode::Systemd => vec![DEFAULT_INIT.to_owned()],
    };
    if mode == boot_spec::Mode::Systemd && options.user.is_some() {
        return Err(Failure::usage("--user: an init runs as root")
            .hint("start units as other users with User= in them, or use --mode exec"));
    }
    Ok(Program {
        mode,
        env: environment::resolve(&variables, |name| std::env::var(name).ok()),
        cwd: options.workdir.clone(),
        user: options.user.clone(),
        ..Program::new(argv)
    })
}

fn is_baked(options: &VmOptions) -> bool {
    options.mode == Some(Mode::Baked)
}

/// What an image that boots by itself decides itself, and nobody can for it.
fn refuse_for_baked(options: &VmOptions) -> Result<(), Failure> {
    if !is_baked(options) {
        return match options.initrd {
            None => Ok(()),
            Some(_) => Err(Failure::usage("--initrd is for --mode baked alone; init has one of its own")),
        };
    }
    let refused = [
        ("a command", !options.argv.is_empty()),
        ("--volume", !options.volume.is_empty()),
        ("--env", !options.env.is_empty() || !options.env_file.is_empty()),
        ("--skip-guest-agent", options.skip_guest_agent),
        ("--transport serial", options.transport == Transport::Serial),
    ];
    if options.rootfs.is_none() {
        return Err(Failure::usage("--mode baked needs --rootfs with an image")
            .hint("make one: host-ctl image bake IMAGE"));
    }
    match refused.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((what, _)) => {
            Err(Failure::usage(format!("--mode baked takes no {what}: the image starts itself"))
                .hint("configure it in the image, or use --mode systemd"))
        }
    }
}

/// Has the VM made so that it can be saved, where nothing that was asked for stands against it; and so that it can be cloned,
/// which a vsock allows that is the host's kernel's alone.
pub(in crate::command) fn prefer_savable(options: &mut VmOptions) {
    let possible = mode(options) == boot_spec::Mode::Exec && !options.skip_guest_agent;
    options.snapshot |= possible && options.machine.is_none();
    if options.snapshot && options.transport == Transport::Auto && !assets::has_kernel_vsock() {
        options.transport = Transport::Serial;
    }
}

fn mode(options: &VmOptions) -> boot_spec::Mode {
    let is_init = options.argv.first().is_some_and(|program| INITS.contains(&program.as_str()));
    match options.mode {
        Some(Mode::Exec) => boot_spec::Mode::Exec,
        Some(Mode::Systemd | Mode::Baked) => boot_spec::Mode::Systemd,
        None if is_init => boot_spec::Mode::Systemd,
        None => boot_spec::Mode::Exec,
    }
}

fn volume(volume: &Volume) -> Result<VolumeSpec, Failure> {
    let missing = || Failure::usage(format!("volume {}: no such file", volume.source.display()));
    let (image, file_system) = match volume.source.canonicalize() {
        // An optional volume is one that the boot does without, whatever is wrong with it.
        Ok(image) if volume.optional => (image.clone(), image::file_system(&image).ok()),
        Ok(image) => (image.clone(), Some(image::file_system(&image)?)),
        Err(_) if volume.optional => (volume.source.clone(), None),
        Err(_) => {
            let path = volume.source.display();
            return Err(missing().hint(format!("make one: truncate -s 1G {path} && mkfs.ext4 {path}")));
        }
    };
    let (target, required) = (volume.target.clone(), !volume.optional);
    Ok(VolumeSpec { image, file_system, target, mode: volume.mode, required })
}

/// Takes a file that is no bundle for a mistake. One for another kernel the guest will tell from its own.
fn headers(bundle: &Path, options: &VmOptions) -> Result<HeadersSpec, Failure> {
    let missing = |error| Failure::usage(format!("headers {}: {error}", bundle.display()));
    let bundle = bundle.canonicalize().map_err(missing)?;
    manifest_of(&bundle)?;
    Ok(HeadersSpec { bundle, mask_others: options.headers_mask_others })
}

pub(in crate::command) fn network(net: &Net, id: VmId) -> Result<NetworkSpec, Failure> {
    Ok(match net {
        Net::None => NetworkSpec::None,
        Net::User => NetworkSpec::User,
        Net::Tap(tap) => {
            // Not by /sys, which may show another network namespace than ours.
            if if_nametoindex(tap.interface.as_str()).is_err() {
                let name = &tap.interface;
                return Err(Failure::usage(format!("there is no network device {name}")).hint(format!(
                    "make one: ip tuntap add dev {name} mode tap user $USER && ip link set {name} up"
                )));
            }
            NetworkSpec::Tap {
                interface: tap.interface.clone(),
                mac: tap.mac.unwrap_or_else(|| mac(id)),
                addresses: tap.addresses.clone(),
                gateways: tap.gateways.clone(),
                dns: Dns { servers: tap.dns.clone(), search: Vec::new() },
                mtu: tap.mtu,
            }
        }
    })
}

/// A hardware address of the VM's own: QEMU's prefix, then bytes of the id.
fn mac(id: VmId) -> Mac {
    let text = id.to_string();
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap_or_default();
    Mac([0x52, 0x54, 0x00, byte(0), byte(2), byte(4)])
}

fn machine(options: &VmOptions) -> spec::Machine {
    match options.machine {
        Some(Machine::Microvm) => spec::Machine::Microvm,
        Some(Machine::Q35) => spec::Machine::Q35,
        // What every distribution's initrd knows, and what can unplug the vsock for a save.
        None if is_baked(options) || options.snapshot => spec::Machine::Q35,
        None => spec::Machine::Microvm,
    }
}

fn refuse_unsavable(options: &VmOptions, spec: &VmSpec) -> Result<(), Failure> {
    match Obstacle::of(spec) {
        Some(obstacle) if options.snapshot => {
            Err(Failure::usage(format!("--snapshot in vain: {obstacle}")).hint(obstacle.hint()))
        }
        Some(_) | None => Ok(()),
    }
}

fn accel(accel: Accel) -> spec::Accel {
    match accel {
        Accel::Auto => spec::Accel::Auto,
        Accel::Kvm => spec::Accel::Kvm,
        Accel::Tcg => spec::Accel::Tcg,
    }
}

fn transport(transport: Transport) -> boot_spec::Transport {
    match transport {
        Transport::Auto | Transport::Vsock => boot_spec::Transport::Vsock,
        Transport::Serial => boot_spec::Transport::Serial,
    }
}

fn stages(stages: Stages) -> StageOrder {
    match stages {
        Stages::Graph => StageOrder::Graph,
        Stages::Serial => StageOrder::Serial,
    }
}

impl From<AssetError> for Failure {
    fn from(error: AssetError) -> Failure {
        Failure::failed(error.to_string()).hint("host-ctl doctor checks all of them")
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Failure {
        Failure::failed(error.to_string())
    }
}
