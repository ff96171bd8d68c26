//! A pool that is being served.

use std::process::{Child, Stdio};

use crate::lab::transport;
use crate::{Lab, host_process};

/// `host-ctl pool serve`, in a lab. Dropping it kills the process and leaves its VMs.
pub struct Served<'lab> {
    lab: &'lab Lab,
    name: &'static str,
    /// The process.
    pub child: Child,
}

impl<'lab> Served<'lab> {
    /// Serves the pool `name` with further flags, and waits until it answers. As for [`Lab::start`],
    /// `FIRSTLIGHT_TEST_TRANSPORT` says by which road its VMs are reached.
    #[track_caller]
    #[must_use]
    pub fn start(lab: &'lab Lab, name: &'static str, args: &[&str]) -> Served<'lab> {
        let road = transport(args);
        let road: Vec<&str> = road.iter().flat_map(|road| ["--transport", road]).collect();
        let all = [&["pool", "serve", name, "--boot-timeout", "120s"][..], &road, args].concat();
        let child = lab.command(&all).stderr(Stdio::null()).spawn().unwrap();
        let served = Served { lab, name, child };
        while served.lab.host_ctl(&["pool", "status", name]).code() != 0 {
            assert!(served.is_served(), "pool serve ended");
        }
        served
    }

    /// Whether it is served still.
    #[must_use]
    pub fn is_served(&self) -> bool {
        host_process::is_alive(self.child.id())
    }

    /// What it says of itself.
    #[track_caller]
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        self.lab.host_ctl(&["pool", "status", self.name, "--json"]).ok().json()
    }

    /// Waits until so many VMs are ready.
    #[track_caller]
    pub fn wait_ready(&self, count: u64) {
        while self.status()["phases"]["ready"].as_u64() < Some(count) {
            assert!(self.is_served(), "pool serve ended");
        }
    }

    /// A VM for `ttl`, as soon as there is one: its name and the lease.
    #[track_caller]
    #[must_use]
    pub fn acquire(&self, ttl: &str) -> (String, String) {
        let args = ["pool", "acquire", self.name, "--json", "--timeout", "170s", "--ttl", ttl];
        let granted = self.lab.host_ctl(&args).ok().json();
        (granted["vm"].as_str().unwrap().to_owned(), granted["lease"].as_str().unwrap().to_owned())
    }

    /// Gives a VM back.
    #[track_caller]
    pub fn release(&self, vm: &str) {
        let _ = self.lab.host_ctl(&["pool", "release", self.name, vm]).ok();
    }

    /// Ends the pool in order.
    #[track_caller]
    pub fn end(mut self) {
        let _ = self.lab.host_ctl(&["pool", "drain", self.name, "--cut-after", "0s"]).ok();
        assert!(self.child.wait().unwrap().success());
    }

    /// The same, and checks that nothing is left in the lab.
    #[track_caller]
    pub fn drain(self) {
        let (lab, name) = (self.lab, self.name);
        self.end();
        assert_eq!(lab.host_ctl(&["ps", "-a", "-q"]).text(), "");
        assert!(!lab.state_dir().join("pools").join(name).exists());
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        // Where the test has failed, the lab removes the VMs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
