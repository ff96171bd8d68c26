//! `sessions NAME`

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::agent::SessionsRequest;
use firstlight_protocol::message::session::Session;
use serde::Serialize;

use super::guest::Requests;
use super::session::End;
use crate::cli::resolved::Context;
use crate::output::{self, Failure, Format, Table, text};

/// List the commands that run in a VM, and those that ended a while ago
///
/// A command that was started with -d, or whose host-ctl went away, is remembered for ten minutes after its end.
#[derive(Debug, Args)]
#[command(after_help = "Example: host-ctl sessions web")]
pub(crate) struct Sessions {
    /// A name, or the unique beginning of an id
    name: String,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    version: u32,
    vm: &'a str,
    sessions: Vec<Row>,
}

/// One session.
#[derive(Debug, Serialize)]
struct Row {
    id: u64,
    pid: u32,
    /// Bytes that are not UTF-8 are replaced.
    argv: Vec<String>,
    age_ms: u64,
    detached: bool,
    terminal: bool,
    readers: u32,
    /// The first byte of output that attach can still show, and how many there were.
    oldest: u64,
    sequence: u64,
    /// `null` while it runs.
    end: Option<End>,
}

impl Sessions {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let guest = Requests::to_name(context, &self.name, "sessions").await?;
        let sessions = guest.ask(&SessionsRequest).await?.sessions;
        let rows: Vec<Row> = sessions.iter().map(Row::of).collect();
        match context.format {
            Format::Json => output::json_line(&Report { version: 1, vm: guest.name(), sessions: rows }),
            Format::Text if context.quiet => rows.iter().try_for_each(|row| output::line(row.id)),
            Format::Text => output::text(&table(&rows)),
        }
    }
}

impl Row {
    fn of(session: &Session) -> Row {
        Row {
            id: session.key.id,
            pid: session.pid,
            argv: session.argv.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
            age_ms: session.age_ns / 1_000_000,
            detached: session.detached,
            terminal: session.terminal,
            readers: session.readers,
            oldest: session.oldest,
            sequence: session.sequence,
            end: session.outcome.as_ref().map(End::of),
        }
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&["ID", "PID", "STATE", "AGE", "READERS", "OUTPUT", "COMMAND"]);
    for row in rows {
        table.row(vec![
            row.id.to_string(),
            row.pid.to_string(),
            row.end.as_ref().map_or_else(|| "running".to_owned(), End::text),
            text::age(Duration::from_millis(row.age_ms)),
            row.readers.to_string(),
            text::bytes(row.sequence),
            text::remark(&row.argv.join(" ")),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use firstlight_protocol::message::exec::ExecOutcome;
    use firstlight_protocol::message::session::SessionKey;
    use firstlight_protocol::sentinel::ExitStatus;

    use super::*;

    fn session(id: u64, outcome: Option<ExecOutcome>) -> Session {
        Session {
            key: SessionKey { id, started_ns: 5 },
            pid: 70,
            argv: vec![b"sh".to_vec(), b"-c".to_vec(), vec![0xff, b'\n']],
            age_ns: 61_000_000_000,
            detached: true,
            terminal: false,
            readers: 1,
            oldest: 0,
            sequence: 2048,
            outcome,
        }
    }

    #[test]
    fn people_see_a_line_a_session() {
        let ended = ExecOutcome::OutOfMemory(ExitStatus::Signal(9));
        let rows = [Row::of(&session(1, None)), Row::of(&session(2, Some(ended)))];
        insta::assert_snapshot!(table(&rows), @r"
        ID   PID   STATE           AGE   READERS   OUTPUT   COMMAND
        1    70    running         1m    1         2.0KiB   sh -c �\n
        2    70    out of memory   1m    1         2.0KiB   sh -c �\n
        ");
    }

    #[test]
    fn programs_see_every_field() {
        let ended = ExecOutcome::Exited(ExitStatus::Code(3));
        let sessions = vec![Row::of(&session(2, Some(ended)))];
        let report = Report { version: 1, vm: "web", sessions };
        insta::assert_snapshot!(serde_json::to_string(&report).unwrap(), @r#"{"version":1,"vm":"web","sessions":[{"id":2,"pid":70,"argv":["sh","-c","�\n"],"age_ms":61000,"detached":true,"terminal":false,"readers":1,"oldest":0,"sequence":2048,"end":{"how":"exited","code":3,"signal":null,"exit_code":3}}]}"#);
    }
}
