//! Where the boot spec comes from: a file of the initramfs, else a disk, else QEMU's fw_cfg.

mod disk;
mod fw_cfg;

use firstlight_protocol::boot_spec::{
    BootSpec, BootSpecError, DISK_NAME, FW_CFG_NAME, INITRAMFS_PATH, MAX_SPEC_BYTES,
};
use firstlight_protocol::module_manifest::ModuleManifest;
use nix::errno::Errno;

use crate::error::{CallError, Cause};
use crate::files;
use crate::stage::devices::Devices;
use crate::stage::modules::{Loader, ModuleError};

/// One byte more than a document may have is read, so that one too large is refused as such.
const READ_LIMIT: u64 = MAX_SPEC_BYTES as u64 + 1;

/// There is no boot spec, or none that can be used. Without one there is no key either, so this is said in
/// plain words on the console.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The document, or where it was found, is wrong.
    #[error("{error}, in {source_name}")]
    Document { error: BootSpecError, source_name: String },
    #[error(
        "boot spec: none found: neither {INITRAMFS_PATH} in the initramfs, nor a disk named {DISK_NAME}, nor \
         {FW_CFG_NAME} in fw_cfg"
    )]
    NotFound,
}

impl Cause for SpecError {
    fn errno(&self) -> Option<Errno> {
        match self {
            SpecError::Call(error) => error.errno(),
            SpecError::Module(error) => error.errno(),
            SpecError::Document { .. } | SpecError::NotFound => None,
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            SpecError::Call(error) => error.path(),
            SpecError::Module(error) => error.path(),
            SpecError::Document { .. } | SpecError::NotFound => None,
        }
    }
}

/// A document, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    bytes: Vec<u8>,
    source_name: String,
}

/// The machine, before there is a plan for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine<'a> {
    pub(crate) loader: &'a Loader,
    pub(crate) manifest: &'a ModuleManifest,
    pub(crate) devices: &'a Devices,
}

/// A place to look in: `None` when there is nothing there.
type Place<'a> = &'a dyn Fn() -> Result<Option<Found>, SpecError>;

/// Finds and reads the boot spec. Gives its document as well, for those who read it later in this boot.
///
/// # Errors
/// [`SpecError`] of the first source that has something, or when none has.
pub(crate) fn read(machine: Machine<'_>) -> Result<(BootSpec, Vec<u8>), SpecError> {
    // Drivers probe while they are loaded, so a disk that is there is seen at once. Waiting for one that is not
    // comes last: it would hold up a boot from fw_cfg.
    let found = first_of(&[&from_initramfs, &|| disk::look(machine), &|| fw_cfg::look(machine), &|| {
        disk::wait(machine)
    }])?;
    let Found { bytes, source_name } = found.ok_or(SpecError::NotFound)?;
    match BootSpec::from_json(&bytes) {
        Ok(spec) => Ok((spec, bytes)),
        Err(error) => Err(SpecError::Document { error, source_name }),
    }
}

fn first_of(places: &[Place<'_>]) -> Result<Option<Found>, SpecError> {
    for place in places {
        if let Some(found) = place()? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn from_initramfs() -> Result<Option<Found>, SpecError> {
    let found = read_file(INITRAMFS_PATH)?;
    if found.is_some() {
        // It holds the secrets of this boot, and the initramfs may be the program's root.
        std::fs::remove_file(INITRAMFS_PATH).map_err(CallError::io("remove", INITRAMFS_PATH))?;
    }
    Ok(found)
}

/// Reads a document from a file; `None` when there is no such file.
fn read_file(path: &str) -> Result<Option<Found>, SpecError> {
    let bytes = files::read(path, READ_LIMIT)?;
    Ok(bytes.map(|bytes| Found { bytes, source_name: path.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn the_first_source_that_has_something_is_taken_and_later_ones_are_not_asked() {
        let asked = RefCell::new(Vec::new());
        let place = |name: &'static str, has: bool| {
            let asked = &asked;
            move || {
                asked.borrow_mut().push(name);
                Ok(has.then(|| Found { bytes: vec![], source_name: name.to_owned() }))
            }
        };
        let (a, b, c) = (place("a", false), place("b", true), place("c", true));
        assert_eq!(first_of(&[&a, &b, &c]).unwrap().unwrap().source_name, "b");
        assert_eq!(*asked.borrow(), ["a", "b"]);
    }

    #[test]
    fn a_source_that_fails_is_not_passed_over_for_the_next() {
        let broken = || Err(SpecError::Call(CallError::on("read", "/x")(Errno::EIO)));
        let never = || panic!("asked");
        assert_eq!(first_of(&[&broken, &never]).unwrap_err().path(), Some("/x"));
    }

    #[test]
    fn a_document_too_large_is_read_no_further_than_it_takes_to_know() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(10 << 20).unwrap();
        let found = read_file(file.path().to_str().unwrap()).unwrap().unwrap();
        assert_eq!(found.bytes.len(), MAX_SPEC_BYTES + 1);
    }

    #[test]
    fn a_missing_file_is_no_error() {
        assert_eq!(read_file("/no/such/file").unwrap(), None);
    }
}
