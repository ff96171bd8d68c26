use super::*;
use proptest::prelude::*;
use std::io::Write as _;

const NOTE_AT: usize = 120;

/// An ELF file with nothing in it but a note of this kind.
fn elf(kind: u8) -> Vec<u8> {
    let mut elf = vec![0; 200];
    elf[..5].copy_from_slice(b"\x7fELF\x02");
    (elf[32], elf[54], elf[56]) = (64, 56, 1);
    (elf[64], elf[72], elf[96]) = (4, u8::try_from(NOTE_AT).unwrap(), 44);
    // Another owner's note of the same kind comes first.
    let (gnu, xen) = elf[NOTE_AT..].split_at_mut(20);
    gnu[..16].copy_from_slice(&[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, b'G', b'N', b'U', 0]);
    xen[..16].copy_from_slice(&[4, 0, 0, 0, 8, 0, 0, 0, kind, 0, 0, 0, b'X', b'e', b'n', 0]);
    elf
}

/// A bzImage around a packed kernel.
fn image(packed: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024 + 16];
    image[0x1f1] = 1;
    image[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
    image[0x248] = 16;
    image[0x24c..0x250].copy_from_slice(&u32::try_from(packed.len()).unwrap().to_le_bytes());
    image.extend_from_slice(packed);
    image
}

fn gzip(kernel: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(kernel).unwrap();
    encoder.finish().unwrap()
}

/// In blocks of 64 bytes, as a kernel's build does it: with the unpacked length behind them.
fn lz4(kernel: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x02, 0x21, 0x4c, 0x18];
    for block in kernel.chunks(64) {
        let block = lz4_flex::block::compress(block);
        packed.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
        packed.extend(block);
    }
    packed.extend(u32::try_from(kernel.len()).unwrap().to_le_bytes());
    packed
}

#[test]
fn a_kernel_comes_out_as_it_was_packed() {
    let kernel = elf(18);
    assert_eq!(vmlinux(&image(&gzip(&kernel))).as_ref(), Some(&kernel));
    assert_eq!(vmlinux(&image(&lz4(&kernel))).as_ref(), Some(&kernel));
}

#[test]
fn a_kernel_without_an_entry_point_for_a_vmm_is_left_packed() {
    assert_eq!(vmlinux(&image(&lz4(&elf(17)))), None);
}

#[test]
fn what_is_no_bz_image_or_packed_otherwise_is_left_alone() {
    assert_eq!(vmlinux(&elf(18)), None);
    assert_eq!(vmlinux(&image(b"LZO or whatever")), None);
    let mut old = image(&lz4(&elf(18)));
    old[0x206] = 7;
    assert_eq!(vmlinux(&old), None, "a protocol that does not say where the payload is");
}

proptest! {
    #[test]
    fn a_damaged_image_is_never_more_than_refused(at in 0_usize..1500, byte: u8, length in 0_usize..1500) {
        let mut damaged = image(&lz4(&elf(18)));
        if let Some(place) = damaged.get_mut(at) {
            *place = byte;
        }
        damaged.truncate(length);
        let _ = vmlinux(&damaged);
    }
}
