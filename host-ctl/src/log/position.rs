//! How much of the program's output is in the log, kept beside it so that a new monitor need not read all of it.
//!
//! The log is written first, the position after. A monitor killed in between leaves a position that is behind; what the
//! log holds after it is read and added.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use firstlight_protocol::message::output::{self, Stream};

use super::{LogError, cri, rotate};

const LEN: usize = 32;

/// How much of the output is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The log file's inode: after a rotation another file has the name.
    inode: u64,
    /// Its length.
    length: u64,
    /// Bytes of the program's standard output that are written.
    stdout: u64,
    /// Bytes of its standard error.
    stderr: u64,
}

impl Position {
    /// The streams' part.
    #[must_use]
    pub fn streams(&self) -> output::Position {
        output::Position { stdout: self.stdout, stderr: self.stderr }
    }

    /// Bytes of `stream` that are written.
    #[must_use]
    pub fn of(&self, stream: Stream) -> u64 {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }

    /// Adds what whole `lines` of the log stand for.
    pub(super) fn count(&mut self, lines: &[u8]) {
        for line in lines.split(|byte| *byte == b'\n').filter_map(cri::parse) {
            match line.entry.advance() {
                (Stream::Stdout, bytes) => self.stdout += bytes,
                (Stream::Stderr, bytes) => self.stderr += bytes,
            }
        }
    }

    /// Makes this boot's output begin at `streams`: what came before is in another VM's log.
    pub(super) fn begin_at(streams: output::Position) -> Position {
        Position { stdout: streams.stdout, stderr: streams.stderr, ..Position::default() }
    }

    pub(super) fn set_file(&mut self, inode: u64, length: u64) {
        (self.inode, self.length) = (inode, length);
    }

    pub(super) fn write(&self, file: &File) -> io::Result<()> {
        let mut bytes = [0; LEN];
        for (slot, number) in
            bytes.chunks_exact_mut(8).zip([self.inode, self.length, self.stdout, self.stderr])
        {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        file.write_all_at(&bytes, 0)
    }

    /// The position in `file`, or the beginning when none was ever written.
    fn read(file: &File) -> io::Result<Position> {
        let mut bytes = [0; LEN];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Position::default()),
            Err(error) => return Err(error),
        }
        let mut numbers = bytes
            .chunks_exact(8)
            .map(|slot| slot.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)));
        let mut next = || numbers.next().unwrap_or_default();
        Ok(Position { inode: next(), length: next(), stdout: next(), stderr: next() })
    }

    /// The position that `file` holds, brought up to what the log at `path` holds. A line that was torn by a kill is
    /// cut off the log: its bytes will be sent again.
    pub(super) fn recover(file: &File, path: &Path) -> Result<Position, LogError> {
        let mut position = Position::read(file).map_err(LogError::new("read the position of", path))?;
        if position == Position::default() {
            // A position is written before the first line, so nothing of this boot is in the log.
            return Ok(position);
        }
        let inode = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.ino()).ok();
        let previous = rotate::rotated(path, 1);
        let mut start = position.length;
        if inode(path) != Some(position.inode) {
            // Killed between a rotation and the write of the position after it.
            start = 0;
            if inode(&previous) == Some(position.inode) {
                position.count_from(&previous, position.length)?;
            }
        }
        position.count_from(path, start)?;
        Ok(position)
    }

    /// Adds what the log file `path` holds from `start` on.
    fn count_from(&mut self, path: &Path, start: u64) -> Result<(), LogError> {
        let mut file = match File::options().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(LogError::new("open", path)(error)),
        };
        let mut bytes = Vec::new();
        let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_to_end(&mut bytes));
        read.map_err(LogError::new("read", path))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.count(&bytes[..whole]);
        if whole < bytes.len() {
            file.set_len(start + whole as u64).map_err(LogError::new("truncate", path))?;
        }
        Ok(())
    }
}
