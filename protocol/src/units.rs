//! The systemd units that carry Firstlight in a guest whose PID 1 is systemd.
//!
//! The same units serve two roads: guest-init writes them to `/run` before it hands PID 1 over, and `image bake` writes
//! them into an image that boots by itself. They are text made of paths, so this module is as pure as the rest.
//! Sources: `systemd.unit(5)`, `systemd.service(5)`, `systemd.exec(5)`.

use crate::headers::STATUS_PATH;

/// What is installed for systemd, by which road the settings arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settings {
    /// guest-init was PID 1 before and has left them in [`DIRECTORY`].
    HandedOver,
    /// They are the system credential [`CREDENTIAL`].
    Credential,
}

/// The system credential that holds a baked image's boot spec. Source: `systemd-creds(1)`.
pub const CREDENTIAL: &str = "firstlight.boot";

/// Where everything of ours is at run time: tmpfs, mode 0700.
pub const DIRECTORY: &str = "/run/firstlight";

/// This boot's spec, for those of guest-init's processes that are not PID 1: on tmpfs, mode 0600, with the secrets.
pub const BOOT_SPEC_PATH: &str = "/run/firstlight/boot.json";

/// The agent's configuration: on tmpfs, mode 0600, with its token.
pub const AGENT_CONFIG_PATH: &str = "/run/firstlight/agent.json";

/// The program that systemd gives PID 1 to at the very end, once it has unmounted what it could: guest-init once more.
/// Source: "Restoring the initrd" in systemd's interface with initrds (`INITRD_INTERFACE`).
pub const SHUTDOWN_PATH: &str = "/run/initramfs/shutdown";

/// The argument by which guest-init knows that it is to carry the event stream.
pub const EVENTS_COMMAND: &str = "events";

/// The argument by which it is to report one event, which follows.
pub const REPORT_COMMAND: &str = "report";

/// The argument by which it is to take a baked image's settings from the credential.
pub const ADOPT_COMMAND: &str = "adopt";

/// The argument by which it is to install the kernel headers that the spec names.
pub const HEADERS_COMMAND: &str = "install-headers";

/// The event of [`REPORT_COMMAND`] that says that the agent listens.
pub const REPORT_AGENT_READY: &str = "agent-ready";

/// The event of [`REPORT_COMMAND`] that says how the agent ended, from the variables of `systemd.exec(5)`.
pub const REPORT_AGENT_EXIT: &str = "agent-exit";

/// The event of [`REPORT_COMMAND`] that says how the installation of headers ended, from their status.
pub const REPORT_HEADERS_END: &str = "headers-end";

/// The target whose start brings ours: the earliest that every system has. None of ours is ordered against it, so none
/// delays it.
pub const WANTED_BY: &str = "sysinit.target";

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its file's name.
    pub name: &'static str,
    /// Its file.
    pub text: String,
}

/// What the units are made of.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// guest-init's path in the guest.
    pub init: &'a str,
    /// guest-agent's path in the guest, or `None` where there is no agent.
    pub agent: Option<&'a str>,
    /// The road of the settings.
    pub settings: Settings,
    /// How long the agent may take to listen, in milliseconds.
    pub ready_timeout_ms: u32,
}

