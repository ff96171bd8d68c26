//! OpenSSH's server in the guest, and ssh, scp and rsync to it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use firstlight_tests::Lab;

use super::network::Network;
use crate::contest::{Outcome, run, timed_command};

/// Where ssh finds what it is to know, instead of in the user's home directory.
const CONFIG: &str = "ssh_config";

/// How the guest is called in it: with a connection for each command, and over one that is kept.
const FRESH: &str = "guest";
const KEPT: &str = "guest-kept";

/// Seconds for which a connection is kept that nobody uses.
const KEPT_FOR: u32 = 120;

/// The directory that the server needs besides its package, and whose keys it takes, in the guest.
const RUN_DIR: &str = "/run/sshd";
const AUTHORIZED_KEYS: &str = "/run/sshd/authorized_keys";

/// A server that lets us in.
pub(crate) struct Ssh {
    network: Arc<Network>,
    config: PathBuf,
}

impl Ssh {
    /// Starts the server in the guest `vm`, whose link is in `network`.
    pub(super) fn set_up(lab: &Lab, vm: &str, network: Arc<Network>) -> Result<Ssh, String> {
        let (key, config) = (lab.path("id"), lab.path(CONFIG));
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key))?;
        std::fs::write(&config, configuration(&lab.path("")))
            .map_err(|error| format!("cannot write {}: {error}", config.display()))?;
        let in_guest = |arguments: &[&str]| run(&mut lab.command(arguments)).map(drop);
        in_guest(&["exec", vm, "--", "mkdir", "-p", "-m", "755", RUN_DIR])?;
        let public = key.with_extension("pub");
        in_guest(&["cp", &public.to_string_lossy(), &format!("{vm}:{AUTHORIZED_KEYS}")])?;
        let keys = format!("AuthorizedKeysFile={AUTHORIZED_KEYS}");
        in_guest(&["exec", vm, "--", "chmod", "600", AUTHORIZED_KEYS])?;
        in_guest(&["exec", "-d", vm, "--", "/usr/sbin/sshd", "-D", "-o", &keys])?;
        let ssh = Ssh { network, config };
        ssh.exec()?;
        ssh.exec_kept()?;
        Ok(ssh)
    }

    /// A command over a connection of its own.
    pub(crate) fn exec(&self) -> Outcome {
        self.timed(self.ssh().args([FRESH, "true"]))
    }

    /// A command over the connection that is kept.
    pub(crate) fn exec_kept(&self) -> Outcome {
        self.timed(self.ssh().args([KEPT, "true"]))
    }

    /// Copies a file or a directory into the guest's directory `to`.
    pub(crate) fn scp_in(&self, from: &Path, to: &str) -> Outcome {
        self.timed(self.scp().arg(from).arg(format!("{FRESH}:{to}")))
    }

    /// Copies a file of the guest's to here.
    pub(crate) fn scp_out(&self, from: &str, to: &Path) -> Outcome {
        self.timed(self.scp().arg(format!("{FRESH}:{from}")).arg(to))
    }

    /// The same with rsync.
    pub(crate) fn rsync_in(&self, from: &Path, to: &str) -> Outcome {
        self.timed(self.rsync().arg(from).arg(format!("{FRESH}:{to}")))
    }

    /// The same with rsync.
    pub(crate) fn rsync_out(&self, from: &str, to: &Path) -> Outcome {
        self.timed(self.rsync().arg(format!("{FRESH}:{from}")).arg(to))
    }

    fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(&self.config);
        command
    }

    fn scp(&self) -> Command {
        let mut command = Command::new("scp");
        command.args(["-q", "-r", "-F"]).arg(&self.config);
        command
    }

    fn rsync(&self) -> Command {
        let mut command = Command::new("rsync");
        command.arg("-a").arg("-e").arg(format!("ssh -F {}", self.config.display()));
        command
    }

    fn timed(&self, command: &mut Command) -> Outcome {
        self.network.within(|| timed_command(command))
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        // It would end by itself; by now it may have.
        let _ = self.network.within(|| run(self.ssh().args(["-O", "exit", KEPT])));
    }
}

/// What ssh is to know. Defaults where a user would have them.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    let guest = Network::guest();
    format!(
        "Host {KEPT}\n  ControlMaster auto\n  ControlPersist {KEPT_FOR}\n  ControlPath {dir}/ssh-kept\n\
         Host *\n  HostName {guest}\n  User root\n  IdentityFile {dir}/id\n  IdentitiesOnly yes\n  BatchMode yes\n  \
         StrictHostKeyChecking no\n  UserKnownHostsFile {dir}/known_hosts\n  LogLevel ERROR\n  \
         ConnectionAttempts 60\n  ConnectTimeout 60\n"
    )
}
