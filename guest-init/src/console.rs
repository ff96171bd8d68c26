//! The serial console.

use std::fs::File;
use std::io::Write;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};

/// Where to write, best first: the console, the kernel's log, nowhere. A machine without a console still boots.
const PLACES: [&str; 3] = ["/dev/console", "/dev/kmsg", "/dev/null"];

/// Opens the console, or what is left to write to.
///
/// # Errors
/// Those of `open(2)`, of the last place; `/dev/null` is missing only where `/dev` is not mounted.
pub(crate) fn open() -> nix::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mut opened = Err(Errno::ENOENT);
    for place in PLACES {
        opened = nix::fcntl::open(place, flags, Mode::empty());
        if opened.is_ok() {
            break;
        }
    }
    opened.map(File::from)
}

/// Whether the terminal leaves line ends as they are. A program without an agent has the console for its output,
/// and what it writes should reach the host unchanged; a shell's user wants to read.
pub(crate) fn set_verbatim(console: &File, verbatim: bool) {
    // What is no terminal changes nothing anyway.
    if let Ok(mut settings) = tcgetattr(console) {
        settings.output_flags.set(OutputFlags::OPOST, !verbatim);
        let _ = tcsetattr(console, SetArg::TCSANOW, &settings);
    }
}

/// Says a line before there is anything to say it with: standard error is the console the kernel opened.
pub(crate) fn say(text: &str) {
    // One write, so that kernel messages do not come in between.
    let line = format!("guest-init: {text}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
