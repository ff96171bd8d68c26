//! What the global flags and the environment add up to.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use firstlight_host_ctl::agent::Agents;
use firstlight_host_ctl::agent::connection_pool::Settings;
use tokio::time::Instant;

use super::Global;
use crate::output::{Failure, Format};

/// The folder of VMs inside an XDG directory.
const FOLDER: &str = "firstlight";

/// Everything a command needs to know besides its own arguments.
#[derive(Clone)]
pub(crate) struct Context {
    /// Where VMs are kept.
    pub(crate) state_dir: PathBuf,
    /// What data and errors look like.
    pub(crate) format: Format,
    /// Names only.
    pub(crate) quiet: bool,
    /// More on stderr.
    pub(crate) verbose: bool,
    /// How progress is shown.
    pub(crate) progress: ProgressStyle,
    agents: Arc<OnceLock<Agents>>,
}

/// How progress is shown on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressStyle {
    /// A line that is drawn over, for people; with colour unless they want none.
    Live { color: bool },
    /// A line a change, for logs.
    Lines,
    /// Not at all.
    Silent,
}

impl Context {
    /// Resolves the global flags. `variable` looks up the environment.
    pub(crate) fn resolve(
        global: &Global,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Context, Failure> {
        Ok(Context {
            state_dir: state_dir(global.state_dir.clone(), &variable)?,
            format: if global.json { Format::Json } else { Format::Text },
            quiet: global.quiet,
            verbose: global.verbose,
            progress: progress_style(global, std::io::stderr().is_terminal(), &variable),
            agents: Arc::default(),
        })
    }

    /// The agents of all VMs, over connections that the whole command shares.
    pub(crate) fn agents(&self) -> Result<&Agents, Failure> {
        if let Some(agents) = self.agents.get() {
            return Ok(agents);
        }
        let settings = Settings::from_env().map_err(|error| Failure::usage(error.to_string()))?;
        Ok(self.agents.get_or_init(|| Agents::new(settings)))
    }

    /// Ends what the command shared.
    pub(crate) async fn close(&self) {
        if let Some(agents) = self.agents.get() {
            // Its requests are over; what is still held belongs to a task that nobody waits for.
            let _ = agents.close(Instant::now()).await;
        }
    }
}

/// Source: the XDG base directory specification. A state directory is absolute from here on, because the monitor
/// runs in another working directory.
fn state_dir(given: Option<PathBuf>, variable: impl Fn(&str) -> Option<String>) -> Result<PathBuf, Failure> {
    if let Some(given) = given.filter(|path| !path.as_os_str().is_empty()) {
        return std::path::absolute(&given)
            .map_err(|error| Failure::failed(format!("state directory {}: {error}", given.display())));
    }
    // The specification has relative paths ignored.
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join(FOLDER))
        .ok_or_else(|| {
            Failure::usage(
                "there is no place for VMs: neither --state-dir nor XDG_STATE_HOME nor HOME is set",
            )
        })
}

fn progress_style(
    global: &Global,
    terminal: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> ProgressStyle {
    let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    if global.no_progress || global.quiet || global.json {
        ProgressStyle::Silent
    } else if terminal && variable("TERM").as_deref() != Some("dumb") {
        // Source: no-color.org.
        ProgressStyle::Live { color: !set("NO_COLOR") }
    } else {
        ProgressStyle::Lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global() -> Global {
        Global { state_dir: None, json: false, quiet: false, verbose: false, no_progress: false }
    }

    fn environment<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn the_flag_wins_over_xdg_and_xdg_over_home() {
        let both = environment(&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")]);
        assert_eq!(state_dir(Some("/flag".into()), &both).unwrap(), PathBuf::from("/flag"));
        assert_eq!(state_dir(None, &both).unwrap(), PathBuf::from("/x/firstlight"));
        let home = environment(&[("XDG_STATE_HOME", "relative"), ("HOME", "/h")]);
        assert_eq!(state_dir(None, home).unwrap(), PathBuf::from("/h/.local/state/firstlight"));
        assert!(state_dir(None, environment(&[])).is_err());
    }

    #[test]
    fn progress_is_drawn_on_terminals_only_and_without_colour_when_asked() {
        assert_eq!(progress_style(&global(), true, environment(&[])), ProgressStyle::Live { color: true });
        let no_color = environment(&[("NO_COLOR", "1")]);
        assert_eq!(progress_style(&global(), true, no_color), ProgressStyle::Live { color: false });
        assert_eq!(progress_style(&global(), false, environment(&[])), ProgressStyle::Lines);
        let dumb = environment(&[("TERM", "dumb")]);
        assert_eq!(progress_style(&global(), true, dumb), ProgressStyle::Lines);
        let quiet = Global { quiet: true, ..global() };
        assert_eq!(progress_style(&quiet, true, environment(&[])), ProgressStyle::Silent);
    }
}
