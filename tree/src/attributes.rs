//! Extended attributes (`xattr(7)`).

use std::os::fd::AsFd;

use firstlight_protocol::message::copy::Attribute;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, flistxattr_query, fsetxattr};
use rustix::io::Errno;

/// Bytes of an attribute's value, and of all names of a file, at most (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX_SIZE: usize = 64 * 1024;

/// Bytes of attributes that are sent with one file. An entry is one frame; only ACLs by the thousand come near.
const MAX_TOTAL: usize = 512 * 1024;

/// Attributes that say how *this* system judges the file: labels of its policy and its integrity measurements.
const NOT_COPIED: &[&[u8]] = &[b"security.selinux", b"security.SMACK64", b"security.ima", b"security.evm"];

/// The attributes of an open file, and how many had to be left out.
pub(crate) fn read(file: impl AsFd) -> Result<(Vec<Attribute>, u64), Errno> {
    let mut names = match flistxattr_query(&file) {
        // Most files have none, which costs this one call. Some file systems have none at all.
        Ok(0) | Err(Errno::NOTSUP) => return Ok((Vec::new(), 0)),
        Ok(_) => vec![0; MAX_SIZE],
        Err(errno) => return Err(errno),
    };
    let length = flistxattr(&file, names.as_mut_slice())?;
    let mut value = vec![0; MAX_SIZE];
    let (mut attributes, mut total, mut left_out) = (Vec::new(), 0, 0);
    let names = names[..length].split(|byte| *byte == 0);
    for name in names.filter(|name| !name.is_empty() && !NOT_COPIED.contains(name)) {
        let length = match fgetxattr(&file, name, value.as_mut_slice()) {
            Ok(length) => length,
            // Removed meanwhile.
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno),
        };
        total += name.len() + length;
        if total > MAX_TOTAL {
            left_out += 1;
        } else {
            attributes.push(Attribute { name: name.to_vec(), value: value[..length].to_vec() });
        }
    }
    Ok((attributes, left_out))
}

/// Sets attributes, and counts those that cannot be set here: the file system has none of their kind, or it takes other
/// rights.
pub(crate) fn write(file: impl AsFd, attributes: &[Attribute]) -> Result<u64, Errno> {
    let mut lost = 0;
    for Attribute { name, value } in attributes {
        match fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => lost += 1,
            Err(errno) => return Err(errno),
        }
    }
    Ok(lost)
}
