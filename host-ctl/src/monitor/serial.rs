//! The serial console: bytes from the VMM's FIFO to the serial log, and what they say.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use firstlight_protocol::sentinel::{Piece, Scanner, Sentinel};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::closing::Closing;
use super::console_output::ConsoleOutput;
use super::events::Identity;
use super::input::Input;
use crate::log::{LogError, rotate};
use crate::vm::record::Source;
use crate::vm::spec::LogLimits;

/// Most bytes moved at a time.
const CHUNK: usize = 64 * 1024;

/// The serial log, open for appending, and what is found in it.
pub(super) struct Serial {
    log: SerialLog,
    scanner: Scanner,
    identity: Identity,
    /// Where the program's output goes when the console is its only way out.
    output: Option<ConsoleOutput>,
}

/// What some bytes of the console said.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) sentinels: Vec<Sentinel>,
    pub(super) output_grew: bool,
}

impl Serial {
    /// Goes on with the log at `path`.
    pub(super) fn open(
        path: &Path,
        limits: LogLimits,
        identity: Identity,
        output: Option<ConsoleOutput>,
    ) -> Result<Serial, LogError> {
        let log = SerialLog::open(path, limits)?;
        Ok(Serial { log, scanner: Scanner::new(identity.key.clone()), identity, output })
    }

    /// Reads again what this boot's earlier monitor wrote: the files since the boot's start, of which `rotations` were
    /// rotated. Sentinels prove themselves, so a file too many does no harm.
    pub(super) fn recover(&mut self, rotations: u32) -> Result<Said, LogError> {
        let mut all = Said::default();
        let mut buffer = vec![0; CHUNK];
        for path in rotate::files(&self.log.path, rotations.saturating_add(1)) {
            let mut file = File::open(&path).map_err(LogError::new("open", &path))?;
            loop {
                let length = file.read(&mut buffer).map_err(LogError::new("read", &path))?;
                if length == 0 {
                    break;
                }
                let said = self.scan(&buffer[..length]);
                all.sentinels.extend(said.sentinels);
                all.output_grew |= said.output_grew;
            }
        }
        if let Some(output) = &mut self.output {
            output.recovered();
        }
        Ok(all)
    }

    fn scan(&mut self, bytes: &[u8]) -> Said {
        let mut said = Said::default();
        let Serial { scanner, identity, output, .. } = self;
        scanner.push(bytes, |piece| match piece {
            Piece::Sentinel(sentinel) if sentinel.boot == identity.boot => {
                if let Some(output) = output {
                    output.hear(&sentinel.event);
                }
                said.sentinels.push(sentinel);
            }
            Piece::Sentinel(_) => {}
            Piece::Output(bytes) => {
                said.output_grew |= output.as_mut().is_some_and(|output| output.write(bytes));
            }
        });
        said
    }

    /// Takes what the FIFO holds, up to a bound. `None` when it holds nothing.
    fn pump(&mut self, fifo: BorrowedFd<'_>) -> io::Result<Option<(Said, bool)>> {
        let rotated = self.log.make_room();
        let length = self.log.take(fifo)?;
        if length == 0 {
            return Ok(None);
        }
        let buffer = std::mem::take(&mut self.log.buffer);
        let said = self.scan(&buffer[..length]);
        self.log.buffer = buffer;
        Ok(Some((said, rotated)))
    }
}

/// The log as bytes.
struct SerialLog {
    path: PathBuf,
    limits: LogLimits,
    file: File,
    length: u64,
    /// The bytes moved last.
    buffer: Vec<u8>,
    /// Bytes that the disk did not take since it last did.
    lost: u64,
}

impl SerialLog {
    fn open(path: &Path, limits: LogLimits) -> Result<SerialLog, LogError> {
        // Not for appending: splice(2) refuses that. Nobody else writes.
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(LogError::new("open", path))?;
        let length = file.metadata().map_err(LogError::new("look at", path))?.len();
        Ok(SerialLog { path: path.to_owned(), limits, file, length, buffer: vec![0; CHUNK], lost: 0 })
    }

