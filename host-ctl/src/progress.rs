//! What a person sees on stderr while a VM boots: a line drawn over on a terminal, a line a change elsewhere.

use std::time::{Duration, Instant};

use firstlight_host_ctl::vm::VmView;
use firstlight_protocol::lifecycle::State;
use indicatif::{ProgressBar, ProgressStyle as BarStyle};

use crate::cli::resolved::ProgressStyle;
use crate::output;
use crate::output::text::{elapsed, printable};

/// How often the elapsed time is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// The progress of one boot.
pub(crate) struct Progress {
    style: ProgressStyle,
    since: Instant,
    bar: Option<ProgressBar>,
    said: Option<&'static str>,
}

impl Progress {
    /// Begins to show what happens from here on.
    pub(crate) fn start(style: ProgressStyle, what: &str) -> Progress {
        let bar = match style {
            ProgressStyle::Live { color } => Some(spinner(color, what)),
            ProgressStyle::Lines | ProgressStyle::Silent => None,
        };
        Progress { style, since: Instant::now(), bar, said: None }
    }

    /// Shows what is known now.
    pub(crate) fn show(&mut self, view: &VmView) {
        let state = view.state.name();
        match &self.bar {
            Some(bar) => bar.set_message(format!("{} {}", view.name, describe(view))),
            None if self.style == ProgressStyle::Silent || self.said == Some(state) => {}
            None => {
                output::note(format_args!("{}: {state} after {}", view.name, elapsed(self.since.elapsed())));
            }
        }
        self.said = Some(state);
    }

    /// Takes the drawn line away, so that a program's output begins on an empty one.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn spinner(color: bool, what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let template = if color { "{spinner:.green} {msg} {elapsed}" } else { "{spinner} {msg} {elapsed}" };
    // A template that cannot be read would only cost the looks.
    if let Ok(style) = BarStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}

/// A state, and how far a boot in it has come.
pub(crate) fn describe(view: &VmView) -> String {
    let state = view.state.name();
    let stage = view.timings.stages.last().filter(|_| view.state == State::Initializing);
    stage.map_or_else(|| state.to_owned(), |stage| format!("{state} ({} done)", printable(&stage.stage)))
}
