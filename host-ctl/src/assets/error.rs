//! What is missing, and what to provide.

use std::io;
use std::path::PathBuf;

/// A file that boots are made from is missing or unusable.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// It is nowhere.
    #[error("cannot find {what}; looked at {}; {}", looked_at(.looked), hint(.what))]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Where.
        looked: Vec<PathBuf>,
    },
    /// It cannot be read.
    #[error("cannot read {what} {}: {source}", .path.display())]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no {what}: {reason}", .path.display())]
    Wrong {
        /// What it should be.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

fn looked_at(looked: &[PathBuf]) -> String {
    match looked {
        [] => "no place at all".to_owned(),
        paths => paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
    }
}

/// How to mend it.
fn hint(what: &str) -> String {
    match what {
        "kernel" => "run `make setup`, or give one with --kernel or FIRSTLIGHT_KERNEL".into(),
        "modules" => {
            "run `make setup`, or give the kernel's lib/modules/RELEASE with --modules or FIRSTLIGHT_MODULES"
                .into()
        }
        "guest-init" | "guest-agent" => "run `make build`, or set FIRSTLIGHT_GUEST_DIR".into(),
        "busybox" => "install busybox-static, set FIRSTLIGHT_BUSYBOX, or give a root with --rootfs".into(),
        "vhost-device-vsock" => "run `make setup`, or `modprobe vhost_vsock` where the kernel has it".into(),
        "qemu-system-x86_64" => "install qemu-system-x86, or set FIRSTLIGHT_QEMU".into(),
        other => format!("install {other}"),
    }
}
