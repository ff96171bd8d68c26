//! `ps [-a] [--filter] [--label] [--watch]`

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::monitor::client;
use firstlight_host_ctl::vm::{Store, VmId, VmView};

use super::last_known::LastKnown;
use crate::cli::resolved::Context;
use crate::cli::value::filter::{self, Filter, Label};
use crate::output::text::{age, printable};
use crate::output::{self, Failure, Format, Table};
use crate::watch_all::WatchAll;

const FILTERS: &[&str] = &["id", "name", "state"];

/// List VMs
///
/// Without -a those that have ended are left out.
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
pub(crate) struct Ps {
    /// Those that have ended too
    #[arg(short, long)]
    all: bool,

    /// Only these: name=NAME, state=STATE or id=BEGINNING; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = |text: &str| filter::parse(text, FILTERS))]
    filter: Vec<Filter>,

    /// Only those with this label: KEY or KEY=VALUE; may be repeated
    #[arg(long, value_name = "LABEL", value_parser = filter::parse_label)]
    label: Vec<Label>,

    /// List them again whenever something changes
    #[arg(long)]
    watch: bool,
}

impl Ps {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let store = Store::open(&context.state_dir)?;
        let mut shown = BTreeSet::new();
        if !self.watch {
            return show(&self.list(&store, &mut shown).await?, context, false);
        }
        let mut watch = WatchAll::new(&store)?;
        let mut before = None;
        loop {
            // Looked at after the watch began, so that no change falls between the two.
            let rows = self.list(&store, &mut shown).await?;
            let now = Some(outline(&rows));
            if now != before {
                show(&rows, context, true)?;
            }
            before = now;
            watch.changed().await?;
        }
    }

    /// The VMs that are asked for. One that was `shown` before stays: whoever watches it wants to see its end.
    async fn list(&self, store: &Store, shown: &mut BTreeSet<VmId>) -> Result<Vec<LastKnown>, Failure> {
        let mut rows = Vec::new();
        for vm in store.list()? {
            if let Err(error) = client::ensure(&vm).await {
                // What was recorded can be shown all the same.
                output::note(format_args!("warning: {error}"));
            }
            let row = LastKnown::of(&vm)?;
            if shown.contains(&row.view.id) || self.wanted(&row.view) {
                shown.insert(row.view.id);
                rows.push(row);
            }
        }
        Ok(rows)
    }

    fn wanted(&self, view: &VmView) -> bool {
        let by_state = self.filter.iter().any(|filter| filter.key == "state");
        let alive = self.all || by_state || !view.state.is_final();
        alive && self.label.iter().all(|label| label.matches(&view.labels)) && {
            self.filter.iter().all(|Filter { key, value }| match key.as_str() {
                "name" => view.name == *value,
                "state" => view.state.name() == value,
                _ => view.id.to_string().starts_with(value),
            })
        }
    }
}

/// What of a list is worth showing it again.
fn outline(rows: &[LastKnown]) -> Vec<(VmId, &'static str, Option<u8>)> {
    rows.iter().map(|row| (row.view.id, row.view.state.name(), row.view.exit_code())).collect()
}

fn show(rows: &[LastKnown], context: &Context, again: bool) -> Result<(), Failure> {
    if context.quiet {
        return rows.iter().try_for_each(|row| output::line(&row.view.name));
    }
    match context.format {
        Format::Json if again => output::json_line(&rows),
        Format::Json => output::json(&rows),
        Format::Text if again => output::screen(&table(rows).render()),
        Format::Text => output::text(&table(rows).render()),
    }
}

fn table(rows: &[LastKnown]) -> Table {
    let mut table = Table::new(&["NAME", "ID", "STATE", "AGE", "EXIT", "LABELS"]);
    for row in rows {
        let view = &row.view;
        let labels: Vec<String> = view.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.row(vec![
            view.name.clone(),
            view.id.to_string(),
            state(row),
            age(row.age),
            view.exit_code().map(|code| code.to_string()).unwrap_or_default(),
            printable(&labels.join(",")),
        ]);
    }
    table
}

/// "No answer" is never shown as an end: it is what was known last, and how long ago.
fn state(row: &LastKnown) -> String {
    let state = row.view.state.name();
    match (row.last_known, &row.view.failure) {
        (Some(last), _) => {
            let ago = Duration::from_secs_f64(row.view.age_ms.unwrap_or_default() / 1_000.0);
            format!("{state} ({last} {} ago)", age(ago))
        }
        (None, Some(failure)) => format!("{state} ({})", printable(&failure.stage)),
        (None, None) => state.to_owned(),
    }
}
