//! What a kernel was configured to insist on.

use std::fs;
use std::path::Path;

use firstlight_initramfs::Signatures;

/// Options of a kernel that loads signed modules only, with the prefix `CONFIG_` left out. Source: `Kconfig` of
/// `kernel/module` and `security/lockdown`.
const INSISTING: [&str; 3] =
    ["MODULE_SIG_FORCE", "LOCK_DOWN_KERNEL_FORCE_INTEGRITY", "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY"];

/// Whether modules for `kernel`, those in the directory `modules`, may go without their signatures. They may only where
/// the kernel's configuration is found, in the places in which distributions put it, and does not insist on them.
#[must_use]
pub fn signatures(kernel: &Path, modules: &Path) -> Signatures {
    let release = modules.file_name().unwrap_or_default().to_string_lossy();
    let beside = kernel.with_file_name(format!("config-{release}"));
    let places = [beside, kernel.with_file_name("config"), modules.join("config")];
    match places.iter().find_map(|place| fs::read_to_string(place).ok()) {
        Some(config) if !insists(&config) => Signatures::Strip,
        Some(_) | None => Signatures::Keep,
    }
}

fn insists(config: &str) -> bool {
    let mut set = config.lines().filter_map(|line| line.strip_prefix("CONFIG_")?.strip_suffix("=y"));
    set.any(|option| INSISTING.contains(&option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_known_not_to_insist_gets_modules_without_signatures() {
        let dir = tempfile::tempdir().unwrap();
        let (kernel, modules) = (dir.path().join("vmlinuz-6.1"), dir.path().join("lib/modules/6.1"));
        assert_eq!(signatures(&kernel, &modules), Signatures::Keep, "nothing is known of it");
        let config = dir.path().join("config-6.1");
        fs::write(&config, "CONFIG_MODULE_SIG=y\n# CONFIG_MODULE_SIG_FORCE is not set\n").unwrap();
        assert_eq!(signatures(&kernel, &modules), Signatures::Strip);
        for option in INSISTING {
            fs::write(&config, format!("CONFIG_MODULE_SIG=y\nCONFIG_{option}=y\n")).unwrap();
            assert_eq!(signatures(&kernel, &modules), Signatures::Keep, "{option}");
        }
    }
}
