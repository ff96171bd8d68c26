//! QEMU's guest agent, over a virtio-serial port. Source: `docs/interop/qemu-ga-ref` of QEMU.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use firstlight_tests::Lab;
use serde_json::{Value, json};

use super::LIMIT;
use crate::contest::{Outcome, run, timed};

/// The port's name, by which the guest agent is known.
const PORT: &str = "org.qemu.guest_agent.0";

/// The module that the kernel needs for it, below `lib/modules/RELEASE`.
const MODULE: &str = "kernel/drivers/char/virtio_console.ko";

/// There is no udev that would name the port. It comes some time after the module.
const START: &str = "tries=100
    while [ $tries -gt 0 ] && ! [ -e /dev/vport*p1 ]; do tries=$((tries - 1)); sleep 0.1; done
    exec qemu-ga -m virtio-serial -p /dev/vport*p1 -t /run";

/// Bytes of a file that are written by one call. It takes them as base64 in JSON, and up to 48 MiB; more at once is no faster.
const CHUNK: usize = 1 << 20;

/// How often the command's end is asked for before it is given up: `guest-exec` tells of none.
const POLLS: u32 = 100_000;

/// A connection to the agent.
pub(crate) struct QemuGa(RefCell<BufReader<UnixStream>>);

/// A QEMU that has the port, too. Everything else of its command line is what it is given.
pub(super) fn wrapper(lab: &Lab, qemu: &Path) -> PathBuf {
    let path = lab.path("qemu");
    let script = format!(
        "#!/bin/sh\nexec '{}' \"$@\" -device virtio-serial-device \
         -chardev socket,id=qga,path='{}',server=on,wait=off -device virtserialport,chardev=qga,name={PORT}\n",
        qemu.display(),
        socket(lab).display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn socket(lab: &Lab) -> PathBuf {
    lab.path("qga")
}

impl QemuGa {
    /// Starts the agent in the guest `vm` and greets it.
    pub(super) fn set_up(lab: &Lab, vm: &str, modules: &Path) -> Result<QemuGa, String> {
        let module = modules.join(MODULE);
        // A kernel that has it built in needs none.
        if module.exists() {
            let (module, target) = (module.to_string_lossy(), format!("{vm}:/virtio_console.ko"));
            run(&mut lab.command(&["cp", &module, &target]))?;
            run(&mut lab.command(&["exec", vm, "--", "insmod", "/virtio_console.ko"]))?;
        }
        run(&mut lab.command(&["exec", "-d", vm, "--", "sh", "-c", START]))?;
        let stream = UnixStream::connect(socket(lab)).map_err(failed)?;
        stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
        let agent = QemuGa(RefCell::new(BufReader::new(stream)));
        agent.call("guest-sync", &json!({ "id": 1 }))?;
        Ok(agent)
    }

    /// Runs a command and waits for its end.
    pub(crate) fn exec(&self) -> Outcome {
        timed(|| {
            let pid = self.call("guest-exec", &json!({ "path": "/bin/true" }))?;
            for _ in 0..POLLS {
                if self.call("guest-exec-status", &pid)?["exited"] == true {
                    return Ok(());
                }
            }
            Err("the guest agent's command did not end".to_owned())
        })
    }

    /// Writes a file of so many zeros.
    pub(crate) fn write(&self, path: &str, bytes: usize) -> Result<(), String> {
        let handle = self.call("guest-file-open", &json!({ "path": path, "mode": "w" }))?;
        let mut left = bytes;
        while left > 0 {
            let length = left.min(CHUNK);
            let buffer = zeros(length);
            self.call("guest-file-write", &json!({ "handle": handle, "buf-b64": buffer }))?;
            left -= length;
        }
        self.call("guest-file-close", &json!({ "handle": handle })).map(drop)
    }

    fn call(&self, command: &str, arguments: &Value) -> Result<Value, String> {
        let mut stream = self.0.borrow_mut();
        let request = json!({ "execute": command, "arguments": arguments }).to_string();
        stream.get_mut().write_all(request.as_bytes()).map_err(failed)?;
        let mut line = String::new();
        stream.read_line(&mut line).map_err(failed)?;
        let mut answer: Value = serde_json::from_str(&line)
            .map_err(|error| format!("qemu-guest-agent said {line:?}: {error}"))?;
        match answer.get_mut("return") {
            Some(value) => Ok(value.take()),
            None => Err(format!("qemu-guest-agent refused {command}: {answer}")),
        }
    }
}

/// So many zeros in base64. Source: RFC 4648, section 4.
fn zeros(bytes: usize) -> String {
    let padding = ["", "AA==", "AAA="][bytes % 3];
    "AAAA".repeat(bytes / 3) + padding
}

#[allow(clippy::needless_pass_by_value, reason = "it maps errors")]
fn failed(error: std::io::Error) -> String {
    format!("qemu-guest-agent does not answer: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_as_long_in_base64_as_any_bytes() {
        assert_eq!([3, 4, 5].map(zeros), ["AAAA", "AAAAAA==", "AAAAAAA="]);
    }
}
