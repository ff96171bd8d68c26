//! What a sync says of itself.

use std::time::Duration;

use firstlight_host_ctl::sync::{Count, Plan};
use indicatif::{ProgressBar, ProgressStyle as BarStyle};
use serde::Serialize;

use crate::cli::resolved::ProgressStyle;
use crate::output::text::{bytes, printable_path};
use crate::output::{self, Failure, Format};

/// How often the bar is drawn anew while nothing moves.
const TICK: Duration = Duration::from_millis(200);

/// The one line at the end.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    version: u32,
    vm: &'a str,
    dry_run: bool,
    /// Files and links that were sent, and their bytes.
    files: u64,
    bytes: u64,
    removed: u64,
    /// Files, links and directories that got another mode or time and nothing else.
    adjusted: u64,
    /// Files and links of the source, and their bytes.
    total_files: u64,
    total_bytes: u64,
}

impl<'a> Summary<'a> {
    /// What a plan comes to.
    pub(super) fn of(vm: &'a str, plan: &Plan, dry_run: bool) -> Summary<'a> {
        let Count { files, bytes, total_files, total_bytes } = plan.count;
        let removed = (plan.clear.len() + plan.remove.len()) as u64;
        let adjusted = plan.adjust.len() as u64;
        Summary { version: 1, vm, dry_run, files, bytes, removed, adjusted, total_files, total_bytes }
    }

    /// What it came to.
    pub(super) fn with_removed(self, removed: u64) -> Summary<'a> {
        Summary { removed, ..self }
    }

    pub(super) fn print(&self, format: Format) -> Result<(), Failure> {
        match format {
            Format::Json => output::json_line(self),
            Format::Text => output::line(self.line()),
        }
    }

    fn line(&self) -> String {
        let (sent, remove) = if self.dry_run { ("would send", "remove") } else { ("sent", "removed") };
        format!(
            "{sent} {}, {}; {remove} {}; in all {}, {}",
            files(self.files),
            bytes(self.bytes),
            self.removed,
            files(self.total_files),
            bytes(self.total_bytes)
        )
    }
}

fn files(count: u64) -> String {
    if count == 1 { "1 file".into() } else { format!("{count} files") }
}

/// What would be done, in the order in which it would be.
pub(super) fn list(plan: &Plan, format: Format) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Line<'a> {
        version: u32,
        action: &'a str,
        path: &'a str,
    }
    let removals = |removals: &[_]| -> Vec<Vec<u8>> {
        removals
            .iter()
            .map(|removal: &firstlight_protocol::message::sync::Removal| removal.path.clone())
            .collect()
    };
    let adjusted = plan.adjust.iter().map(|adjustment| adjustment.path.clone()).collect();
    let steps = [
        ("remove", removals(&plan.clear)),
        ("send", plan.send.clone()),
        ("remove", removals(&plan.remove)),
        ("adjust", adjusted),
    ];
    for (action, path) in
        steps.iter().flat_map(|(action, paths)| paths.iter().map(move |path| (*action, path)))
    {
        // The directory itself has no path below itself.
        let path = if path.is_empty() { b"." } else { path.as_slice() };
        match format {
            Format::Json => {
                output::json_line(&Line { version: 1, action, path: &String::from_utf8_lossy(path) })?;
            }
            Format::Text => output::line(format_args!("{action} {}", printable_path(path)))?,
        }
    }
    Ok(())
}

/// A bar of the bytes that have moved, on a terminal.
#[derive(Clone)]
pub(super) struct Meter(Option<ProgressBar>);

impl Meter {
    pub(super) fn start(style: ProgressStyle, bytes: u64) -> Meter {
        let color = match style {
            ProgressStyle::Live { color } => color,
            ProgressStyle::Lines | ProgressStyle::Silent => return Meter(None),
        };
        let bar = ProgressBar::new(bytes);
        let template = if color {
            "{bar:30.green} {binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec} {eta}"
        } else {
            "{bar:30} {binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec} {eta}"
        };
        // A template that cannot be read would only cost the looks.
        if let Ok(style) = BarStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Meter(Some(bar))
    }

    pub(super) fn advance(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let count = Count { files: 1, bytes: 2_500_000, total_files: 1200, total_bytes: 3 << 30 };
        Plan { count, ..Plan::default() }
    }

    #[test]
    fn a_sync_ends_in_one_line() {
        let summary = Summary::of("web", &plan(), false).with_removed(2);
        assert_eq!(summary.line(), "sent 1 file, 2.3MiB; removed 2; in all 1200 files, 3.0GiB");
        let summary = Summary::of("web", &plan(), true);
        assert_eq!(summary.line(), "would send 1 file, 2.3MiB; remove 0; in all 1200 files, 3.0GiB");
    }

    #[test]
    fn programs_read_every_number() {
        let json = serde_json::to_string(&Summary::of("web", &plan(), false)).unwrap();
        insta::assert_snapshot!(json, @r#"{"version":1,"vm":"web","dry_run":false,"files":1,"bytes":2500000,"removed":0,"adjusted":0,"total_files":1200,"total_bytes":3221225472}"#);
    }
}
