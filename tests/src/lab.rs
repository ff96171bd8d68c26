//! A state directory of its own, and `host-ctl` in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use wait_timeout::ChildExt as _;

use crate::follow::Follower;
use crate::vm::Vm;
use crate::{leftovers, requirement};

/// No single command of a test takes longer; under emulation on a busy machine most take two seconds.
const COMMAND_DEADLINE: Duration = Duration::from_secs(180);

/// A test's own corner of the machine. Dropping it removes its VMs and fails the test if anything is left.
pub struct Lab {
    dir: tempfile::TempDir,
}

/// A command that ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: String,
}

impl Finished {
    /// Its exit code; a signal fails the test.
    #[track_caller]
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// Its standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Itself, if it exited with 0; fails the test otherwise.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Finished {
        assert!(self.status.success(), "{:?}\nstdout: {}\nstderr: {}", self.status, self.text(), self.stderr);
        self
    }

    /// Its standard output as JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Lab {
    /// A new lab, or `None` (with the reason said) where the machine cannot run VMs.
    #[track_caller]
    #[must_use]
    pub fn open() -> Option<Lab> {
        if requirement::skip() {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("firstlight-lab-").tempdir().unwrap();
        Some(Lab { dir })
    }

    /// A path in the lab, outside the state directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    /// `host-ctl ARGS` in this lab, not yet started, with its three streams piped or empty.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(requirement::host_ctl());
        command.env("FIRSTLIGHT_STATE_DIR", self.state_dir()).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `host-ctl ARGS` to its end.
    #[track_caller]
    #[must_use]
    pub fn host_ctl(&self, args: &[&str]) -> Finished {
        finish(self.command(args).spawn().unwrap())
    }

    /// Starts a VM in the background with `host-ctl run -d --name NAME ARGS`, which returns at Running. What
    /// `FIRSTLIGHT_TEST_TRANSPORT` says is its `--transport`, so that every test can be run over either road.
    #[track_caller]
    #[must_use]
    pub fn start(&self, name: &str, args: &[&str]) -> Vm<'_> {
        let road = transport(args);
        let road: Vec<&str> = road.iter().flat_map(|road| ["--transport", road]).collect();
        let _ = self.host_ctl(&[&["run", "-d", "--name", name][..], &road, args].concat()).ok();
        Vm::new(self, name)
    }

    /// Starts `host-ctl ARGS` and reads its standard output line by line.
    #[track_caller]
    #[must_use]
    pub fn follow(&self, args: &[&str]) -> Follower {
        Follower::new(self.command(args).stderr(Stdio::null()).spawn().unwrap())
    }

    /// The VM `name`, however it came to be.
    #[must_use]
    pub fn vm(&self, name: &str) -> Vm<'_> {
        Vm::new(self, name)
    }

    /// The VM `name` that another command is about to make, as soon as it is there.
    #[track_caller]
    #[must_use]
    pub fn wait_for_vm(&self, name: &str) -> Vm<'_> {
        let deadline = Instant::now() + COMMAND_DEADLINE;
        while self.host_ctl(&["inspect", name]).code() != 0 {
            assert!(Instant::now() < deadline, "no VM {name}");
        }
        Vm::new(self, name)
    }

    /// Removes every VM, and fails the test if a process, socket or file of the lab is left.
    #[track_caller]
    fn close(&self) {
        let names = self.host_ctl(&["ps", "-a", "-q"]).text();
        for name in names.lines() {
            let _ = self.host_ctl(&["rm", "-f", name]).ok();
        }
        leftovers::assert_none(self.dir.path());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test has failed already; show what its VMs said, then clean up as well as can be.
            for name in self.host_ctl(&["ps", "-a", "-q"]).text().lines() {
                eprintln_serial(&self.state_dir().join("vms").join(name));
                let _ = self.host_ctl(&["rm", "-f", name]);
            }
        } else {
            self.close();
        }
    }
}

#[allow(clippy::print_stderr, reason = "the test runner captures it and shows it with the failure")]
fn eprintln_serial(vm: &Path) {
    for log in ["serial.log", "boot/monitor.log", "boot/vsock-backend.log"] {
        let text = std::fs::read(vm.join(log)).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(4096)..];
        eprintln!("--- {} ---\n{}", vm.join(log).display(), String::from_utf8_lossy(tail));
    }
}

/// The road by which this run of the tests is to reach guests, if it is to be a certain one and `args` have no other.
#[must_use]
pub(crate) fn transport(args: &[&str]) -> Option<String> {
    std::env::var("FIRSTLIGHT_TEST_TRANSPORT").ok().filter(|_| !args.contains(&"--transport"))
}

/// Waits for a started command, reading both of its streams.///
/// # Panics
/// When it takes longer than any command may.
#[track_caller]
#[must_use]
pub fn finish(mut child: Child) -> Finished {
    let read = |stream: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let stdout = read(child.stdout.take().map(|stream| Box::new(stream) as _));
    let stderr = read(child.stderr.take().map(|stream| Box::new(stream) as _));
    let Some(status) = child.wait_timeout(COMMAND_DEADLINE).unwrap() else {
        child.kill().unwrap();
        let stderr = stderr.join().unwrap();
        panic!("a command took over {COMMAND_DEADLINE:?}; stderr: {}", String::from_utf8_lossy(&stderr));
    };
    let stderr = String::from_utf8_lossy(&stderr.join().unwrap()).into_owned();
    Finished { status, stdout: stdout.join().unwrap(), stderr }
}
