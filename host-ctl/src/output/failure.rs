//! What a command ends in when it does not end well.

use std::io;

use serde::Serialize;

use super::Format;
use super::text::printable;

/// Why, in one word that programs may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Code {
    /// The operation failed.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// No VM has this name or id.
    NoSuchVm,
    /// The VM's state does not allow it.
    WrongState,
    /// Another VM has the name.
    NameTaken,
    /// The agent or the VMM does not answer.
    Unreachable,
    /// A deadline passed.
    TimedOut,
    /// The disk takes no more.
    DiskFull,
    /// A snapshot's files are not what was saved.
    Corrupt,
    /// A snapshot was saved by something else than would restore it.
    Mismatch,
    /// The command was found in the guest but cannot be invoked.
    CannotInvoke,
    /// The command was not found in the guest.
    NotFound,
}

/// A failure: what it was, which VM it concerns, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    code: Code,
    message: String,
    vm: Option<String>,
    hint: Option<String>,
    exit: Option<u8>,
    silent: bool,
}

/// The exit code of `run` and `exec` when host-ctl itself fails, so that it is not taken for the program's.
const OWN_FAILURE: u8 = 125;

impl Failure {
    /// A failure of some kind. The message is one sentence without a full stop.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), vm: None, hint: None, exit: None, silent: false }
    }

    /// The operation failed.
    pub(crate) fn failed(message: impl Into<String>) -> Failure {
        Failure::new(Code::Failed, message)
    }

    /// The command line makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Code::Usage, message)
    }

    /// An exit code with nothing to say: a program's own, or that of several failures said already.
    pub(crate) fn exit(code: u8) -> Failure {
        Failure { exit: Some(code), silent: true, ..Failure::failed("") }
    }

    /// Stdout cannot be written. A reader that went away has what it wanted.
    pub(crate) fn stdout(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::exit(0)
        } else {
            Failure::failed(format!("cannot write to stdout: {error}"))
        }
    }

    /// The VM it concerns.
    pub(crate) fn of_vm(self, vm: impl Into<String>) -> Failure {
        Failure { vm: Some(vm.into()), ..self }
    }

    /// What to do next.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// The same failure of a command that otherwise exits with a program's code: ours must not be taken for one.
    pub(crate) fn of_a_program_runner(self) -> Failure {
        let exit = match self.code {
            Code::TimedOut | Code::CannotInvoke | Code::NotFound | Code::Usage => self.exit,
            Code::Failed
            | Code::NoSuchVm
            | Code::WrongState
            | Code::NameTaken
            | Code::Unreachable
            | Code::DiskFull
            | Code::Corrupt
            | Code::Mismatch => self.exit.or(Some(OWN_FAILURE)),
        };
        Failure { exit, ..self }
    }

    /// The same failure, of one of several things that are done: `what` goes before the sentence.
    pub(crate) fn within(self, what: &str) -> Failure {
        Failure { message: format!("{what}: {}", self.message), ..self }
    }

    /// The sentence.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The process's exit code, as in `docs/decisions/` and `--help`.
    pub(crate) fn exit_code(&self) -> u8 {
        self.exit.unwrap_or(match self.code {
            Code::Failed | Code::DiskFull | Code::Corrupt | Code::Mismatch => 1,
            Code::Usage => 2,
            Code::NoSuchVm => 3,
            Code::WrongState | Code::NameTaken => 4,
            Code::Unreachable => 5,
            Code::TimedOut => 124,
            Code::CannotInvoke => 126,
            Code::NotFound => 127,
        })
    }

    /// What goes to stderr, if anything.
    pub(crate) fn render(&self, format: Format) -> Option<String> {
        if self.silent {
            return None;
        }
        Some(match format {
            Format::Text => {
                let hint = self.hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
                // Much of it is a guest's words: names of files, what its agent answers.
                let message = self.message.split('\n').map(printable).collect::<Vec<_>>().join("\n");
                format!("error: {message}{hint}")
            }
            Format::Json => self.to_json(),
        })
    }

    fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Error<'a> {
            code: Code,
            message: &'a str,
            vm: Option<&'a str>,
            hint: Option<&'a str>,
        }
        #[derive(Serialize)]
        struct Document<'a> {
            error: Error<'a>,
        }
        let (vm, hint) = (self.vm.as_deref(), self.hint.as_deref());
        let error = Error { code: self.code, message: &self.message, vm, hint };
        // Only a map with keys that are no strings could fail here, and there is none.
        serde_json::to_string(&Document { error }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken() -> Failure {
        Failure::new(Code::NameTaken, "a VM named web exists").of_vm("web").hint("choose another --name")
    }

    #[test]
    fn people_read_a_sentence_and_what_to_do_next() {
        insta::assert_snapshot!(taken().render(Format::Text).unwrap(), @r"
        error: a VM named web exists
          hint: choose another --name
        ");
    }

    #[test]
    fn a_guest_s_words_in_it_cannot_command_the_terminal() {
        let failure = Failure::failed("open /tmp/\x1b[2J:\nno such file");
        assert_eq!(failure.render(Format::Text).unwrap(), "error: open /tmp/\\u{1b}[2J:\nno such file");
    }

    #[test]
    fn programs_read_one_line_of_json_with_every_key() {
        insta::assert_snapshot!(taken().render(Format::Json).unwrap(), @r#"{"error":{"code":"name-taken","message":"a VM named web exists","vm":"web","hint":"choose another --name"}}"#);
        insta::assert_snapshot!(Failure::failed("x").render(Format::Json).unwrap(), @r#"{"error":{"code":"failed","message":"x","vm":null,"hint":null}}"#);
    }

    #[test]
    fn run_and_exec_keep_our_failures_apart_from_the_program_s() {
        assert_eq!(taken().exit_code(), 4);
        assert_eq!(taken().of_a_program_runner().exit_code(), 125);
        assert_eq!(Failure::new(Code::TimedOut, "x").of_a_program_runner().exit_code(), 124);
        assert_eq!(Failure::exit(7).of_a_program_runner().exit_code(), 7);
    }

    #[test]
    fn a_reader_that_goes_away_ends_the_command_quietly() {
        let broken = Failure::stdout(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((broken.exit_code(), broken.render(Format::Text)), (0, None));
        let full = Failure::stdout(&io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit_code(), 1);
    }
}
