//! What runs the guest's instructions.

use std::fs::File;

use crate::vm::spec::Accel;

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The kernel's.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

/// KVM was asked for and cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("KVM does not work here: {reason}; use --accel tcg")]
pub struct NoKvm {
    reason: &'static str,
}

/// Decides for `wanted`.
///
/// # Errors
/// [`NoKvm`] when KVM was asked for and does not work.
pub fn choose(wanted: Accel) -> Result<Accelerator, NoKvm> {
    match wanted {
        Accel::Tcg => Ok(Accelerator::Tcg),
        Accel::Kvm => probe().map(|()| Accelerator::Kvm),
        Accel::Auto => Ok(probe().map_or(Accelerator::Tcg, |()| Accelerator::Kvm)),
    }
}

/// Whether KVM works. That `/dev/kvm` opens says little: a paravirtual KVM in a nested host opens, makes VMs, and hangs
/// every guest but its own. The processor's flags tell that one apart.
///
/// # Errors
/// [`NoKvm`] with the reason.
pub fn probe() -> Result<(), NoKvm> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !has_virtualization(&cpuinfo) {
        return Err(NoKvm { reason: "the processor shows neither vmx nor svm" });
    }
    match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Ok(()),
        Err(_) => Err(NoKvm { reason: "/dev/kvm cannot be opened" }),
    }
}

fn has_virtualization(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.flat_map(str::split_whitespace).any(|flag| matches!(flag, "vmx" | "svm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_flag_of_the_processor_counts() {
        assert!(has_virtualization("processor : 0\nflags\t\t: fpu vmx sse\n"));
        assert!(has_virtualization("flags : fpu svm\n"));
        assert!(!has_virtualization("flags : fpu avmx svm_lock\nmodel name : vmx\n"));
        assert!(!has_virtualization(""));
    }
}
