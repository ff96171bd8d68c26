//! Signatures at the end of kernel modules.
//!
//! A kernel that finds one verifies it before it loads the module, whether it insists on signatures or not: a hash over
//! the whole file and a public-key operation. Emulated, that is most of the time a module takes to load.
//! `docs/decisions/0010-module-signatures.md` says what taking it away costs.

/// What to do with the signatures of the modules in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signatures {
    /// Modules are packed as they are: for kernels that load no others.
    #[default]
    Keep,
    /// Modules are packed without. The kernel loads them faster, and marks itself as tainted (`E`).
    Strip,
}

/// What a signed module ends with. Source: `MODULE_SIG_STRING` in the kernel's `linux/module_signature.h`.
const MAGIC: &[u8] = b"~Module signature appended~\n";

/// Bytes of the kernel's `struct module_signature`, which stands before [`MAGIC`]; its last four are the signature's
/// length, most significant byte first.
const TRAILER: usize = 12;

/// Cuts the signature off `module`. One that has none, or none the kernel would understand, stays as it is.
pub(crate) fn strip(module: &mut Vec<u8>) {
    if let Some(length) = unsigned_length(module) {
        module.truncate(length);
    }
}

fn unsigned_length(module: &[u8]) -> Option<usize> {
    let rest = module.strip_suffix(MAGIC)?;
    let (rest, trailer) = rest.split_last_chunk::<TRAILER>()?;
    let [_algorithm, _hash, _kind, signer, key, _, _, _, length @ ..] = *trailer;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    let appended = length.checked_add(usize::from(signer) + usize::from(key))?;
    rest.len().checked_sub(appended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signed(module: &[u8], signature: &[u8]) -> Vec<u8> {
        let length = u32::try_from(signature.len()).unwrap().to_be_bytes();
        [module, signature, &[0, 0, 2, 0, 0, 0, 0, 0], &length, MAGIC].concat()
    }

    proptest! {
        #[test]
        fn a_signed_module_is_what_it_was_before_it_was_signed(module: Vec<u8>, signature: Vec<u8>) {
            let mut stripped = signed(&module, &signature);
            strip(&mut stripped);
            prop_assert_eq!(stripped, module);
        }

        #[test]
        fn whatever_stands_before_the_magic_only_the_end_is_cut(bytes: Vec<u8>) {
            let mut module = [&bytes[..], MAGIC].concat();
            let before = module.clone();
            strip(&mut module);
            prop_assert!(before.starts_with(&module));
        }
    }

    #[test]
    fn a_module_without_a_signature_stays_as_it_is() {
        let mut module = b"\x7fELF and so on".to_vec();
        strip(&mut module);
        assert_eq!(module, b"\x7fELF and so on");
    }

    #[test]
    fn a_signature_longer_than_the_file_is_left_alone() {
        let mut module = signed(b"module", b"signature");
        let length_at = module.len() - MAGIC.len() - 4;
        module[length_at] = 1;
        let before = module.clone();
        strip(&mut module);
        assert_eq!(module, before);
    }
}
