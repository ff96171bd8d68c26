//! What became of a batch, as JSON and in a few words.

use firstlight_protocol::message::batch::{Answer, Batch, Captured, ItemResult, Outcome, Output, Ran, Skip};
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::file::{FileList, FileStat, Listed};
use firstlight_protocol::message::health::Health;
use firstlight_protocol::message::network::Network;
use firstlight_protocol::message::stats::Stats;
use firstlight_protocol::message::status::Status;
use firstlight_protocol::message::versions::Versions;
use firstlight_protocol::sentinel::ExitStatus;
use serde::Serialize;

use crate::agent::file_view::FileView;

/// A whole batch's results.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// The version of this document; fields are added within one.
    pub version: u32,
    /// Items that [did not give what was asked](Outcome::is_failure).
    pub failures: usize,
    /// One for each item, in their order.
    pub results: Vec<ResultView<'a>>,
}

/// One item's result.
#[derive(Debug, Serialize)]
pub struct ResultView<'a> {
    /// The item's id.
    pub id: &'a str,
    /// From its start to its end; 0 when it never started.
    pub elapsed_ms: f64,
    /// How it went.
    #[serde(flatten)]
    pub outcome: OutcomeView<'a>,
}

/// How an item went, in the field `result`.
#[derive(Debug, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are those of `Outcome`")]
pub enum OutcomeView<'a> {
    Ok { answer: AnswerView<'a> },
    Error { error: ErrorView<'a> },
    Skipped { reason: &'static str },
    TimedOut { output: Option<OutputView<'a>> },
}

/// An answer as the operation has it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "they are those of `Answer`")]
pub enum AnswerView<'a> {
    Pong { data: String },
    Status(&'a Status),
    Events { lines: Vec<String> },
    Exec(RanView<'a>),
    Stats(&'a Stats),
    Network(&'a Network),
    Versions(&'a Versions),
    Health(&'a Health),
    Stat(FileView),
    List { entries: Vec<FileView>, more: bool },
    FileDone {},
}

/// A command that ended.
#[derive(Debug, Serialize)]
pub struct RanView<'a> {
    /// Its exit code, unless a signal ended it.
    pub exit_code: Option<u8>,
    /// The signal that ended it.
    pub signal: Option<u8>,
    /// Whether the OOM killer did.
    pub out_of_memory: bool,
    /// What it wrote.
    #[serde(flatten)]
    pub output: OutputView<'a>,
}

/// What a command wrote. Bytes that are not UTF-8 are replaced; `exec` gives them as they are.
#[derive(Debug, Serialize)]
pub struct OutputView<'a> {
    /// The beginning of its standard output.
    pub stdout: std::borrow::Cow<'a, str>,
    /// Bytes that came after it.
    pub stdout_omitted: u64,
    /// The beginning of its standard error.
    pub stderr: std::borrow::Cow<'a, str>,
    /// Bytes that came after it.
    pub stderr_omitted: u64,
}

/// Why an item could not be done.
#[derive(Debug, Serialize)]
pub struct ErrorView<'a> {
    /// What was being done.
    pub operation: &'a str,
    /// The file concerned.
    pub path: Option<&'a str>,
    /// The guest's errno, of a system call.
    pub errno: Option<i32>,
    /// All of it in words.
    pub message: String,
}

impl Report<'_> {
    /// The report of a batch.
    #[must_use]
    pub fn new(batch: &Batch) -> Report<'_> {
        let failures = batch.results.iter().filter(|result| result.outcome.is_failure()).count();
        Report { version: 1, failures, results: batch.results.iter().map(result).collect() }
    }
}

fn result(result: &ItemResult) -> ResultView<'_> {
    let outcome = match &result.outcome {
        Outcome::Done(done) => OutcomeView::Ok { answer: answer(done) },
        Outcome::Error(failed) => OutcomeView::Error { error: error(failed) },
        Outcome::Skipped(skip) => OutcomeView::Skipped { reason: reason(*skip) },
        Outcome::TimedOut(written) => OutcomeView::TimedOut { output: written.as_ref().map(output) },
    };
    let elapsed_ms = crate::clock::ms(result.elapsed_us.saturating_mul(1000));
    ResultView { id: &result.id, elapsed_ms, outcome }
}

fn answer(answer: &Answer) -> AnswerView<'_> {
    match answer {
        Answer::Pong(bytes) => AnswerView::Pong { data: String::from_utf8_lossy(bytes).into_owned() },
        Answer::Status(status) => AnswerView::Status(status),
        Answer::Events(events) => {
            let text = String::from_utf8_lossy(&events.lines);
            AnswerView::Events { lines: text.lines().map(str::to_owned).collect() }
        }
        Answer::Exec(ran) => AnswerView::Exec(RanView {
            exit_code: code(ran.status),
            signal: signal(ran.status),
            out_of_memory: ran.out_of_memory,
            output: output(&ran.output),
        }),
        Answer::Stats(stats) => AnswerView::Stats(stats),
        Answer::Network(network) => AnswerView::Network(network),
        Answer::Versions(versions) => AnswerView::Versions(versions),
        Answer::Health(health) => AnswerView::Health(health),
        Answer::Stat(stat) => AnswerView::Stat(FileView::new(b"", &stat.metadata, stat.target.as_deref())),
        Answer::List(FileList { entries, more }) => {
            let view = |entry: &Listed| FileView::new(&entry.name, &entry.metadata, None);
            AnswerView::List { entries: entries.iter().map(view).collect(), more: *more }
        }
        Answer::FileDone => AnswerView::FileDone {},
    }
}

fn code(status: ExitStatus) -> Option<u8> {
    match status {
        ExitStatus::Code(code) => Some(code),
        ExitStatus::Signal(_) => None,
    }
}

fn signal(status: ExitStatus) -> Option<u8> {
    match status {
        ExitStatus::Code(_) => None,
        ExitStatus::Signal(signal) => Some(signal),
    }
}

fn output(output: &Output) -> OutputView<'_> {
    OutputView {
        stdout: String::from_utf8_lossy(&output.stdout.bytes),
        stdout_omitted: output.stdout.omitted,
        stderr: String::from_utf8_lossy(&output.stderr.bytes),
        stderr_omitted: output.stderr.omitted,
    }
}

