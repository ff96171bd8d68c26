//! A terminal with a test in the place of the person.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

/// How long a terminal may take to become what a test waits for.
const DEADLINE: Duration = Duration::from_secs(60);

/// Both sides of a pseudoterminal.
pub struct Terminal {
    person: File,
    programs: File,
}

impl Terminal {
    /// A terminal of this size.
    #[track_caller]
    #[must_use]
    pub fn open(rows: u16, columns: u16) -> Terminal {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
        let mut options = File::options();
        let programs = std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc_noctty());
        let programs = programs.read(true).write(true).open(name).unwrap();
        let terminal = Terminal { person: person.into(), programs };
        terminal.resize(rows, columns);
        terminal
    }

    /// Changes its size, as dragging the corner of a window does.
    #[track_caller]
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.person, size).unwrap();
    }

    /// Runs a command on it, as its controlling terminal. The child's pid is the command's own.
    #[track_caller]
    #[must_use]
    pub fn run(&self, command: &Command) -> Child {
        let side = || Stdio::from(OwnedFd::from(self.programs.try_clone().unwrap()));
        // A child that leads no process group executes its command without another fork.
        let mut wrapped = Command::new("setsid");
        wrapped.arg("--ctty").arg(command.get_program()).args(command.get_args());
        wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        wrapped.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap()
    }

    /// Types.
    #[track_caller]
    pub fn type_in(&mut self, keys: &[u8]) {
        self.person.write_all(keys).unwrap();
    }

    /// Reads what is shown until it holds `text`.
    #[track_caller]
    pub fn read_until(&mut self, text: &str) -> String {
        let mut shown = Vec::new();
        let mut buffer = [0; 4096];
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut readable = [PollFd::new(&self.person, PollFlags::IN)];
            let ready = poll(&mut readable, Some(&left.try_into().unwrap())).unwrap();
            assert!(ready > 0, "no {text:?} in {:?}", String::from_utf8_lossy(&shown));
            let count = self.person.read(&mut buffer).unwrap();
            shown.extend_from_slice(&buffer[..count]);
            let so_far = String::from_utf8_lossy(&shown);
            if so_far.contains(text) {
                return so_far.into_owned();
            }
        }
    }

    /// How it is set.
    #[track_caller]
    #[must_use]
    pub fn mode(&self) -> Termios {
        tcgetattr(&self.programs).unwrap()
    }

    /// Whether every key is a byte.
    #[track_caller]
    #[must_use]
    pub fn is_raw(&self) -> bool {
        !self.mode().local_modes.contains(LocalModes::ICANON)
    }

    /// Waits until it is set as it was.
    #[track_caller]
    pub fn wait_for_mode(&self, wanted: &Termios) {
        let deadline = Instant::now() + DEADLINE;
        let modes =
            |mode: &Termios| (mode.input_modes, mode.output_modes, mode.local_modes, mode.control_modes);
        while modes(&self.mode()) != modes(wanted) {
            assert!(Instant::now() < deadline, "the terminal is still {:?}", self.mode());
            std::thread::yield_now();
        }
    }
}

/// `O_NOCTTY` of this architecture: the test's own process takes no terminal.
fn libc_noctty() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap()
}
