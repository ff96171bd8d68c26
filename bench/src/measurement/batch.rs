//! A hundred questions at once, beside a hundred questions one by one.

use std::fs::File;
use std::path::Path;

use firstlight_host_ctl::agent::batch::{at_once, perform};
use firstlight_host_ctl::agent::{Ask as _, Client};
use firstlight_protocol::message::batch::{Answer, Operation, Outcome};
use firstlight_protocol::message::file::{FileStatRequest, Place};
use tokio::time::Instant;

use super::{Context, ratio_of};
use crate::contest::{self, Contender, Unit, hold, run_with, timed};
use crate::guest::{LIMIT, NAME};
use crate::report::{Section, Target};

/// Questions: what there is to say of one file.
const QUESTIONS: usize = 100;
const PATH: &str = "/etc/passwd";

/// What a batch is to cost at most, beside its questions one by one.
const SHARE: Target = Target::AtMost(1.0 / 20.0);

const BATCH: &str = "host-ctl batch";
const CALLS: &str = "host-ctl file stat, 100 times";
const LIBRARY_BATCH: &str = "library: one batch";
const LIBRARY_CALLS: &str = "library: 100 requests, one after the other";

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let library = &context.guest().library;
    let client = library.client();
    let operations = context.lab.path("operations.json");
    write_operations(&operations);
    let contenders = vec![
        Contender::new(BATCH, || batch_command(context, &operations)),
        Contender::new(CALLS, || calls_command(context)),
        Contender::with(LIBRARY_BATCH, &client, |client| library.timed(batch(client))),
        Contender::with(LIBRARY_CALLS, &client, |client| library.timed(calls(client))),
    ];
    let figures = hold(contenders, context.runs, Unit::Milliseconds);
    let checks = vec![
        ratio_of(&figures, BATCH, CALLS, SHARE),
        ratio_of(&figures, LIBRARY_BATCH, LIBRARY_CALLS, Target::Open),
    ];
    Section {
        name: "batch",
        title: "A hundred questions",
        text: "`stat` of one file, a hundred times: in one batch, and one call after the other. The library's calls share one \
               connection; each command makes its own."
            .to_owned(),
        figures,
        checks,
    }
}

fn write_operations(path: &Path) {
    let operation = serde_json::json!({ "op": "stat", "path": PATH });
    let text = serde_json::Value::from(vec![operation; QUESTIONS]).to_string();
    std::fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

fn batch_command(context: &Context, operations: &Path) -> contest::Outcome {
    let input = File::open(operations).map_err(|error| format!("no operations: {error}"))?;
    timed(|| run_with(&mut context.lab.command(&["batch", NAME]), input.into()))
}

fn calls_command(context: &Context) -> contest::Outcome {
    let file = format!("{NAME}:{PATH}");
    let call = |_| contest::run(&mut context.lab.command(&["file", "stat", &file])).map(drop);
    timed(|| (0..QUESTIONS).try_for_each(call))
}

fn question() -> FileStatRequest {
    FileStatRequest { place: Place::new(PATH), follow: false }
}

async fn batch(client: &Client) -> Result<(), String> {
    let questions = (0..QUESTIONS).map(|id| (id.to_string(), Operation::Stat(question())));
    let batch = perform(client, &at_once(questions, LIMIT)).await.map_err(|error| error.to_string())?;
    let answered = batch
        .results
        .iter()
        .filter(|result| matches!(result.outcome, Outcome::Done(Answer::Stat(_))))
        .count();
    if answered == QUESTIONS { Ok(()) } else { Err(format!("{answered} of {QUESTIONS} were answered")) }
}

async fn calls(client: &Client) -> Result<(), String> {
    for _ in 0..QUESTIONS {
        let answer = client.request(&question(), Instant::now() + LIMIT).await;
        answer.map_err(|error| error.to_string())?;
    }
    Ok(())
}
