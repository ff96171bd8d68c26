//! Whether a program runs where there is no dynamic linker.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::AssetError;

const WHAT: &str = "static x86-64 program";

/// Bytes of a program's start that are looked at; linkers put the program headers right after the file's.
const HEAD: u64 = 4096;

/// `PT_INTERP`, `elf(5)`: the program asks for a dynamic linker.
const PT_INTERP: u32 = 3;

/// `EM_X86_64`, `elf(5)`.
const EM_X86_64: u16 = 62;

/// Checks that `path` is a static program for the guest. A dynamic one would end the boot in a kernel panic that says
/// only that no init was found.
pub(super) fn check_static(path: &Path) -> Result<(), AssetError> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.map_err(|source| AssetError::Unreadable { what: WHAT, path: path.to_owned(), source })?;
    match fault(&head) {
        None => Ok(()),
        Some(reason) => {
            Err(AssetError::Wrong { what: WHAT, path: path.to_owned(), reason: reason.to_owned() })
        }
    }
}

/// What is wrong with the program that begins like this.
fn fault(head: &[u8]) -> Option<&'static str> {
    // The class is 2 for 64-bit files, the data encoding 1 for little-endian ones.
    if !head.starts_with(b"\x7fELF\x02\x01") || number::<2>(head, 18) != Some(EM_X86_64.into()) {
        return Some("it is no 64-bit x86 ELF file");
    }
    let table = number::<8>(head, 32)?;
    let size = number::<2>(head, 54)?;
    let count = number::<2>(head, 56)?;
    let kinds = (0..count).map(|index| {
        let offset = table.checked_add(size * index)?;
        number::<4>(head, usize::try_from(offset).ok()?)
    });
    for kind in kinds {
        match kind {
            Some(kind) if kind == u64::from(PT_INTERP) => {
                return Some("it is linked dynamically, and the guest has no dynamic linker");
            }
            Some(_) => {}
            None => return Some("its program headers are damaged"),
        }
    }
    None
}

/// The little-endian number of `N` bytes at `offset`.
fn number<const N: usize>(bytes: &[u8], offset: usize) -> Option<u64> {
    let field = bytes.get(offset..offset.checked_add(N)?)?;
    Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}
