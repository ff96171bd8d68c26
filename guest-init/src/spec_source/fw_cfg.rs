//! The boot spec in QEMU's fw_cfg. Source: `Documentation/ABI/testing/sysfs-firmware-qemu_fw_cfg` of the kernel.

use firstlight_protocol::boot_spec::FW_CFG_NAME;

use super::{Found, Machine, SpecError, read_file};

/// Looks for the document; a machine without fw_cfg has none.
pub(super) fn look(machine: Machine<'_>) -> Result<Option<Found>, SpecError> {
    machine.loader.load(&machine.manifest.load_order(&["qemu_fw_cfg"]))?;
    read_file(&format!("/sys/firmware/qemu_fw_cfg/by_name/{FW_CFG_NAME}/raw"))
}
