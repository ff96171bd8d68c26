//! `logs [-f] [--tail] [--since] [-t] [--stdout] [--stderr] [--all] NAME`

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::SystemTime;

use clap::Args;
use firstlight_host_ctl::clock::rfc3339;
use firstlight_host_ctl::log::{LogError, Reader};
use firstlight_host_ctl::monitor::client;
use firstlight_host_ctl::vm::vm_dir::name;
use firstlight_host_ctl::vm::{Store, VmDir};
use firstlight_protocol::message::output::Stream as From;
use serde::Serialize;

use crate::cli::resolved::Context;
use crate::cli::value::since::{self, Since};
use crate::follow::{Follow, Step};
use crate::output::{self, Failure, Format, Stream};
use crate::program_output::{Part, ProgramOutput};

/// Print what a VM's program wrote
///
/// Standard output to standard output, standard error to standard error; with --json a line of JSON for
/// each, in the order in which they came.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// A name, or the unique beginning of an id
    name: String,

    /// Go on until the VM has ended
    #[arg(short, long)]
    follow: bool,

    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<usize>,

    /// Only what was written since then, such as 10m or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since::parse)]
    since: Option<Since>,

    /// Begin each line with the time the host received it
    #[arg(short, long)]
    timestamps: bool,

    /// Standard output alone
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,

    /// Standard error alone
    #[arg(long)]
    stderr: bool,

    /// The whole serial console, our own lines too
    #[arg(long, conflicts_with_all = ["since", "timestamps", "stdout", "stderr"])]
    all: bool,
}

impl Logs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let vm = Store::open(&context.state_dir)?.resolve(&self.name)?;
        client::ensure(&vm).await?;
        let mut log = Log::open(&vm, self.all);
        let mut printer = Printer::new(&self, context.format);
        // Subscribed before the first read, so that nothing falls between the two.
        let mut follow = if self.follow { Some(Follow::open(&vm).await?) } else { None };
        let mut ended = follow.is_none();
        loop {
            loop {
                let parts = log.next()?;
                if parts.is_empty() {
                    break;
                }
                printer.print(parts).await?;
            }
            printer.flush_tail().await?;
            match &mut follow {
                Some(follow) if !ended => ended = follow.next().await? == Step::Ended,
                _ => break,
            }
        }
        printer.print(log.finish()).await?;
        printer.flush_tail().await
    }
}

/// The log that was asked for.
enum Log {
    Program(ProgramOutput),
    Console(Reader),
}

impl Log {
    fn open(vm: &VmDir, all: bool) -> Log {
        if all {
            let files = vm.spec().logs.max_files;
            return Log::Console(Reader::open(&vm.file(name::SERIAL_LOG), files));
        }
        Log::Program(ProgramOutput::open(vm))
    }

    fn next(&mut self) -> Result<Vec<Part>, Failure> {
        match self {
            Log::Program(output) => output.next(),
            Log::Console(reader) => {
                let mut line = Vec::new();
                if !reader.next_line(&mut line)? {
                    return Ok(Vec::new());
                }
                line.push(b'\n');
                Ok(vec![console(line)])
            }
        }
    }

    /// What is left when no more can come: a console's last line may have no end.
    fn finish(&self) -> Vec<Part> {
        match self {
            Log::Program(_) => Vec::new(),
            Log::Console(reader) => vec![console(reader.unfinished().to_vec())],
        }
    }
}

fn console(bytes: Vec<u8>) -> Part {
    Part { stream: From::Stdout, time: None, bytes }
}

/// Chooses and decorates what is printed. Standard error stays standard error.
struct Printer {
    since: Option<String>,
    only: Option<From>,
    timestamps: bool,
    /// The last lines so far, until the first time there is nothing more to read.
    tail: Option<(usize, VecDeque<Part>)>,
    /// Whether the next byte of each stream begins a line.
    begins: [bool; 2],
    format: Format,
    /// What JSON calls bytes that no stream is known of.
    console: bool,
    stdout: Stream,
    stderr: Stream,
}

/// A part as programs read it.
#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    /// When the host received it.
    time: Option<&'a str>,
    stream: &'a str,
    /// At most one line, with its end if it has come.
    text: Cow<'a, str>,
}

impl Printer {
    fn new(logs: &Logs, format: Format) -> Printer {
        let nanos =
            |since: Since| since.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let only = match (logs.stdout, logs.stderr) {
            (true, _) => Some(From::Stdout),
            (false, true) => Some(From::Stderr),
            (false, false) => None,
        };
        Printer {
            since: logs.since.map(|since| rfc3339(u64::try_from(nanos(since)).unwrap_or(u64::MAX))),
            only,
            timestamps: logs.timestamps,
            tail: logs.tail.map(|lines| (lines, VecDeque::new())),
            begins: [true; 2],
            format,
            console: logs.all,
            stdout: Stream::stdout(),
            stderr: Stream::stderr(),
        }
    }