impl Layout<'_> {
    /// The units, each wanted by [`WANTED_BY`].
    #[must_use]
    pub fn units(&self) -> Vec<Unit> {
        let mut units = vec![self.events()];
        units.extend(self.agent.map(|agent| self.agent(agent)));
        units.push(self.headers());
        units
    }

    /// The event stream has no conflict with `shutdown.target`: it should hear and tell until the last moment.
    fn events(&self) -> Unit {
        let (init, condition) = (self.init, self.condition());
        let (driver, adopt) = match self.settings {
            Settings::HandedOver => ("", String::new()),
            Settings::Credential => (
                "Wants=modprobe@vmw_vsock_virtio_transport.service\n\
                 After=modprobe@vmw_vsock_virtio_transport.service\n",
                format!("LoadCredential={CREDENTIAL}\nExecStartPre={init} {ADOPT_COMMAND}\n"),
            ),
        };
        let text = format!(
            "[Unit]\n\
             Description=Firstlight event stream to the host\n\
             DefaultDependencies=no\n\
             StartLimitIntervalSec=0\n\
             {condition}{driver}\
             \n\
             [Service]\n\
             {adopt}\
             ExecStart={init} {EVENTS_COMMAND}\n\
             Restart=always\n\
             RestartSec=100ms\n\
             OOMScoreAdjust=-1000\n"
        );
        Unit { name: "firstlight-events.service", text: text + &self.install() }
    }

    fn agent(&self, agent: &str) -> Unit {
        let (init, condition, timeout) = (self.init, self.condition(), self.ready_timeout_ms);
        let order = self.order();
        let text = format!(
            "[Unit]\n\
             Description=Firstlight agent\n\
             DefaultDependencies=no\n\
             Conflicts=shutdown.target\n\
             Before=shutdown.target\n\
             StartLimitIntervalSec=0\n\
             {condition}{order}\
             \n\
             [Service]\n\
             Type=notify\n\
             NotifyAccess=main\n\
             ExecStart={agent} --config {AGENT_CONFIG_PATH}\n\
             ExecStartPost={init} {REPORT_COMMAND} {REPORT_AGENT_READY}\n\
             ExecStopPost={init} {REPORT_COMMAND} {REPORT_AGENT_EXIT}\n\
             Restart=always\n\
             RestartSec=100ms\n\
             TimeoutStartSec={timeout}ms\n\
             TimeoutStopSec=4s\n\
             KillMode=mixed\n"
        );
        Unit { name: "firstlight-agent.service", text: text + &self.install() }
    }

    /// It runs where there is a status to begin with, which whoever reads the spec makes when it asks for headers. Its start
    /// is over with its `execve`, so not even systemd's own "running" waits for the installation.
    fn headers(&self) -> Unit {
        let (init, order) = (self.init, self.order());
        let text = format!(
            "[Unit]\n\
             Description=Firstlight kernel headers\n\
             DefaultDependencies=no\n\
             Conflicts=shutdown.target\n\
             Before=shutdown.target\n\
             ConditionPathExists={STATUS_PATH}\n\
             {order}\
             \n\
             [Service]\n\
             Type=exec\n\
             ExecStart={init} {HEADERS_COMMAND}\n\
             ExecStopPost={init} {REPORT_COMMAND} {REPORT_HEADERS_END}\n\
             Nice=19\n\
             CPUSchedulingPolicy=idle\n\
             IOSchedulingClass=idle\n\
             TimeoutStopSec=10s\n"
        );
        Unit { name: "firstlight-headers.service", text: text + &self.install() }
    }

    /// A baked image's settings are there once the event stream has adopted them.
    fn order(&self) -> &'static str {
        match self.settings {
            Settings::HandedOver => "",
            Settings::Credential => "Requires=firstlight-events.service\nAfter=firstlight-events.service\n",
        }
    }

    /// A baked image boots without a host too; then there is nobody to talk to.
    fn condition(&self) -> String {
        match self.settings {
            Settings::HandedOver => String::new(),
            Settings::Credential => format!("ConditionCredential={CREDENTIAL}\n"),
        }
    }

    /// `systemctl preset` and people look for it; units in `/run` are linked by hand either way.
    fn install(&self) -> String {
        match self.settings {
            Settings::HandedOver => String::new(),
            Settings::Credential => format!("\n[Install]\nWantedBy={WANTED_BY}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(settings: Settings) -> Layout<'static> {
        Layout { init: "/x/init", agent: Some("/x/agent"), settings, ready_timeout_ms: 1500 }
    }

    /// The values of a key, in order.
    fn values<'a>(unit: &'a Unit, key: &str) -> Vec<&'a str> {
        unit.text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
    }

    #[test]
    fn no_unit_waits_for_the_network_or_delays_a_target() {
        for settings in [Settings::HandedOver, Settings::Credential] {
            for unit in layout(settings).units() {
                assert_eq!(values(&unit, "DefaultDependencies"), ["no"], "{}", unit.name);
                let before: Vec<&str> =
                    values(&unit, "Before").into_iter().filter(|unit| *unit != "shutdown.target").collect();
                assert!(before.is_empty(), "{} delays {before:?}", unit.name);
                assert!(!unit.text.contains("network"), "{}", unit.text);
            }
        }
    }

    #[test]
    fn no_unit_carries_a_secret_in_its_command_or_environment() {
        for unit in layout(Settings::Credential).units() {
            assert!(values(&unit, "Environment").is_empty());
            for command in values(&unit, "ExecStart") {
                let words: Vec<&str> = command.split(' ').collect();
                assert!(words.len() <= 3, "{command}");
            }
        }
    }

    #[test]
    fn a_vm_without_an_agent_has_the_event_stream_alone() {
        let units = Layout { agent: None, ..layout(Settings::HandedOver) }.units();
        assert!(units.iter().all(|unit| unit.name != "firstlight-agent.service"), "{units:?}");
        assert!(units.iter().any(|unit| unit.name == "firstlight-events.service"), "{units:?}");
    }

    #[test]
    fn only_a_baked_image_asks_for_its_credential() {
        for unit in layout(Settings::HandedOver).units() {
            assert!(!unit.text.contains("Credential"), "{}", unit.text);
        }
        for unit in layout(Settings::Credential).units() {
            let asks = values(&unit, "ConditionCredential") == [CREDENTIAL];
            // What needs a unit that was not started because of its condition finds no settings, and has a condition too.
            assert!(asks || !values(&unit, "ConditionPathExists").is_empty(), "{}", unit.text);
        }
    }
}
