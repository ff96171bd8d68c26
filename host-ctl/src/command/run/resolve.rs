//! From flags to the spec of a VM: every default is filled in and every file is found before anything starts.

use std::path::Path;

use firstlight_host_ctl::assets::{self, AssetError, Environment, Wanted};
use firstlight_host_ctl::headers::manifest_of;
use firstlight_host_ctl::image::{self, ImageError};
use firstlight_host_ctl::vm::spec::{self, HeadersSpec, LogLimits, NetworkSpec, RootSpec, VolumeSpec};
use firstlight_host_ctl::vm::{Draft, Store, VmId, VmSpec};
use firstlight_protocol::boot_spec::{self, Dns, Mac, Program, StageOrder};

use super::{Accel, Machine, Mode, Run, Stages};
use crate::cli::value::environment;
use crate::cli::value::network::Net;
use crate::cli::value::volume::Volume;
use crate::output::Failure;

/// What a VM without a command runs.
const IDLE: [&str; 2] = ["sleep", "infinity"];

/// Makes the spec, and the draft that holds the VM's files.
pub(super) fn spec(run: &Run, store: &Store) -> Result<(VmSpec, Draft), Failure> {
    let id = VmId::random().map_err(|error| Failure::failed(format!("no random bytes: {error}")))?;
    let name = run.name.clone().unwrap_or_else(|| format!("vm-{}", &id.to_string()[..6]));
    let draft = store.draft(&name)?;
    let wanted = Wanted {
        kernel: run.kernel.clone(),
        modules: run.modules.clone(),
        builtin_root: run.rootfs.is_none(),
    };
    let program = program(run)?;
    let volumes = run.volume.iter().map(volume).collect::<Result<_, _>>()?;
    let headers = run.headers.as_deref().map(|bundle| headers(bundle, run)).transpose()?;
    let labels = run.label.iter().map(|label| (label.key.clone(), label.value.clone().unwrap_or_default()));
    let mut spec = VmSpec::new(&name, id, assets::find(&wanted, &Environment::of_process())?, program);
    spec.cpus = run.cpus;
    spec.memory_mib = u32::try_from(run.memory >> 20).unwrap_or(u32::MAX);
    spec.machine = machine(run)?;
    spec.accel = accel(run.accel);
    spec.volumes = volumes;
    spec.headers = headers;
    spec.network = network(&run.net, id)?;
    spec.hostname = hostname(&name);
    spec.boot.stages = stages(run.stages);
    spec.skip_guest_agent = run.skip_guest_agent;
    spec.labels = labels.collect();
    spec.logs = LogLimits { max_size: run.log_max_size, max_files: run.log_max_files };
    // A foreground run removes its VM itself, once it has written out what the program said.
    spec.rm_on_exit = run.rm && run.detach;
    // What costs time comes last: a mistake in any flag is said before an image is made.
    spec.root = match &run.rootfs {
        Some(source) => image::root(source, &draft)?,
        None => RootSpec::Builtin,
    };
    spec.validate().map_err(|error| Failure::usage(error.to_string()))?;
    Ok((spec, draft))
}

fn program(run: &Run) -> Result<Program, Failure> {
    let mut variables = Vec::new();
    for file in &run.env_file {
        variables.extend(environment::read_file(file).map_err(Failure::usage)?);
    }
    variables.extend(run.env.iter().cloned());
    let argv = if run.argv.is_empty() { IDLE.map(str::to_owned).to_vec() } else { run.argv.clone() };
    let Mode::Exec = run.mode;
    Ok(Program {
        mode: boot_spec::Mode::Exec,
        env: environment::resolve(&variables, |name| std::env::var(name).ok()),
        cwd: run.workdir.clone(),
        user: run.user.clone(),
        ..Program::new(argv)
    })
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
fn headers(bundle: &Path, run: &Run) -> Result<HeadersSpec, Failure> {
    let missing = |error| Failure::usage(format!("headers {}: {error}", bundle.display()));
    let bundle = bundle.canonicalize().map_err(missing)?;
    manifest_of(&bundle)?;
    Ok(HeadersSpec { bundle, mask_others: run.headers_mask_others })
}

pub(in crate::command) fn network(net: &Net, id: VmId) -> Result<NetworkSpec, Failure> {
    Ok(match net {
        Net::None => NetworkSpec::None,
        Net::User => NetworkSpec::User,
        Net::Tap(tap) => {
            let path = Path::new("/sys/class/net").join(&tap.interface);
            if !path.exists() {
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

/// The name, where it is a host name too. Source: RFC 1123, section 2.1.
pub(in crate::command) fn hostname(name: &str) -> Option<String> {
    let label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    (plain && name.split('.').all(label)).then(|| name.to_owned())
}

/// A VM that is to be saved needs a machine that can unplug its vsock.
fn machine(run: &Run) -> Result<spec::Machine, Failure> {
    match run.machine {
        None if run.snapshot => Ok(spec::Machine::Q35),
        Some(Machine::Microvm) if run.snapshot => {
            let failure = Failure::usage("--snapshot needs --machine q35: a microvm cannot be saved");
            Err(failure.hint("leave --machine out"))
        }
        None | Some(Machine::Microvm) => Ok(spec::Machine::Microvm),
        Some(Machine::Q35) => Ok(spec::Machine::Q35),
    }
}

fn accel(accel: Accel) -> spec::Accel {
    match accel {
        Accel::Auto => spec::Accel::Auto,
        Accel::Kvm => spec::Accel::Kvm,
        Accel::Tcg => spec::Accel::Tcg,
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
