//! Several ways to do one thing, each in its turn and all of them again and again, so that all meet the same machine.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firstlight_tests::lab::finish;

use crate::report::Figure;

/// A contender whose attempts have taken as long is not asked again: some are a hundred times slower than others.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long an attempt took, or why it came to nothing.
pub(crate) type Outcome = Result<Duration, String>;

/// One way to do it.
pub(crate) struct Contender<'a> {
    what: String,
    attempt: Result<Box<dyn Fn() -> Outcome + 'a>, String>,
}

impl<'a> Contender<'a> {
    /// One that does it by `attempt`, which takes its own time: what goes before and after does not count.
    pub(crate) fn new(what: impl Into<String>, attempt: impl Fn() -> Outcome + 'a) -> Contender<'a> {
        Contender { what: what.into(), attempt: Ok(Box::new(attempt)) }
    }

    /// One that does it by what may not be there.
    pub(crate) fn with<T>(
        what: impl Into<String>,
        means: &'a Result<T, String>,
        attempt: impl Fn(&'a T) -> Outcome + 'a,
    ) -> Contender<'a> {
        let attempt: Result<Box<dyn Fn() -> Outcome + 'a>, String> = match means {
            Ok(means) => Ok(Box::new(move || attempt(means))),
            Err(why) => Err(why.clone()),
        };
        Contender { what: what.into(), attempt }
    }
}

/// What figures are made of times.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    /// The time itself, in milliseconds.
    Milliseconds,
    /// Megabytes a second, where an attempt moves so many bytes.
    Megabytes(usize),
    /// Files a second, where an attempt moves so many.
    Files(usize),
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Megabytes(_) => "MB/s",
            Unit::Files(_) => "files/s",
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn of(self, took: Duration) -> f64 {
        let seconds = took.as_secs_f64();
        match self {
            Unit::Milliseconds => seconds * 1e3,
            Unit::Megabytes(bytes) => bytes as f64 / seconds / 1e6,
            Unit::Files(files) => files as f64 / seconds,
        }
    }
}

/// Has each contender make an attempt, in `rounds` rounds or until [`PATIENCE`] is at an end. One that fails once has no
/// figure, only the reason.
pub(crate) fn hold(contenders: Vec<Contender<'_>>, rounds: usize, unit: Unit) -> Vec<Figure> {
    let mut entries: Vec<(Contender<'_>, Vec<Duration>)> =
        contenders.into_iter().map(|contender| (contender, Vec::new())).collect();
    for _ in 0..rounds {
        for (contender, times) in &mut entries {
            let Ok(attempt) = &contender.attempt else { continue };
            if times.iter().sum::<Duration>() >= PATIENCE {
                continue;
            }
            match attempt() {
                Ok(took) => times.push(took),
                Err(why) => contender.attempt = Err(why),
            }
        }
    }
    let figure = |(contender, times): (Contender<'_>, Vec<Duration>)| match contender.attempt {
        Ok(_) => {
            Figure::new(contender.what, unit.name(), times.into_iter().map(|took| unit.of(took)).collect())
        }
        Err(why) => Figure::not_measured(contender.what, unit.name(), &why),
    };
    entries.into_iter().map(figure).collect()
}

/// Takes the time of some work.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T, String>) -> Outcome {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

/// Takes the time of a command, from its start to its end.
pub(crate) fn timed_command(command: &mut Command) -> Outcome {
    timed(|| run(command))
}

/// Runs a command to its end, and gives what it printed. Fails with the reason it gave.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    run_with(command, Stdio::null())
}

/// The same, with something to read.
pub(crate) fn run_with(command: &mut Command, input: Stdio) -> Result<String, String> {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| format!("cannot run {name}: {error}"))?;
    let finished = finish(child);
    if finished.status.success() {
        return Ok(finished.text());
    }
    Err(format!("{name} ended with {} and said: {}", finished.status, cause(&finished.stderr)))
}

/// The line that tells why: host-ctl and the scripts say what to do next after it, others say it last.
fn cause(said: &str) -> &str {
    let ours = |line: &&str| line.starts_with("error: ") || line.starts_with("firstlight: ");
    said.lines().find(ours).or_else(|| said.lines().last()).unwrap_or("nothing").trim()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn always(millis: u64) -> Outcome {
        Ok(Duration::from_millis(millis))
    }

    #[test]
    fn contenders_take_turns() {
        let order = std::cell::RefCell::new(String::new());
        let turn = |name: char| {
            order.borrow_mut().push(name);
            always(1)
        };
        let contenders = vec![Contender::new("a", || turn('a')), Contender::new("b", || turn('b'))];
        assert_eq!(hold(contenders, 3, Unit::Milliseconds).len(), 2);
        assert_eq!(*order.borrow(), "ababab");
    }

    #[test]
    fn one_that_fails_or_is_not_there_has_its_reason_in_the_place_of_a_figure() {
        let attempts = Cell::new(0);
        let flaky = || {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 2 { Err("the link broke".to_owned()) } else { always(1) }
        };
        let absent: Result<(), String> = Err("it is not installed".to_owned());
        let contenders = vec![
            Contender::new("sound", || always(2)),
            Contender::new("flaky", flaky),
            Contender::with("absent", &absent, |()| always(1)),
        ];
        let figures = hold(contenders, 4, Unit::Milliseconds);
        assert_eq!(figures[0].samples.len(), 4);
        let reasons: Vec<_> = figures.iter().map(|figure| figure.not_measured.as_deref()).collect();
        assert_eq!(reasons, [None, Some("the link broke"), Some("it is not installed")]);
        assert_eq!((figures[1].samples.len(), attempts.get()), (0, 2), "it was tried again");
    }

    #[test]
    fn one_that_takes_very_long_is_not_asked_as_often() {
        let contenders = vec![
            Contender::new("slow", || Ok(PATIENCE * 2 / 3)),
            Contender::new("quick", || Ok(PATIENCE / 10)),
        ];
        let figures = hold(contenders, 5, Unit::Milliseconds);
        assert_eq!([figures[0].samples.len(), figures[1].samples.len()], [2, 5]);
    }

    #[test]
    fn times_become_what_is_asked_for() {
        let half = Duration::from_millis(500);
        let found = [Unit::Milliseconds, Unit::Megabytes(64_000_000), Unit::Files(1000)];
        assert_eq!(found.map(|unit| unit.of(half)), [500.0, 128.0, 2000.0]);
    }

    #[test]
    fn a_command_that_fails_is_quoted() {
        let why = run(Command::new("sh").args(["-c", "echo first >&2; echo last >&2; exit 3"])).unwrap_err();
        assert!(why.contains("sh ") && why.ends_with("said: last"), "{why}");
        assert_eq!(cause("progress\nerror: no such VM\n  hint: make one"), "error: no such VM");
        assert!(run(&mut Command::new("/no/such/program")).unwrap_err().contains("cannot run program: "));
    }
}
