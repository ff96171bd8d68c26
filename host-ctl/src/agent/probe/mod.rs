//! Whether what a workload depends on is in the guest: all checks at once, in one round trip.
//!
//! ```text
//!  gate (the VM is Running, its agent answers)        once
//!     └─► checks ── one batch ──► findings             as often as wanted, on the same connection
//! ```
//!
//! The gate comes first and apart, so that *absent* is said only by a guest that was asked: when there is no answer, all
//! is [`Outcome::Unknown`]. A check of several things spawns one process for them all.

mod builtin;
mod interpret;
mod version;

use std::str::FromStr;
use std::time::Duration;

use firstlight_protocol::message::batch::{BatchRequest, Command, Item, MAX_PARALLEL, Operation};
use serde::Serialize;

use super::agents::Ask;
use super::batch::{millis, perform};
use super::error::Error;
use builtin::BuiltIn;

/// Most checks of one probe.
pub const MAX_CHECKS: usize = 64;

/// Bytes kept of a check's output: versions are in its first lines.
const MAX_OUTPUT: u32 = 4096;

/// How long all checks together may take, beyond the longest of them.
const SLACK: Duration = Duration::from_secs(1);

/// One thing to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    name: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    BuiltIn(&'static BuiltIn),
    /// For the guest's shell.
    Script(String),
}

/// Something was looked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What.
    pub name: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long its check took; 0 when it was never begun.
    pub elapsed_ms: f64,
}

/// What came of looking for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It is there.
    Present {
        /// What it says its version is.
        version: Option<String>,
    },
    /// The guest was asked and has none.
    Absent,
    /// Nobody can say.
    Unknown {
        /// Why not.
        cause: String,
    },
}

/// A check was written wrongly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// There is no such built-in check.
    #[error(
        "there is no check {name:?}; there are {}, and --check name=CMD for anything else",
        builtin::names()
    )]
    NoSuch {
        /// What was asked for.
        name: String,
    },
    /// It is not of the form `name=CMD`.
    #[error("{0:?} is no check; write it like name=CMD")]
    NotAPair(String),
    /// The same name is there twice.
    #[error("there are two checks named {0:?}")]
    Twice(String),
    /// There are more than [`MAX_CHECKS`].
    #[error("{0} checks are over the limit of {MAX_CHECKS}")]
    TooMany(usize),
}

impl Check {
    /// Every built-in check.
    #[must_use]
    pub fn built_in() -> Vec<Check> {
        let check = |what: &'static BuiltIn| Check { name: what.name.to_owned(), what: What::BuiltIn(what) };
        builtin::ALL.iter().map(check).collect()
    }

    /// The built-in check of this name.
    ///
    /// # Errors
    /// [`CheckError::NoSuch`].
    pub fn named(name: &str) -> Result<Check, CheckError> {
        let found = Check::built_in().into_iter().find(|check| check.name == name);
        found.ok_or_else(|| CheckError::NoSuch { name: name.to_owned() })
    }

    fn command(&self) -> Command {
        let argv: Vec<&str> = match &self.what {
            What::BuiltIn(built_in) => built_in.argv.to_vec(),
            What::Script(script) => vec!["/bin/sh", "-c", script],
        };
        Command {
            argv: argv.into_iter().map(|argument| argument.as_bytes().to_vec()).collect(),
            env: Vec::new(),
            cwd: None,
            user: None,
            max_output: MAX_OUTPUT,
        }
    }

    /// The things it looks for.
    fn finds(&self) -> Vec<String> {
        match &self.what {
            What::BuiltIn(built_in) => built_in.finds.iter().map(|name| (*name).to_owned()).collect(),
            What::Script(_) => vec![self.name.clone()],
        }
    }
}

/// `name=CMD`, for the guest's shell.
impl FromStr for Check {
    type Err = CheckError;

    fn from_str(text: &str) -> Result<Check, CheckError> {
        let pair =
            text.split_once('=').filter(|(name, script)| !name.is_empty() && !script.trim().is_empty());
        let (name, script) = pair.ok_or_else(|| CheckError::NotAPair(text.to_owned()))?;
        Ok(Check { name: name.to_owned(), what: What::Script(script.to_owned()) })
    }
}

/// Checks, to be run as often as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    checks: Vec<Check>,
    timeout: Duration,
}

