//! `batch [--parallel N] [--stop-on-error] [--timeout] NAME < OPERATIONS`

use std::io::Read as _;
use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::agent::batch::report::{Report, summary, word};
use firstlight_host_ctl::agent::batch::{document, millis, perform};
use firstlight_host_ctl::vm::Store;
use firstlight_protocol::frame::MAX_PAYLOAD;
use firstlight_protocol::message::batch::{self, BatchRequest, MAX_DEADLINE_MS, MAX_PARALLEL, Outcome};

use super::explain::agent_failure;
use super::guest::Requests;
use crate::cli::resolved::Context;
use crate::cli::value::duration;
use crate::output::{self, Failure, Format, Table, text};

/// Most bytes of JSON read. What they say has to fit in one frame, and JSON takes a few bytes more.
const MAX_INPUT: u64 = 4 * MAX_PAYLOAD as u64;

/// Do many things in a running VM in one round trip
///
/// Reads a JSON array of operations from stdin, such as [{"op":"status"},{"op":"exec","argv":["id"]}]; docs/batch.md
/// describes them. Exits with 1 when not all of them gave what was asked.
#[derive(Debug, Args)]
pub(crate) struct Batch {
    /// A name, or the unique beginning of an id
    name: String,

    /// How many at one time; 1 is one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_PARALLEL)))]
    parallel: u16,

    /// Start nothing more once one has failed
    #[arg(long)]
    stop_on_error: bool,

    /// Give what there is after this long
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = limit)]
    timeout: Duration,
}

fn limit(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_millis(MAX_DEADLINE_MS.into());
    let limit = duration::parse(text)?;
    if limit > longest {
        Err(format!("a batch takes at most {}", duration::show(longest)))
    } else {
        Ok(limit)
    }
}

impl Batch {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let items = document::parse(&read()?);
        let items =
            items.map_err(|error| Failure::usage(error.to_string()).hint("docs/batch.md has examples"))?;
        let vm = Store::open(&context.state_dir)?.resolve(&self.name)?;
        let requests = Requests::to(context, &vm, "batch").await?;
        let request = BatchRequest {
            items,
            parallel: self.parallel,
            stop_on_error: self.stop_on_error,
            deadline_ms: millis(self.timeout),
        };
        let batch = perform(requests.agent(), &request)
            .await
            .map_err(|error| agent_failure(&error, &vm.spec().name))?;
        let report = Report::new(&batch);
        match context.format {
            Format::Json => output::json_line(&report)?,
            Format::Text => output::text(&table(&batch))?,
        }
        if report.failures == 0 { Ok(()) } else { Err(Failure::exit(1)) }
    }
}

fn read() -> Result<String, Failure> {
    let mut input = String::new();
    let read = std::io::stdin().lock().take(MAX_INPUT + 1).read_to_string(&mut input);
    read.map_err(|error| Failure::usage(format!("cannot read the operations from stdin: {error}")))?;
    if input.len() as u64 > MAX_INPUT {
        return Err(Failure::usage(format!("the operations are over {}", text::bytes(MAX_INPUT))));
    }
    Ok(input)
}

/// Errors name a file or a command, and are shown whole.
fn answer(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Error(_) => text::printable(&summary(outcome)),
        Outcome::Done(_) | Outcome::Skipped(_) | Outcome::TimedOut(_) => text::remark(&summary(outcome)),
    }
}

fn table(batch: &batch::Batch) -> String {
    let mut table = Table::new(&["ID", "RESULT", "MS", "ANSWER"]);
    for result in &batch.results {
        let ms = Duration::from_micros(result.elapsed_us).as_secs_f64() * 1000.0;
        let cells = [
            text::printable(&result.id),
            word(&result.outcome).to_owned(),
            format!("{ms:.1}"),
            answer(&result.outcome),
        ];
        table.row(cells.into());
    }
    table.render()
}
