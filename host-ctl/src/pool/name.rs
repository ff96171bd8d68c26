//! What pools and their VMs are called.

use super::error::PoolError;
use super::policy::MemberId;
use crate::vm::id::{MAX_NAME, is_name};

/// Bytes of the longest number of a VM, and of the dash before it.
const NUMBER: usize = 21;

/// The longest name of a pool: with a VM's number after it, it is a VM's name.
pub const MAX_POOL_NAME: usize = MAX_NAME - NUMBER;

/// Refuses what cannot be a pool's name.
///
/// # Errors
/// [`PoolError::BadName`].
pub(super) fn check_name(name: &str) -> Result<(), PoolError> {
    if is_name(name) && name.len() <= MAX_POOL_NAME {
        Ok(())
    } else {
        Err(PoolError::BadName { name: name.to_owned(), most: MAX_POOL_NAME })
    }
}

/// The name of a VM of `pool`.
#[must_use]
pub fn vm_name(pool: &str, vm: MemberId) -> String {
    format!("{pool}-{vm}")
}

/// Which VM of `pool` has this name.
pub(super) fn vm_number(pool: &str, name: &str) -> Option<MemberId> {
    let number = name.strip_prefix(pool)?.strip_prefix('-')?.parse().ok().map(MemberId)?;
    // `07` and `+7` are numbers too, but no VM's.
    (vm_name(pool, number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_s_name_is_read_as_it_is_written() {
        assert_eq!(vm_number("web", &vm_name("web", MemberId(17))), Some(MemberId(17)));
        for name in ["web-", "web-017", "web-+17", "web-1-7", "we-17", "web17", "17"] {
            assert_eq!(vm_number("web", name), None, "{name}");
        }
    }

    #[test]
    fn a_pool_s_name_leaves_room_for_its_vms_numbers() {
        let longest = "p".repeat(MAX_POOL_NAME);
        check_name(&longest).unwrap();
        assert!(is_name(&vm_name(&longest, MemberId(u64::MAX))));
        check_name(&"p".repeat(MAX_POOL_NAME + 1)).unwrap_err();
        check_name("../x").unwrap_err();
    }
}