    /// Rotates a full log. Where that fails the log grows on: a byte too many is better than one lost.
    fn make_room(&mut self) -> bool {
        if self.length < self.limits.max_size {
            return false;
        }
        let new = rotate::rotate(&self.path, self.limits.max_files)
            .and_then(|()| SerialLog::open(&self.path, self.limits));
        let rotated = new.is_ok();
        if let Ok(SerialLog { file, length, .. }) = new {
            (self.file, self.length) = (file, length);
        }
        rotated
    }

    /// Moves bytes from the FIFO to the log, and has them in `buffer`; says how many. The kernel moves them at once, so
    /// a monitor killed at any instant has them in the one or in the other.
    fn take(&mut self, fifo: BorrowedFd<'_>) -> io::Result<usize> {
        let room = usize::try_from(self.limits.max_size.saturating_sub(self.length)).unwrap_or(CHUNK);
        let room = if room == 0 { CHUNK } else { room.min(CHUNK) };
        if self.lost > 0 {
            return self.take_by_hand(fifo, room);
        }
        let mut offset = self.length;
        let length = match splice(fifo, None, &self.file, Some(&mut offset), room, SpliceFlags::NONBLOCK) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(_) => return self.take_by_hand(fifo, room),
        };
        self.file.read_exact_at(&mut self.buffer[..length], self.length)?;
        self.length += length as u64;
        Ok(length)
    }

    /// The log takes no bytes, most likely because the disk is full. The guest must not wait for that: the bytes are
    /// taken and heard, and what cannot be written is counted.
    fn take_by_hand(&mut self, fifo: BorrowedFd<'_>, room: usize) -> io::Result<usize> {
        let length = match rustix::io::read(fifo, &mut self.buffer[..room]) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        if self.lost > 0 {
            bytes = format!("\n[firstlight: {} bytes were lost here: the disk was full]\n", self.lost)
                .into_bytes();
        }
        bytes.extend_from_slice(&self.buffer[..length]);
        match self.file.write_all_at(&bytes, self.length) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                self.lost = 0;
            }
            Err(_) => {
                let _ = self.file.set_len(self.length);
                self.lost += length as u64;
            }
        }
        Ok(length)
    }
}

/// Moves and hears what comes until `closing`, and then what is still there.
pub(super) async fn run(
    mut serial: Serial,
    fifo: AsyncFd<OwnedFd>,
    inputs: mpsc::Sender<Input>,
    mut closing: Closing,
) {
    loop {
        let last = tokio::select! {
            biased;
            ready = fifo.readable() => {
                if let Ok(mut ready) = ready && !pump_once(&mut serial, &fifo, &inputs).await {
                    ready.clear_ready();
                }
                false
            }
            () = closing.told() => true,
        };
        if last {
            while pump_once(&mut serial, &fifo, &inputs).await {}
            return;
        }
    }
}

/// `false` when there was nothing to move.
async fn pump_once(serial: &mut Serial, fifo: &AsyncFd<OwnedFd>, inputs: &mpsc::Sender<Input>) -> bool {
    let Ok(Some((said, rotated))) = serial.pump(fifo.as_fd()) else { return false };
    for input in inputs_of(said, Source::Serial) {
        let _ = inputs.send(input).await;
    }
    if rotated {
        let _ = inputs.send(Input::SerialRotated).await;
    }
    true
}

/// What was said, as the monitor's owner is told.
pub(super) fn inputs_of(said: Said, source: Source) -> impl Iterator<Item = Input> {
    let heard = said.sentinels.into_iter().map(move |sentinel| Input::Heard { sentinel, source });
    heard.chain(said.output_grew.then_some(Input::OutputGrew))
}

#[cfg(test)]
#[path = "serial_tests.rs"]
mod tests;
