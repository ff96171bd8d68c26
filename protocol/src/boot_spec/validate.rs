//! What types alone cannot say of a boot spec.

use super::{BootSpec, BootSpecError, FileSystem, Mode, RootSource, RootUpper};
use crate::module_manifest::is_module_name;

/// The largest document read, in bytes. Arguments and environment are most of one, and the kernel takes no more than
/// a few hundred KiB of those.
pub const MAX_SPEC_BYTES: usize = 1 << 20;

const MAX_SERIAL: usize = 20;
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;

pub(super) fn validate(spec: &BootSpec) -> Result<(), BootSpecError> {
    hostname(spec)?;
    root(spec)?;
    volumes(spec)?;
    network(spec)?;
    program(spec)?;
    if let Some(headers) = &spec.headers {
        serial(&headers.serial, || "headers.serial".into())?;
    }
    for (index, module) in spec.boot.modules.iter().enumerate() {
        check(is_module_name(module), || format!("boot.modules[{index}]"), "not a module name")?;
    }
    Ok(())
}

fn check(holds: bool, field: impl FnOnce() -> String, reason: &str) -> Result<(), BootSpecError> {
    if holds { Ok(()) } else { Err(BootSpecError::Field { field: field(), reason: reason.to_owned() }) }
}

/// RFC 1123, section 2.1; the length is `HOST_NAME_MAX` of `sethostname(2)`.
fn hostname(spec: &BootSpec) -> Result<(), BootSpecError> {
    let Some(name) = &spec.hostname else { return Ok(()) };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let valid = name.len() <= 64 && name.split('.').all(label);
    check(
        valid,
        || "hostname".into(),
        "not a host name: labels of letters, digits and inner hyphens, 64 bytes in all",
    )
}

fn root(spec: &BootSpec) -> Result<(), BootSpecError> {
    let direct = spec.root.upper == RootUpper::Direct;
    match &spec.root.source {
        RootSource::Initramfs(path) => absolute(path, || "root.source.initramfs".into())?,
        RootSource::Disk(disk) => {
            serial(&disk.serial, || "root.source.disk.serial".into())?;
            let writable = !(direct && disk.file_system.is_read_only());
            check(writable, || "root.upper".into(), "`direct` needs a file system that can be written")?;
        }
    }
    if let RootUpper::Disk(disk) = &spec.root.upper {
        serial(&disk.serial, || "root.upper.disk.serial".into())?;
        let ext4 = disk.file_system == FileSystem::Ext4;
        check(ext4, || "root.upper.disk.file_system".into(), "the upper layer must be ext4")?;
    }
    Ok(())
}

fn volumes(spec: &BootSpec) -> Result<(), BootSpecError> {
    for (index, volume) in spec.volumes.iter().enumerate() {
        serial(&volume.disk.serial, || format!("volumes[{index}].disk.serial"))?;
        let target = || format!("volumes[{index}].target");
        absolute(&volume.target, target)?;
        check(volume.target != "/", target, "the root has a field of its own")?;
        let earlier = spec.volumes.iter().take(index).any(|other| other.target == volume.target);
        check(!earlier, target, "another volume has the same target")?;
    }
    Ok(())
}

fn network(spec: &BootSpec) -> Result<(), BootSpecError> {
    for (index, interface) in spec.network.interfaces.iter().enumerate() {
        let mtu = interface.mtu.is_none_or(|mtu| MTU.contains(&mtu));
        check(mtu, || format!("network.interfaces[{index}].mtu"), "must be from 68 to 65535")?;
        for ipv4 in [true, false] {
            let gateways = interface.gateways.iter().filter(|gateway| gateway.is_ipv4() == ipv4).count();
            let field = || format!("network.interfaces[{index}].gateways");
            check(gateways <= 1, field, "at most one gateway of each family")?;
        }
    }
    for (index, domain) in spec.network.dns.search.iter().enumerate() {
        let plain = !domain.is_empty() && domain.bytes().all(|byte| byte.is_ascii_graphic());
        check(plain, || format!("network.dns.search[{index}]"), "not a domain name")?;
    }
    Ok(())
}

fn program(spec: &BootSpec) -> Result<(), BootSpecError> {
    let program = &spec.program;
    check(
        program.argv.first().is_some_and(|name| !name.is_empty()),
        || "program.argv".into(),
        "must name a program",
    )?;
    for (index, argument) in program.argv.iter().enumerate() {
        check(!argument.contains('\0'), || format!("program.argv[{index}]"), "must not contain NUL")?;
    }
    for (name, value) in &program.env {
        let field = || format!("program.env.{name}");
        check(!name.is_empty() && !name.contains(['=', '\0']), field, "not a variable's name")?;
        check(!value.contains('\0'), field, "must not contain NUL")?;
    }
    absolute(&program.cwd, || "program.cwd".into())?;
    check((1..=64).contains(&program.stop_signal), || "program.stop_signal".into(), "must be from 1 to 64")?;
    for (index, limit) in program.rlimits.iter().enumerate() {
        let ordered = limit.soft.unwrap_or(u64::MAX) <= limit.hard.unwrap_or(u64::MAX);
        check(ordered, || format!("program.rlimits[{index}].soft"), "must not be over the hard limit")?;
    }
    let user = program.user.is_none() || program.mode == Mode::Exec;
    check(user, || "program.user".into(), "an init runs as root")
}

fn absolute(path: &str, field: impl Fn() -> String) -> Result<(), BootSpecError> {
    check(path.starts_with('/'), &field, "must be an absolute path")?;
    check(!path.contains('\0'), &field, "must not contain NUL")?;
    check(!path.split('/').any(|part| part == ".."), &field, "must not contain `..`")
}

fn serial(serial: &str, field: impl FnOnce() -> String) -> Result<(), BootSpecError> {
    let printable = serial.bytes().all(|byte| byte.is_ascii_graphic());
    let length = (1..=MAX_SERIAL).contains(&serial.len());
    check(printable && length, field, "must be 1 to 20 bytes of printable ASCII")
}
