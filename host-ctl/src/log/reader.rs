//! Follows a log across its rotations.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{LogError, rotate};

/// How often a rotation may come between finding the next file and opening it.
const MAX_RACES: u32 = 100;

/// Reads a log line by line, the oldest file first. At the end it says so, and may be asked again later: what was
/// written meanwhile follows, however often the log was rotated, as long as no file went before it was read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    max_files: u32,
    current: Option<Current>,
    /// What was read of a line that is being written.
    line: Vec<u8>,
}

/// The file being read. Holding it open keeps its inode ours.
#[derive(Debug)]
struct Current {
    file: BufReader<File>,
    inode: u64,
}

impl Reader {
    /// A reader of the log at `path`, which need not exist yet.
    #[must_use]
    pub fn open(path: &Path, max_files: u32) -> Reader {
        Reader { path: path.to_owned(), max_files, current: None, line: Vec::new() }
    }

    /// Puts the next line, without its end, into `line`; `false` when there is none yet.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn next_line(&mut self, line: &mut Vec<u8>) -> Result<bool, LogError> {
        loop {
            // Looked at before reading: a file that had been rotated by then gets no more lines.
            let finished = self.is_finished();
            if self.read_line()? {
                line.clear();
                line.append(&mut self.line);
                return Ok(true);
            }
            if !finished || !self.advance()? {
                return Ok(false);
            }
        }
    }

    /// What was read of a line whose end is not there yet. A log of lines never ends in one; a console may.
    #[must_use]
    pub fn unfinished(&self) -> &[u8] {
        &self.line
    }

    fn is_finished(&self) -> bool {
        self.current.as_ref().is_none_or(|current| inode(&self.path) != Some(current.inode))
    }

    /// Reads on in the current file; `true` when `line` holds a whole line, which has lost its end.
    fn read_line(&mut self) -> Result<bool, LogError> {
        let Some(current) = &mut self.current else { return Ok(false) };
        let read = current.file.read_until(b'\n', &mut self.line);
        read.map_err(LogError::new("read", &self.path))?;
        Ok(self.line.pop_if(|last| *last == b'\n').is_some())
    }

    /// Goes on to the file after the current one; `false` when there is none yet.
    fn advance(&mut self) -> Result<bool, LogError> {
        for _ in 0..MAX_RACES {
            let Some((number, next)) = self.successor() else { return Ok(false) };
            let file = match File::open(&next) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if number == 0 {
                        // Between a rotation and the first write after it.
                        return Ok(false);
                    }
                    continue;
                }
                Err(error) => return Err(LogError::new("open", &next)(error)),
            };
            let inode = file.metadata().map_err(LogError::new("look at", &next))?.ino();
            // A rotation since would have put another file in the place of the one looked for.
            if self.successor().is_some_and(|(again, _)| again == number) && self::inode(&next) == Some(inode)
            {
                self.current = Some(Current { file: BufReader::new(file), inode });
                self.line.clear();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The number and path of the file after the current one; the oldest where there is none, or where the current one
    /// is among the removed.
    fn successor(&self) -> Option<(u32, PathBuf)> {
        let numbered = |number| match number {
            0 => (0, self.path.clone()),
            number => (number, rotate::rotated(&self.path, number)),
        };
        let existing = || (0..=self.max_files).rev().map(numbered).filter(|(_, path)| path.exists());
        let Some(current) = &self.current else { return existing().next() };
        match existing().find(|(_, path)| inode(path) == Some(current.inode)) {
            Some((0, _)) => None,
            Some((number, _)) => existing().find(|(other, _)| *other < number).or_else(|| Some(numbered(0))),
            None => existing().next(),
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).map(|metadata| metadata.ino()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(reader: &mut Reader) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = Vec::new();
        while reader.next_line(&mut line).unwrap() {
            lines.push(String::from_utf8(line.clone()).unwrap());
        }
        lines
    }

    fn append(path: &Path, text: &str) {
        use std::io::Write as _;
        File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn lines_are_followed_across_any_number_of_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut reader = Reader::open(&path, 5);
        assert_eq!(lines(&mut reader), Vec::<String>::new());
        append(&path, "1\n2\n3");
        assert_eq!(lines(&mut reader), ["1", "2"]);
        append(&path, "\n");
        rotate::rotate(&path, 5).unwrap();
        assert_eq!(lines(&mut reader), ["3"]);
        for text in ["4\n", "5\n", "6\n"] {
            append(&path, text);
            rotate::rotate(&path, 5).unwrap();
        }
        append(&path, "7\n");
        assert_eq!(lines(&mut reader), ["4", "5", "6", "7"]);
        append(&path, "8\n");
        assert_eq!(lines(&mut reader), ["8"]);
    }

    #[test]
    fn a_reader_whose_file_was_removed_goes_on_with_the_oldest_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, "1\n");
        let mut reader = Reader::open(&path, 2);
        assert_eq!(lines(&mut reader), ["1"]);
        for text in ["2\n", "3\n", "4\n"] {
            rotate::rotate(&path, 2).unwrap();
            append(&path, text);
        }
        assert_eq!(lines(&mut reader), ["3", "4"]);
    }
}