    async fn print(&mut self, parts: Vec<Part>) -> Result<(), Failure> {
        let mut batch: Option<(From, Vec<u8>)> = None;
        for part in parts {
            if part.bytes.is_empty() || !self.wanted(&part) {
                continue;
            }
            if let Some((lines, tail)) = &mut self.tail {
                keep(tail, *lines, part);
                continue;
            }
            let (to, bytes) = match self.format {
                Format::Text => (part.stream, self.decorate(&part)),
                Format::Json => (From::Stdout, line(&part, self.console)?),
            };
            match &mut batch {
                Some((stream, gathered)) if *stream == to => gathered.extend(bytes),
                _ => {
                    self.write(batch.replace((to, bytes))).await?;
                }
            }
        }
        self.write(batch).await
    }

    /// Prints the last lines; what comes from now on is printed as it comes.
    async fn flush_tail(&mut self) -> Result<(), Failure> {
        match self.tail.take() {
            Some((_, tail)) => self.print(tail.into()).await,
            None => Ok(()),
        }
    }

    fn wanted(&self, part: &Part) -> bool {
        let stream = self.only.is_none_or(|only| only == part.stream);
        // Times in RFC 3339 with the same number of digits compare as text. What has no time is not left out.
        stream && self.since.as_ref().is_none_or(|since| part.time.as_ref().is_none_or(|time| time >= since))
    }

    fn decorate(&mut self, part: &Part) -> Vec<u8> {
        let begins = &mut self.begins[usize::from(part.stream == From::Stderr)];
        let mut bytes = Vec::with_capacity(part.bytes.len());
        if self.timestamps && std::mem::replace(begins, part.bytes.ends_with(b"\n")) {
            bytes.extend_from_slice(part.time.as_deref().unwrap_or("-").as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(&part.bytes);
        bytes
    }

    async fn write(&mut self, batch: Option<(From, Vec<u8>)>) -> Result<(), Failure> {
        match batch {
            Some((From::Stdout, bytes)) => self.stdout.write(&bytes).await,
            Some((From::Stderr, bytes)) => self.stderr.write(&bytes).await,
            None => Ok(()),
        }
    }
}

fn line(part: &Part, console: bool) -> Result<Vec<u8>, Failure> {
    let stream = if console { "console" } else { part.stream.name() };
    let text = String::from_utf8_lossy(&part.bytes);
    output::json_bytes(&Line { version: 1, time: part.time.as_deref(), stream, text })
}

/// Adds a part to the last `lines` lines.
fn keep(tail: &mut VecDeque<Part>, lines: usize, part: Part) {
    tail.push_back(part);
    let count = |tail: &VecDeque<Part>| {
        let open = tail.back().is_some_and(|last| !last.bytes.ends_with(b"\n"));
        tail.iter().filter(|part| part.bytes.ends_with(b"\n")).count() + usize::from(open)
    };
    while count(tail) > lines {
        tail.pop_front();
    }
}

impl std::convert::From<LogError> for Failure {
    fn from(error: LogError) -> Failure {
        Failure::failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(lines: usize, parts: &[&str]) -> String {
        let mut tail = VecDeque::new();
        for part in parts {
            keep(&mut tail, lines, console(part.as_bytes().to_vec()));
        }
        tail.iter().map(|part| String::from_utf8(part.bytes.clone()).unwrap()).collect()
    }

    #[test]
    fn programs_read_a_line_with_its_stream_and_whether_it_has_ended() {
        let part = |bytes: &[u8]| Part {
            stream: From::Stderr,
            time: Some("2026-01-31T12:00:00Z".into()),
            bytes: bytes.into(),
        };
        let text = [line(&part(b"a\"\n"), false).unwrap(), line(&part(b"more"), false).unwrap()].concat();
        let console = line(&console(b"boot\n".into()), true).unwrap();
        insta::assert_snapshot!(String::from_utf8([text, console].concat()).unwrap(), @r#"
        {"version":1,"time":"2026-01-31T12:00:00Z","stream":"stderr","text":"a\"\n"}
        {"version":1,"time":"2026-01-31T12:00:00Z","stream":"stderr","text":"more"}
        {"version":1,"time":null,"stream":"console","text":"boot\n"}
        "#);
    }

    #[test]
    fn the_last_lines_are_whole_even_when_they_came_in_pieces() {
        assert_eq!(tail(2, &["1\n", "2\n", "3\n"]), "2\n3\n");
        assert_eq!(tail(2, &["1\n", "2", "2\n", "3\n"]), "22\n3\n");
        assert_eq!(tail(1, &["1\n", "2"]), "2");
        assert_eq!(tail(0, &["1\n", "2"]), "");
        assert_eq!(tail(9, &["1\n", "2\n"]), "1\n2\n");
    }
}
