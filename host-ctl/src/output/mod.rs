//! The only writer of stdout, and the one place that knows what errors look like and which exit code they are.
//!
//! Data goes to stdout, everything else to stderr. A reader that goes away (`host-ctl ps | head -1`) ends the command
//! quietly.

mod failure;
mod stream;
mod table;
pub(crate) mod text;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use serde::Serialize;

pub(crate) use failure::{Code, Failure};
pub(crate) use stream::Stream;
pub(crate) use table::Table;

/// Bytes of an archive that are written at once.
const ARCHIVE_BUFFER: usize = 256 * 1024;

/// What data and errors look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Writes text to stdout as it is.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Moves the cursor home and clears what follows it. Source: `console_codes(4)`.
const REDRAW: &str = "\x1b[H\x1b[J";

/// Writes text in the place of what is on the terminal; after what was written where stdout is none.
pub(crate) fn screen(page: &str) -> Result<(), Failure> {
    let redraw = if io::stdout().is_terminal() { REDRAW } else { "" };
    text(&format!("{redraw}{page}"))
}

/// The columns of the terminal that stdout is; `None` where it is none.
pub(crate) fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(size.ws_col.into()).filter(|columns| *columns > 0)
}

/// Writes one line to stdout.
pub(crate) fn line(line: impl std::fmt::Display) -> Result<(), Failure> {
    text(&format!("{line}\n"))
}

/// Writes bytes to stdout and flushes them: a follower's reader waits for each.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::stdout(&error))
}

/// Standard output for a thread that writes an archive to it, in pieces of its own size; never a terminal.
pub(crate) fn archive() -> Result<Box<dyn io::Write + Send>, Failure> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(Failure::usage("an archive is not written to a terminal")
            .hint("write it to a file, as in: host-ctl cp NAME:/path - > archive.tar"));
    }
    Ok(Box::new(io::BufWriter::with_capacity(ARCHIVE_BUFFER, stdout)))
}

/// Writes a value to stdout as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value);
    line(json.map_err(|error| Failure::failed(format!("cannot be written as JSON: {error}")))?)
}

/// Writes a value to stdout as JSON on one line.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    bytes(&json_bytes(value)?)
}

/// A value as one line of JSON, for whoever gathers lines before they are written.
pub(crate) fn json_bytes(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let json = serde_json::to_vec(value);
    let mut line = json.map_err(|error| Failure::failed(format!("cannot be written as JSON: {error}")))?;
    line.push(b'\n');
    Ok(line)
}

/// Writes one line to stderr. With stderr gone there is nobody left to tell.
pub(crate) fn note(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Says a failure on stderr, and gives the exit code of it.
pub(crate) fn fail(failure: &Failure, format: Format) -> ExitCode {
    if let Some(text) = failure.render(format) {
        note(text);
    }
    ExitCode::from(failure.exit_code())
}