impl Probe {
    /// A probe whose checks may take `timeout` each.
    ///
    /// # Errors
    /// [`CheckError::Twice`] or [`CheckError::TooMany`].
    pub fn new(checks: Vec<Check>, timeout: Duration) -> Result<Probe, CheckError> {
        if checks.len() > MAX_CHECKS {
            return Err(CheckError::TooMany(checks.len()));
        }
        let names: Vec<String> = checks.iter().flat_map(Check::finds).collect();
        let twice = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name));
        match twice {
            Some((_, name)) => Err(CheckError::Twice(name.clone())),
            None => Ok(Probe { checks, timeout }),
        }
    }

    /// Runs the checks, and nothing else. The connection is proof that the guest answers.
    ///
    /// # Errors
    /// As [`perform`]. What was not found out is a finding and no error.
    pub async fn run(&self, agent: &impl Ask) -> Result<Vec<Finding>, Error> {
        let batch = perform(agent, &self.request()).await?;
        let findings = self.checks.iter().zip(&batch.results).flat_map(|(check, result)| {
            let elapsed_ms = crate::clock::ms(result.elapsed_us.saturating_mul(1000));
            let outcomes = interpret::interpret(check, &result.outcome, self.timeout);
            let pairs = check.finds().into_iter().zip(outcomes);
            pairs.map(move |(name, outcome)| Finding { name, outcome, elapsed_ms })
        });
        Ok(findings.collect())
    }

    /// The findings when the guest could not be asked.
    #[must_use]
    pub fn unanswered(&self, cause: &str) -> Vec<Finding> {
        let outcome = Outcome::Unknown { cause: cause.to_owned() };
        let names = self.checks.iter().flat_map(Check::finds);
        names.map(|name| Finding { name, outcome: outcome.clone(), elapsed_ms: 0.0 }).collect()
    }

    /// All checks at once, each with its own time.
    fn request(&self) -> BatchRequest {
        let item = |(check, number): (&Check, usize)| Item {
            id: number.to_string(),
            timeout_ms: Some(millis(self.timeout)),
            operation: Operation::Exec(check.command()),
        };
        BatchRequest {
            items: self.checks.iter().zip(1..).map(item).collect(),
            parallel: MAX_PARALLEL,
            stop_on_error: false,
            deadline_ms: millis(self.timeout + SLACK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_check_of_one_s_own_is_a_name_and_a_command() {
        let check: Check = "curl=curl --version | head -1".parse().unwrap();
        assert_eq!(check.finds(), ["curl"]);
        assert_eq!(check.command().argv[2], b"curl --version | head -1");
        let with_equals: Check = "x=A=1 true".parse().unwrap();
        assert_eq!(with_equals.command().argv[2], b"A=1 true");
        for text in ["curl", "=curl", "curl=", "curl= "] {
            assert_eq!(text.parse::<Check>(), Err(CheckError::NotAPair(text.into())));
        }
    }

    #[test]
    fn a_check_that_is_not_built_in_is_told_how_to_write_it() {
        assert_eq!(Check::named("git").unwrap().finds(), ["git"]);
        let error = Check::named("rust").unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no check \"rust\"; there are node, python, git, docker, and --check name=CMD for anything else"
        );
    }

    #[test]
    fn no_two_findings_have_one_name() {
        let own = |text: &str| text.parse::<Check>().unwrap();
        let with = |check| Probe::new([Check::built_in(), vec![check]].concat(), SECOND).map(|_| ());
        assert_eq!(with(own("curl=x")), Ok(()));
        assert_eq!(with(own("pip=x")), Err(CheckError::Twice("pip".into())));
        let many = (0..=MAX_CHECKS).map(|number| own(&format!("c{number}=x"))).collect();
        assert_eq!(Probe::new(many, SECOND).err(), Some(CheckError::TooMany(MAX_CHECKS + 1)));
    }

    #[test]
    fn all_checks_are_one_request_and_each_has_its_own_time() {
        let request = Probe::new(Check::built_in(), SECOND).unwrap().request();
        assert_eq!(request.items.len(), builtin::ALL.len());
        assert!(request.items.iter().all(|item| item.timeout_ms == Some(1000)));
        assert!(usize::from(request.parallel) >= request.items.len() && request.deadline_ms > 1000);
    }

    #[test]
    fn a_guest_that_does_not_answer_has_nothing_absent() {
        let findings = Probe::new(Check::built_in(), SECOND).unwrap().unanswered("cannot reach the agent");
        let names: Vec<&str> = findings.iter().map(|finding| finding.name.as_str()).collect();
        assert_eq!(names, ["node", "python", "pip", "git", "docker"]);
        let unknown = Outcome::Unknown { cause: "cannot reach the agent".into() };
        assert!(findings.iter().all(|finding| finding.outcome == unknown));
    }
}
