//! The accelerators: a virtual CPU of each really runs instructions. That `/dev/kvm` can be opened says nothing of it, and
//! a few instructions say nothing of a whole kernel; so KVM has to pass the library's own check as well.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use firstlight_host_ctl::assets::{self, Environment, Wanted};
use firstlight_host_ctl::driver::accel;
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::process::Command;
use tokio::time::timeout;

use super::Finding;

/// A CPU gets to its first instructions within a fraction of this.
const LIMIT: Duration = Duration::from_secs(5);

/// The smallest firmware QEMU takes.
const FIRMWARE_LEN: usize = 64 * 1024;

/// Where an x86 CPU begins: 16 bytes before the end of its firmware.
const RESET_VECTOR: usize = FIRMWARE_LEN - 16;

/// The port of the device that ends QEMU.
const EXIT_PORT: u8 = 0xf4;

const EXIT_VALUE: u8 = 0x10;

/// What QEMU then exits with. Source: `hw/misc/debugexit.c`.
const EXIT_CODE: i32 = (EXIT_VALUE as i32) << 1 | 1;

/// `mov al, EXIT_VALUE; out EXIT_PORT, al; hlt`.
const CODE: [u8; 5] = [0xb0, EXIT_VALUE, 0xe6, EXIT_PORT, 0xf4];

pub(super) async fn check(environment: &Environment) -> Vec<Finding> {
    let Ok(found) = assets::find(&Wanted::default(), environment) else { return Vec::new() };
    let kvm = match accel::probe() {
        Ok(()) => run(&found.vmm, "kvm").await,
        Err(error) => Err(error.to_string()),
    };
    let kvm = match kvm {
        Ok(()) => Finding::good("kvm", "a virtual CPU ran"),
        Err(reason) => {
            let mend =
                "VMs run under emulation (tcg), many times slower; use a host with working KVM for speed";
            Finding::bad("kvm", reason, mend).optional()
        }
    };
    let tcg = match run(&found.vmm, "tcg").await {
        Ok(()) => Finding::good("tcg", "a virtual CPU ran"),
        Err(reason) => Finding::bad("tcg", reason, "install the distribution's whole qemu-system-x86"),
    };
    vec![kvm, tcg]
}

/// Runs a firmware of three instructions, the second of which ends QEMU with a code that nothing else gives.
async fn run(vmm: &Path, accel: &str) -> Result<(), String> {
    let firmware = firmware().map_err(|error| format!("cannot write a test firmware: {error}"))?;
    let mut command = Command::new(vmm);
    command.args(["-accel", accel, "-M", "pc", "-m", "4M", "-nodefaults", "-display", "none", "-no-reboot"]);
    let path = format!("/proc/{}/fd/{}", std::process::id(), firmware.as_raw_fd());
    command.args(["-bios", &path]);
    command.args(["-device", &format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("{} cannot be started: {error}", vmm.display())),
        Err(_) => return Err("a virtual CPU started and never ran an instruction".to_owned()),
    };
    if output.status.code() == Some(EXIT_CODE) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().map_or_else(|| format!("QEMU ended with {}", output.status), str::to_owned))
}

/// The firmware, in memory; QEMU opens it through our descriptor.
fn firmware() -> std::io::Result<File> {
    let mut image = vec![0xf4; FIRMWARE_LEN];
    image[RESET_VECTOR..RESET_VECTOR + CODE.len()].copy_from_slice(&CODE);
    let mut file = File::from(memfd_create("firmware", MemfdFlags::CLOEXEC)?);
    file.write_all(&image)?;
    Ok(file)
}
