//! Writes the program's output.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use firstlight_protocol::message::output::{self, Stream};

use super::position::Position;
use super::{LogError, cri, rotate};
use crate::vm::spec::LogLimits;

/// The log of a program's output, open for appending. Only the monitor has one.
#[derive(Debug)]
pub struct OutputLog {
    path: PathBuf,
    limits: LogLimits,
    log: File,
    /// Bytes of whole lines in the current file.
    length: u64,
    position_file: File,
    position: Position,
    rotations: u64,
}

impl OutputLog {
    /// Opens the log at `path` to go on where it ends. `position_file` belongs to one boot: without it the program has
    /// written nothing yet, and what the log holds is earlier boots'.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(path: &Path, position_file: &Path, limits: LogLimits) -> Result<OutputLog, LogError> {
        let log = open(path)?;
        let positions = open(position_file)?;
        let mut position = Position::recover(&positions, path)?;
        let metadata = log.metadata().map_err(LogError::new("look at", path))?;
        let length = end_last_line(&log, metadata.len()).map_err(LogError::new("append to", path))?;
        position.set_file(metadata.ino(), length);
        position.write(&positions).map_err(LogError::new("write", position_file))?;
        let path = path.to_owned();
        Ok(OutputLog { path, limits, log, length, position_file: positions, position, rotations: 0 })
    }

    /// Makes a boot's `position_file` say that its output begins at `streams`: what came before is another VM's.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn begin_at(position_file: &Path, streams: output::Position) -> Result<(), LogError> {
        let positions = open(position_file)?;
        let written = Position::begin_at(streams).write(&positions);
        written.map_err(LogError::new("write", position_file))
    }

    /// How much of the program's output is written.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// How often this value has rotated the log.
    #[must_use]
    pub fn rotations(&self) -> u64 {
        self.rotations
    }

    /// Appends bytes of `stream` that begin at `sequence` of it. What is written already is skipped, and what was lost
    /// before `sequence` is noted.
    ///
    /// # Errors
    /// [`LogError`], such as a full disk. What was written before it counts, and the call may be repeated.
    pub fn append(
        &mut self,
        wall_ns: u64,
        stream: Stream,
        sequence: u64,
        bytes: &[u8],
    ) -> Result<(), LogError> {
        let written = self.position.of(stream);
        let mut lines = Vec::new();
        if sequence > written {
            cri::write_gap(&mut lines, wall_ns, stream, sequence - written);
        }
        let known = usize::try_from(written.saturating_sub(sequence)).unwrap_or(usize::MAX);
        cri::write(&mut lines, wall_ns, stream, bytes.get(known..).unwrap_or_default());
        let mut rest = lines.as_slice();
        while !rest.is_empty() {
            let (fitting, after) = rest.split_at(self.fitting(rest));
            if fitting.is_empty() {
                self.rotate()?;
            } else {
                self.append_lines(fitting)?;
                rest = after;
            }
        }
        Ok(())
    }

    /// How many bytes of `lines`, in whole lines, the current file still takes. An empty file takes any one line.
    fn fitting(&self, lines: &[u8]) -> usize {
        let room = usize::try_from(self.limits.max_size.saturating_sub(self.length)).unwrap_or(usize::MAX);
        if lines.len() <= room {
            return lines.len();
        }
        let end_of_line =
            |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        match lines[..room].iter().rposition(|byte| *byte == b'\n') {
            Some(last) => last + 1,
            None if self.length == 0 => end_of_line(lines),
            None => 0,
        }
    }

    fn append_lines(&mut self, lines: &[u8]) -> Result<(), LogError> {
        if let Err(error) = self.log.write_all_at(lines, self.length) {
            // None of what did not fit may stay: readers take what is there for output.
            let _ = self.log.set_len(self.length);
            return Err(LogError::new("append to", &self.path)(error));
        }
        self.length += lines.len() as u64;
        self.position.count(lines);
        self.write_position()
    }

    fn rotate(&mut self) -> Result<(), LogError> {
        rotate::rotate(&self.path, self.limits.max_files)?;
        self.log = open(&self.path)?;
        self.length = 0;
        self.rotations += 1;
        self.write_position()
    }

    fn write_position(&mut self) -> Result<(), LogError> {
        let metadata = self.log.metadata().map_err(LogError::new("look at", &self.path))?;
        self.position.set_file(metadata.ino(), self.length);
        self.position.write(&self.position_file).map_err(LogError::new("write the position of", &self.path))
    }
}

fn open(path: &Path) -> Result<File, LogError> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(LogError::new("open", path))
}

/// An earlier boot's last line may have been torn by a kill: it ends here, so that it does not run into ours.
fn end_last_line(log: &File, length: u64) -> io::Result<u64> {
    let Some(last) = length.checked_sub(1) else { return Ok(0) };
    let mut byte = [0];
    log.read_exact_at(&mut byte, last)?;
    if byte == *b"\n" {
        return Ok(length);
    }
    log.write_all_at(b"\n", length)?;
    Ok(length + 1)
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
