//! The files every boot is made from.

use firstlight_host_ctl::assets::{self, Environment, Wanted};

use super::Finding;

/// Looks for the files as a run does. The library stops at the first that is missing and says how to mend it.
pub(super) fn check(environment: &Environment) -> Vec<Finding> {
    let wanted = |builtin_root| Wanted { builtin_root, ..Wanted::default() };
    let found = match assets::find(&wanted(false), environment) {
        Ok(found) => found,
        Err(error) => {
            return vec![Finding::bad("files", error.to_string(), "see above; then run doctor again")];
        }
    };
    let mut findings = vec![
        Finding::good("kernel", found.kernel.display().to_string()),
        Finding::good("modules", found.modules.display().to_string()),
        Finding::good("guest-init", found.guest_init.display().to_string()),
        Finding::good("guest-agent", found.guest_agent.display().to_string()),
    ];
    findings.push(match assets::find(&wanted(true), environment) {
        Ok(found) => Finding::good("busybox", found.busybox.unwrap_or_default().display().to_string()),
        Err(error) => Finding::bad("busybox", error.to_string(), "or give every run a --rootfs").optional(),
    });
    findings
}
