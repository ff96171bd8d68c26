//! A command that goes on while the test reads it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout};

/// A running command whose standard output is read line by line. Dropping it ends the command.
pub struct Follower {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Follower {
    pub(crate) fn new(mut child: Child) -> Follower {
        let lines = BufReader::new(child.stdout.take().expect("a piped standard output"));
        Follower { child, lines }
    }

    /// The next line without its end, as soon as it is printed.
    ///
    /// # Panics
    /// When the output ends.
    #[track_caller]
    #[must_use]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        assert!(read > 0, "the output ended");
        line.trim_end_matches('\n').to_owned()
    }

    /// Reads on until a line contains `text`.
    ///
    /// # Panics
    /// When the output ends before.
    #[track_caller]
    pub fn until(&mut self, text: &str) {
        while !self.line().contains(text) {}
    }

    /// Waits for the command's own end; gives its exit code.
    ///
    /// # Panics
    /// When a signal ended it.
    #[track_caller]
    #[must_use]
    pub fn end(mut self) -> i32 {
        std::io::copy(&mut self.lines, &mut std::io::sink()).unwrap();
        self.child.wait().unwrap().code().expect("an exit code")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
