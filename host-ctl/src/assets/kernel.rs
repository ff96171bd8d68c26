//! Whether a file is a kernel that QEMU can boot directly.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::AssetError;

/// Bytes of a kernel's start that are looked at.
const HEAD: u64 = 0x206;

/// Checks that `path` is a bzImage or an uncompressed ELF kernel.
///
/// Source: "The Linux/x86 Boot Protocol": the boot flag 0xAA55 at 0x1FE, and `HdrS` at 0x202.
pub(super) fn check(path: &Path) -> Result<(), AssetError> {
    let what = "kernel";
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.map_err(|source| AssetError::Unreadable { what, path: path.to_owned(), source })?;
    let bz_image = head.get(0x1fe..0x200) == Some(&[0x55, 0xaa]) && head.get(0x202..0x206) == Some(b"HdrS");
    if bz_image || head.starts_with(b"\x7fELF") {
        return Ok(());
    }
    let reason = "it is neither a bzImage nor an ELF image; give another with --kernel".to_owned();
    Err(AssetError::Wrong { what, path: path.to_owned(), reason })
}
