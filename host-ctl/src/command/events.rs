//! `events [--follow] [--since] [--filter] [NAME...]`

use std::collections::BTreeSet;
use std::time::SystemTime;

use clap::Args;
use firstlight_host_ctl::clock::rfc3339;
use firstlight_host_ctl::monitor::client;
use firstlight_host_ctl::vm::view::EventView;
use firstlight_host_ctl::vm::{Store, VmDir, VmView};
use firstlight_protocol::hex::BootId;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::cli::resolved::Context;
use crate::cli::value::filter::{self, Filter};
use crate::cli::value::since::{self, Since};
use crate::follow::{Follow, Step};
use crate::output::text::printable;
use crate::output::{self, Failure, Format};

const FILTERS: &[&str] = &["event", "stage"];

/// Views on their way to the one that prints. More than one follower waits for it, and none needs to be ahead.
const QUEUE: usize = 16;

/// Print the events of boots, one a line
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Names, or unique beginnings of ids; without any, all VMs
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Go on until the VMs have ended
    #[arg(short, long)]
    follow: bool,

    /// Only what happened since then, such as 10m or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since::parse)]
    since: Option<Since>,

    /// Only these: event=NAME or stage=NAME; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = |text: &str| filter::parse(text, FILTERS))]
    filter: Vec<Filter>,
}

/// One line of `events --json`.
#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    vm: &'a str,
    #[serde(flatten)]
    event: &'a EventView,
}

impl Events {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let store = Store::open(&context.state_dir)?;
        let vms = if self.names.is_empty() {
            store.list()?
        } else {
            self.names.iter().map(|name| store.resolve(name)).collect::<Result<_, _>>()?
        };
        let mut printer = Printer::new(&self, context, vms.len() > 1);
        if !self.follow {
            for vm in &vms {
                client::ensure(vm).await?;
                printer.print(&vm.view()?)?;
            }
            return Ok(());
        }
        let (sender, mut views) = mpsc::channel(QUEUE);
        for vm in vms {
            tokio::spawn(follow(vm, sender.clone()));
        }
        drop(sender);
        while let Some(view) = views.recv().await {
            printer.print(&view?)?;
        }
        Ok(())
    }
}

/// Sends the view after each change until the boot is over.
async fn follow(vm: VmDir, views: mpsc::Sender<Result<VmView, Failure>>) {
    let followed = async {
        let mut follow = Follow::open(&vm).await?;
        // Sending fails when the printer has gone, and then nobody listens.
        while views.send(Ok(follow.view())).await.is_ok() && follow.next().await? != Step::Ended {}
        Ok(follow.view())
    };
    let last = followed.await;
    let _ = views.send(last).await;
}

/// Prints each event once, however often its view comes.
struct Printer<'a> {
    filters: &'a [Filter],
    since: Option<String>,
    format: Format,
    prefixed: bool,
    printed: BTreeSet<(String, BootId, u64)>,
}

impl<'a> Printer<'a> {
    fn new(events: &'a Events, context: &Context, prefixed: bool) -> Printer<'a> {
        let nanos =
            |since: Since| since.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let since = events.since.map(|since| rfc3339(u64::try_from(nanos(since)).unwrap_or(u64::MAX)));
        Printer { filters: &events.filter, since, format: context.format, prefixed, printed: BTreeSet::new() }
    }

    fn print(&mut self, view: &VmView) -> Result<(), Failure> {
        for event in &view.events {
            let key = (view.name.clone(), event.sentinel.boot, event.sentinel.seq);
            if !self.printed.insert(key) || !self.wanted(event) {
                continue;
            }
            match self.format {
                Format::Json => output::json_line(&Line { version: 1, vm: &view.name, event })?,
                Format::Text if self.prefixed => {
                    output::line(format_args!("{:<16} {}", view.name, text(event)))?;
                }
                Format::Text => output::line(text(event))?,
            }
        }
        Ok(())
    }

    fn wanted(&self, event: &EventView) -> bool {
        // Times in RFC 3339 with the same number of digits compare as text.
        let late = self.since.as_ref().is_none_or(|since| event.received_at >= *since);
        let fields = serde_json::to_value(&event.sentinel).unwrap_or_default();
        late && self.filters.iter().all(|filter| {
            fields.get(&filter.key).and_then(serde_json::Value::as_str) == Some(filter.value.as_str())
        })
    }
}

/// An event on one line: milliseconds since the boot's origin, its name, and its own fields.
pub(super) fn text(event: &EventView) -> String {
    let mut fields = serde_json::to_value(&event.sentinel).unwrap_or_default();
    let mut line = format!("{:>10.3} ms  {}", event.at_ms, event.sentinel.event.name());
    if let Some(fields) = fields.as_object_mut() {
        for known in ["boot", "seq", "t", "event"] {
            fields.remove(known);
        }
        for (key, value) in fields.iter() {
            let value = value.as_str().map_or_else(|| value.to_string(), printable);
            let value = if key == "dur" { milliseconds(&value) } else { value };
            line.push_str(&format!("  {key}={value}"));
        }
    }
    line
}

fn milliseconds(nanos: &str) -> String {
    nanos
        .parse()
        .map_or_else(|_| nanos.to_owned(), |nanos| format!("{}ms", firstlight_host_ctl::clock::ms(nanos)))
}
