//! One VM of a lab.

use std::path::PathBuf;

use serde_json::Value;

use crate::follow::Follower;
use crate::lab::{Finished, Lab};

/// A VM, by name. Nothing is cached: every question goes to `host-ctl`.
pub struct Vm<'lab> {
    lab: &'lab Lab,
    name: String,
}

impl<'lab> Vm<'lab> {
    pub(crate) fn new(lab: &'lab Lab, name: &str) -> Vm<'lab> {
        Vm { lab, name: name.to_owned() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory in the state directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.lab.state_dir().join("vms").join(&self.name)
    }

    /// `inspect --json`, its one object.
    #[track_caller]
    #[must_use]
    pub fn inspect(&self) -> Value {
        let inspected = self.lab.host_ctl(&["inspect", "--json", &self.name]).ok().json();
        inspected.get(0).unwrap_or(&inspected).clone()
    }

    /// Its lifecycle state.
    #[track_caller]
    #[must_use]
    pub fn state(&self) -> String {
        self.inspect()["state"].as_str().unwrap().to_owned()
    }

    /// The names of this boot's events, in order, such as `AGENT-READY`.
    #[track_caller]
    #[must_use]
    pub fn events(&self) -> Vec<String> {
        let events = self.inspect()["events"].clone();
        events.as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    }

    /// `wait --for CONDITION`.
    #[track_caller]
    pub fn wait(&self, condition: &str) {
        let _ = self.lab.host_ctl(&["wait", &self.name, "--for", condition, "--timeout", "90s"]).ok();
    }

    /// `exec NAME -- ARGV`.
    #[track_caller]
    #[must_use]
    pub fn exec(&self, argv: &[&str]) -> Finished {
        let all: Vec<&str> = ["exec", &self.name, "--"].into_iter().chain(argv.iter().copied()).collect();
        self.lab.host_ctl(&all)
    }

    /// `exec NAME -- sh -c SCRIPT`, its standard output; fails the test if the script does.
    #[track_caller]
    #[must_use]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["sh", "-c", script]).ok().text()
    }

    /// `logs NAME`: what the program printed.
    #[track_caller]
    #[must_use]
    pub fn logs(&self) -> String {
        self.lab.host_ctl(&["logs", &self.name]).ok().text()
    }

    /// `logs -f NAME`, line by line.
    #[track_caller]
    #[must_use]
    pub fn follow_logs(&self) -> Follower {
        self.lab.follow(&["logs", "-f", &self.name])
    }

    /// `events --follow --json NAME`, line by line.
    #[track_caller]
    #[must_use]
    pub fn follow_events(&self) -> Follower {
        self.lab.follow(&["events", "--follow", "--json", &self.name])
    }

    /// `stop NAME`.
    #[track_caller]
    pub fn stop(&self) {
        let _ = self.lab.host_ctl(&["stop", &self.name]).ok();
    }

    /// `rm -f NAME`.
    #[track_caller]
    pub fn remove(&self) {
        let _ = self.lab.host_ctl(&["rm", "-f", &self.name]).ok();
    }
}
