//! Takes the kernel proper out of a bzImage. Pure.
//!
//! Sources: "The Linux/x86 Boot Protocol" for the header, `elf(5)` for the result, and "The x86/HVM direct boot ABI" of
//! Xen for what makes an ELF kernel bootable without its own unpacker.

use std::io::{self, Read};

/// Most bytes a kernel may have when it is unpacked. Distributions' have some 50 MiB; a damaged file ends here.
const MAX_KERNEL: u64 = 256 << 20;

/// Most bytes of one block of the LZ4 legacy format.
const LZ4_BLOCK: usize = 8 << 20;

/// The kernel in `image`: an ELF file that a VMM can start. `None` when the image is no bzImage, is packed in a way not
/// known here, or holds a kernel that starts by its own unpacker only. All of these boot as they are.
pub(super) fn vmlinux(image: &[u8]) -> Option<Vec<u8>> {
    let mut kernel = Vec::new();
    // Behind the packed kernel may be padding, which decoders refuse after they have given all there is.
    let _ = decoder(payload(image)?)?.take(MAX_KERNEL).read_to_end(&mut kernel);
    has_pvh_entry(&kernel).then_some(kernel)
}

/// The packed kernel.
fn payload(image: &[u8]) -> Option<&[u8]> {
    /// Bytes of a sector, in which the real-mode code is counted.
    const SECTOR: usize = 512;
    /// Since this version the header says where the payload is.
    const PROTOCOL: u32 = 0x0208;
    if image.get(0x202..0x206)? != b"HdrS" || number(image, 0x206, 2)? < PROTOCOL {
        return None;
    }
    // Zero means four, for reasons older than this protocol.
    let sectors = match usize::from(*image.get(0x1f1)?) {
        0 => 4,
        sectors => sectors,
    };
    let [offset, length] = [number(image, 0x248, 4)?, number(image, 0x24c, 4)?].map(usize::try_from);
    image.get((sectors + 1) * SECTOR..)?.get(offset.ok()?..)?.get(..length.ok()?)
}

fn decoder(packed: &[u8]) -> Option<Box<dyn Read + '_>> {
    Some(match packed {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::GzDecoder::new(packed)),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Box::new(lzma_rust2::XzReader::new(packed, false)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(ruzstd::decoding::StreamingDecoder::new(packed).ok()?),
        [0x02, 0x21, 0x4c, 0x18, blocks @ ..] => Box::new(Lz4 { blocks, open: io::Cursor::default() }),
        _ => return None,
    })
}

/// Reads the LZ4 legacy format: blocks, each after its length. Source: `lz4_Frame_format.md`, "Legacy frame".
struct Lz4<'a> {
    blocks: &'a [u8],
    open: io::Cursor<Vec<u8>>,
}

impl Read for Lz4<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.open.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some((block, rest)) = next_block(self.blocks) else { return Ok(0) };
            let block = lz4_flex::block::decompress(block, LZ4_BLOCK).map_err(io::Error::other)?;
            (self.open, self.blocks) = (io::Cursor::new(block), rest);
        }
    }
}

/// The first block and what follows it; `None` at the end, where the kernel's build has put the unpacked length.
fn next_block(blocks: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(number(blocks, 0, 4)?).ok()?;
    blocks.get(4..)?.split_at_checked(length)
}

/// Whether this is a 64-bit ELF file with the note that names its entry point for a VMM.
fn has_pvh_entry(kernel: &[u8]) -> bool {
    const ELF64: &[u8] = b"\x7fELF\x02";
    kernel.starts_with(ELF64) && notes(kernel).is_some_and(name_an_entry)
}

/// The ELF file's note segment.
fn notes(kernel: &[u8]) -> Option<&[u8]> {
    /// `PT_NOTE`.
    const NOTE: u32 = 4;
    let place = |offset| usize::try_from(number(kernel, offset, 4)?).ok();
    let (table, size, count) = (place(32)?, number(kernel, 54, 2)? as usize, number(kernel, 56, 2)? as usize);
    let mut headers = (0..count).map(|index| table + index * size);
    let header = headers.find(|header| number(kernel, *header, 4) == Some(NOTE))?;
    kernel.get(place(header + 8)?..)?.get(..place(header + 32)?)
}

/// Walks through notes: the lengths of name and value, the kind, then both, each padded to four bytes.
fn name_an_entry(mut notes: &[u8]) -> bool {
    /// `XEN_ELFNOTE_PHYS32_ENTRY`. Source: `xen/interface/elfnote.h`.
    const ENTRY: u32 = 18;
    let next = |notes: &[u8]| {
        let [name, value] = [number(notes, 0, 4)?, number(notes, 4, 4)?].map(|length| length as usize);
        let found = number(notes, 8, 4)? == ENTRY && notes.get(12..16)? == b"Xen\0";
        Some((found, 12 + name.checked_next_multiple_of(4)? + value.checked_next_multiple_of(4)?))
    };
    while let Some((found, length)) = next(notes) {
        if found {
            return true;
        }
        notes = notes.get(length..).unwrap_or_default();
    }
    false
}

/// A little-endian number of `size` bytes, four at most.
fn number(bytes: &[u8], offset: usize, size: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