fn error(error: &AgentError) -> ErrorView<'_> {
    let errno = match error.cause {
        Cause::Errno(errno) => Some(errno),
        Cause::Invalid(_) | Cause::Busy(_) | Cause::Protocol(_) => None,
    };
    ErrorView { operation: &error.operation, path: error.path.as_deref(), errno, message: error.to_string() }
}

fn reason(skip: Skip) -> &'static str {
    match skip {
        Skip::AfterError => "after-error",
        Skip::Deadline => "deadline",
    }
}

/// How an item went, in a word.
#[must_use]
pub fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "ok",
        Outcome::Error(_) => "error",
        Outcome::Skipped(_) => "skipped",
        Outcome::TimedOut(_) => "timed out",
    }
}

/// What came of an item, on one line. It may hold the guest's own words.
#[must_use]
pub fn summary(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Error(error) => error.to_string(),
        Outcome::Skipped(Skip::AfterError) => "an operation before it failed".into(),
        Outcome::Skipped(Skip::Deadline) => "the batch's time was up".into(),
        Outcome::TimedOut(written) => written.as_ref().map(first_line).unwrap_or_default(),
        Outcome::Done(Answer::Exec(Ran { status, output, .. })) => match status {
            ExitStatus::Code(0) => first_line(output),
            ExitStatus::Code(code) => format!("exit code {code}: {}", first_line(output)),
            ExitStatus::Signal(signal) => format!("ended by signal {signal}: {}", first_line(output)),
        },
        Outcome::Done(Answer::Pong(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Outcome::Done(Answer::Status(status)) => {
            format!(
                "agent {}, kernel {}, up {} s",
                status.agent_version,
                status.kernel,
                status.uptime_ns / 1_000_000_000
            )
        }
        Outcome::Done(Answer::Events(events)) => {
            format!("{} events", events.lines.split(|byte| *byte == b'\n').count().saturating_sub(1))
        }
        Outcome::Done(Answer::Stats(stats)) => {
            format!(
                "{} CPUs, {} of {} MiB used",
                stats.cpu.count,
                stats.memory.used() >> 20,
                stats.memory.total >> 20
            )
        }
        Outcome::Done(Answer::Network(network)) => {
            let addresses = network.interfaces.iter().flat_map(|interface| &interface.addresses);
            addresses.cloned().collect::<Vec<String>>().join(", ")
        }
        Outcome::Done(Answer::Versions(versions)) => {
            versions.os.as_ref().map_or_else(|| versions.kernel.clone(), |os| os.name.clone())
        }
        Outcome::Done(Answer::Health(health)) => health.state.name().to_owned(),
        Outcome::Done(Answer::Stat(stat)) => {
            let FileStat { metadata, .. } = &**stat;
            format!("{:04o} {}:{} {} bytes", metadata.mode, metadata.uid, metadata.gid, metadata.size)
        }
        Outcome::Done(Answer::List(list)) => {
            format!("{} names{}", list.entries.len(), if list.more { " and more" } else { "" })
        }
        Outcome::Done(Answer::FileDone) => String::new(),
    }
}

/// The first line a command wrote: to its standard output, or else to its standard error.
#[must_use]
pub fn first_line(output: &Output) -> String {
    let line = |captured: &Captured| {
        let text = String::from_utf8_lossy(&captured.bytes).into_owned();
        text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    };
    line(&output.stdout).or_else(|| line(&output.stderr)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(outcomes: Vec<Outcome>) -> Batch {
        let result = |(outcome, id): (Outcome, char)| ItemResult { id: id.into(), elapsed_us: 1500, outcome };
        Batch { results: outcomes.into_iter().zip('a'..).map(result).collect() }
    }

    fn written(text: &str) -> Output {
        Output { stdout: Captured { bytes: text.into(), omitted: 5 }, stderr: Captured::default() }
    }

    #[test]
    fn each_result_is_told_by_its_word() {
        let error = AgentError {
            operation: "exec".into(),
            path: Some("/x".into()),
            cause: Cause::Errno(libc_enoent()),
        };
        let ran = |status| {
            Outcome::Done(Answer::Exec(Ran { status, out_of_memory: false, output: written("v\n") }))
        };
        let batch = batch(vec![
            ran(ExitStatus::Code(3)),
            ran(ExitStatus::Signal(9)),
            Outcome::Error(error),
            Outcome::Skipped(Skip::AfterError),
            Outcome::TimedOut(Some(written("x"))),
            Outcome::Done(Answer::Pong(b"p".to_vec())),
        ]);
        let lines: Vec<String> =
            Report::new(&batch).results.iter().map(|result| serde_json::to_string(result).unwrap()).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"id":"a","elapsed_ms":1.5,"result":"ok","answer":{"exit_code":3,"signal":null,"out_of_memory":false,"stdout":"v\n","stdout_omitted":5,"stderr":"","stderr_omitted":0}}
        {"id":"b","elapsed_ms":1.5,"result":"ok","answer":{"exit_code":null,"signal":9,"out_of_memory":false,"stdout":"v\n","stdout_omitted":5,"stderr":"","stderr_omitted":0}}
        {"id":"c","elapsed_ms":1.5,"result":"error","error":{"operation":"exec","path":"/x","errno":2,"message":"exec /x: No such file or directory (os error 2)"}}
        {"id":"d","elapsed_ms":1.5,"result":"skipped","reason":"after-error"}
        {"id":"e","elapsed_ms":1.5,"result":"timed-out","output":{"stdout":"x","stdout_omitted":5,"stderr":"","stderr_omitted":0}}
        {"id":"f","elapsed_ms":1.5,"result":"ok","answer":{"data":"p"}}
        "#);
    }

    fn libc_enoent() -> i32 {
        nix::errno::Errno::ENOENT as i32
    }

    #[test]
    fn a_summary_is_the_first_line_that_says_something() {
        let ran = |status, output| Outcome::Done(Answer::Exec(Ran { status, out_of_memory: false, output }));
        assert_eq!(summary(&ran(ExitStatus::Code(0), written("\n  v1.2  \nmore"))), "v1.2");
        assert_eq!(summary(&ran(ExitStatus::Code(2), written(""))), "exit code 2: ");
    }
}
