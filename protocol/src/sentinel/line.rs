//! One sentinel as one line, and back.
//!
//! ```text
//! line  = "FIRSTLIGHT-" NAME SP "boot=" 8HEX SP "seq=" DEC SP "t=" DEC *( SP field ) SP "mac=" 16HEX LF
//! field = key "=" ( 1*plain / DQUOTE *( printable / "\" DQUOTE / "\\" / "\n" / "\x" 2HEX ) DQUOTE )
//! plain = ALPHA / DIGIT / any of _./:+-@
//! ```

use std::fmt::Write as _;

use super::{Event, ExitStatus, MacKey, Sentinel};
use crate::boot_spec::Mode;
use crate::hex;

/// The longest line in bytes, newline included. One `write(2)` of it to a terminal is not split.
pub const MAX_LINE: usize = 512;

/// What every line starts with.
pub const PREFIX: &str = "FIRSTLIGHT-";

const MAC_KEY: &str = " mac=";
pub(super) const MAC_DIGITS: usize = 16;

/// Bytes of escaped text kept of a field that holds free text, so that a line with three of them stays under
/// [`MAX_LINE`] whatever they say. What is cut ends in `...`.
const MAX_TEXT: usize = 96;

/// The same of a field that is the only one of its event.
const MAX_ONLY_TEXT: usize = 3 * MAX_TEXT;

/// A line was no sentinel. Whoever finds one treats the line as program output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It does not follow the grammar.
    #[error("not a sentinel: {0}")]
    Grammar(&'static str),
    /// A field of this event is missing or has no value of its kind.
    #[error("sentinel field `{0}` is missing or malformed")]
    Field(&'static str),
    /// No event of this build has this name.
    #[error("unknown event {0:?}")]
    UnknownEvent(String),
    /// The MAC is another's.
    #[error("the MAC does not hold")]
    Mac,
}

impl Sentinel {
    /// The signed line, newline included: at most [`MAX_LINE`] bytes.
    #[must_use]
    pub fn render(&self, key: &MacKey) -> String {
        let Sentinel { boot, seq, t, event } = self;
        let mut line = Line(format!("{PREFIX}{} boot={boot} seq={seq} t={t}", event.name()));
        match event {
            Event::InitStart
            | Event::AgentReady
            | Event::HeadersStart
            | Event::HeadersReady
            | Event::PowerOff => {}
            Event::StageDone { stage, dur, thread, index, needs, skipped } => {
                line.text("stage", stage);
                line.number("dur", *dur);
                if let Some(thread) = thread {
                    line.number("thread", (*thread).into());
                }
                if let Some(index) = index {
                    line.number("index", (*index).into());
                }
                line.numbers("needs", needs);
                if let Some(reason) = skipped {
                    line.text("skipped", reason);
                }
            }
            Event::Restored { from } => line.text("from", &from.to_string()),
            Event::AgentExit { status, restarts } => {
                line.status(*status);
                line.number("restarts", (*restarts).into());
            }
            Event::ProgramStart { mode, pid } => {
                line.text("mode", mode.name());
                line.number("pid", (*pid).into());
            }
            Event::SystemReady { state, failed } => {
                line.text("state", state);
                line.text("failed", failed);
            }
            Event::HeadersSkipped { reason } => line.free_text("reason", reason, MAX_ONLY_TEXT),
            Event::HeadersFailed { error } => line.free_text("error", error, MAX_ONLY_TEXT),
            Event::Exit { status, oom } => {
                line.status(*status);
                line.number("oom", (*oom).into());
            }
            Event::Fatal { stage, errno, path, error } => {
                line.text("stage", stage);
                if let Some(errno) = errno {
                    line.text("errno", &errno.to_string());
                }
                if let Some(path) = path {
                    line.text("path", path);
                }
                line.text("error", error);
            }
        }
        let mac = key.mac(line.0.as_bytes());
        line.0.push_str(MAC_KEY);
        line.0.push_str(&hex::encode(&mac));
        line.0.push('\n');
        line.0
    }

    /// Reads a line without its newline and proves it with `key`.
    ///
    /// # Errors
    /// [`ParseError`]; the line is then program output.
    pub fn parse(line: &[u8], key: &MacKey) -> Result<Sentinel, ParseError> {
        let signed_len =
            line.len().checked_sub(MAC_KEY.len() + MAC_DIGITS).ok_or(ParseError::Grammar("too short"))?;
        let (signed, mac) = line.split_at(signed_len);
        let mac = mac.strip_prefix(MAC_KEY.as_bytes()).ok_or(ParseError::Grammar("no mac"))?;
        let mac = std::str::from_utf8(mac).ok().and_then(|mac| hex::decode(mac).ok());
        let mac = mac.ok_or(ParseError::Grammar("malformed mac"))?;
        if !key.proves(signed, mac) {
            return Err(ParseError::Mac);
        }
        let text = std::str::from_utf8(signed).map_err(|_| ParseError::Grammar("not UTF-8"))?;
        let text = text.strip_prefix(PREFIX).ok_or(ParseError::Grammar("no prefix"))?;
        let (name, rest) = text.split_once(' ').ok_or(ParseError::Grammar("no fields"))?;
        let fields = Fields::parse(rest)?;
        let boot = fields.text("boot")?.parse().map_err(|_| ParseError::Field("boot"))?;
        Ok(Sentinel {
            boot,
            seq: fields.number("seq")?,
            t: fields.number("t")?,
            event: event(name, &fields)?,
        })
    }
}

fn event(name: &str, fields: &Fields<'_>) -> Result<Event, ParseError> {
    Ok(match name {
        "INIT-START" => Event::InitStart,
        "RESTORED" => {
            Event::Restored { from: fields.text("from")?.parse().map_err(|_| ParseError::Field("from"))? }
        }
        "STAGE-DONE" => Event::StageDone {
            stage: fields.text("stage")?,
            dur: fields.number("dur")?,
            thread: fields.optional("thread", Fields::number)?,
            index: fields.optional("index", Fields::number)?,
            needs: fields.optional("needs", Fields::numbers)?.unwrap_or_default(),
            skipped: fields.optional("skipped", Fields::text)?,
        },
        "AGENT-READY" => Event::AgentReady,
        "AGENT-EXIT" => Event::AgentExit { status: fields.status()?, restarts: fields.number("restarts")? },
        "PROGRAM-START" => Event::ProgramStart { mode: fields.mode()?, pid: fields.number("pid")? },
        "SYSTEM-READY" => Event::SystemReady { state: fields.text("state")?, failed: fields.text("failed")? },
        "HEADERS-START" => Event::HeadersStart,
        "HEADERS-READY" => Event::HeadersReady,
        "HEADERS-SKIPPED" => Event::HeadersSkipped { reason: fields.text("reason")? },
        "HEADERS-FAILED" => Event::HeadersFailed { error: fields.text("error")? },
        "EXIT" => Event::Exit { status: fields.status()?, oom: fields.number::<u8>("oom")? != 0 },
        "FATAL" => Event::Fatal {
            stage: fields.text("stage")?,
            errno: fields.optional("errno", Fields::number)?,
            path: fields.optional("path", Fields::text)?,
            error: fields.text("error")?,
        },
        "POWER-OFF" => Event::PowerOff,
        other => return Err(ParseError::UnknownEvent(other.to_owned())),
    })
}

/// A line being written.
struct Line(String);

impl Line {
    fn number(&mut self, key: &str, value: u64) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, " {key}={value}");
    }

    /// Writes numbers with `:` between them, or no field when there are none or too many.
    fn numbers(&mut self, key: &str, values: &[u32]) {
        let start = self.0.len();
        for (index, value) in values.iter().enumerate() {
            let _ = if index == 0 { write!(self.0, " {key}={value}") } else { write!(self.0, ":{value}") };
        }
        if self.0.len() - start > MAX_TEXT {
            self.0.truncate(start);
        }
    }

    fn status(&mut self, status: ExitStatus) {
        match status {
            ExitStatus::Code(code) => self.number("code", code.into()),
            ExitStatus::Signal(signal) => self.number("signal", signal.into()),
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        self.free_text(key, value, MAX_TEXT);
    }

    /// Writes a text of which at most `most` bytes are kept once it is escaped.
    fn free_text(&mut self, key: &str, value: &str, most: usize) {
        let _ = write!(self.0, " {key}=");
        if !value.is_empty() && value.len() <= most && value.bytes().all(is_plain) {
            self.0.push_str(value);
            return;
        }
        self.0.push('"');
        let mut used = 0;
        for byte in value.bytes() {
            let start = self.0.len();
            match byte {
                b'"' => self.0.push_str("\\\""),
                b'\\' => self.0.push_str("\\\\"),
                b'\n' => self.0.push_str("\\n"),
                b' '..=b'~' => self.0.push(char::from(byte)),
                _ => {
                    let _ = write!(self.0, "\\x{byte:02x}");
                }
            }
            used += self.0.len() - start;
            if used > most {
                self.0.truncate(start);
                self.0.push_str("...");
                break;
            }
        }
        self.0.push('"');
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_./:+-@".contains(&byte)
}

/// The fields of a line that is being read.
struct Fields<'a>(Vec<(&'a str, String)>);

impl<'a> Fields<'a> {
    fn parse(mut rest: &'a str) -> Result<Fields<'a>, ParseError> {
        let mut fields = Vec::new();
        loop {
            let (key, value) = rest.split_once('=').ok_or(ParseError::Grammar("a field without a value"))?;
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => unquote(quoted)?,
                None => {
                    let end = value.find(' ').unwrap_or(value.len());
                    let (value, after) = value.split_at(end);
                    if value.is_empty() || !value.bytes().all(is_plain) {
                        return Err(ParseError::Grammar("a bare value that needs quotes"));
                    }
                    (value.to_owned(), after)
                }
            };
            fields.push((key, value));
            if after.is_empty() {
                return Ok(Fields(fields));
            }
            rest = after.strip_prefix(' ').ok_or(ParseError::Grammar("no space between fields"))?;
        }
    }

    fn text(&self, key: &'static str) -> Result<String, ParseError> {
        let field = self.0.iter().find(|(name, _)| *name == key);
        field.map(|(_, value)| value.clone()).ok_or(ParseError::Field(key))
    }

    fn number<T: std::str::FromStr>(&self, key: &'static str) -> Result<T, ParseError> {
        self.text(key)?.parse().map_err(|_| ParseError::Field(key))
    }

    fn numbers<T: std::str::FromStr>(&self, key: &'static str) -> Result<Vec<T>, ParseError> {
        let numbers = self.text(key)?;
        numbers.split(':').map(|number| number.parse().map_err(|_| ParseError::Field(key))).collect()
    }

    fn optional<T>(
        &self,
        key: &'static str,
        read: impl Fn(&Self, &'static str) -> Result<T, ParseError>,
    ) -> Result<Option<T>, ParseError> {
        let present = self.0.iter().any(|(name, _)| *name == key);
        if present { read(self, key).map(Some) } else { Ok(None) }
    }

    fn status(&self) -> Result<ExitStatus, ParseError> {
        match self.optional("code", Fields::number)? {
            Some(code) => Ok(ExitStatus::Code(code)),
            None => self.number("signal").map(ExitStatus::Signal),
        }
    }

    fn mode(&self) -> Result<Mode, ParseError> {
        let name = self.text("mode")?;
        let mode = [Mode::Exec, Mode::Systemd].into_iter().find(|mode| mode.name() == name);
        mode.ok_or(ParseError::Field("mode"))
    }
}

/// Reads a quoted value after its opening quote; gives the value and what follows its closing quote.
fn unquote(text: &str) -> Result<(String, &str), ParseError> {
    let escape = || ParseError::Grammar("malformed escape");
    let mut value = Vec::new();
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [b'"', ..] => {
                let after = text.get(text.len() - rest.len() + 1..).unwrap_or_default();
                // A cut may have split a character: the rest of the value is still worth reading.
                return Ok((String::from_utf8_lossy(&value).into_owned(), after));
            }
            [b'\\', b'x', high, low, after @ ..] => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).map_err(|_| escape())?;
                let [byte] = hex::decode(digits).map_err(|_| escape())?;
                value.push(byte);
                after
            }
            [b'\\', byte @ (b'"' | b'\\'), after @ ..] => {
                value.push(*byte);
                after
            }
            [b'\\', b'n', after @ ..] => {
                value.push(b'\n');
                after
            }
            [b'\\', ..] => return Err(escape()),
            [byte @ b' '..=b'~', after @ ..] => {
                value.push(*byte);
                after
            }
            [_, ..] => return Err(ParseError::Grammar("a byte that needs an escape")),
            [] => return Err(ParseError::Grammar("no closing quote")),
        };
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::hex::{BootId, Secret};
    use proptest::prelude::*;

    pub(in crate::sentinel) fn key() -> MacKey {
        MacKey::new(&Secret([7; 32]))
    }

    fn text() -> impl Strategy<Value = String> {
        // Short enough never to be cut, even when every byte is escaped.
        proptest::collection::vec(any::<char>(), 0..=6).prop_map(|chars| chars.into_iter().collect())
    }

    fn status() -> impl Strategy<Value = ExitStatus> {
        prop_oneof![any::<u8>().prop_map(ExitStatus::Code), any::<u8>().prop_map(ExitStatus::Signal)]
    }

    pub(in crate::sentinel) fn any_sentinel() -> impl Strategy<Value = Sentinel> {
        let event = prop_oneof![
            Just(Event::InitStart),
            any::<[u8; 4]>().prop_map(|from| Event::Restored { from: BootId(from) }),
            (
                (text(), any::<u64>(), any::<Option<u32>>(), any::<Option<u32>>()),
                // Few enough to fit.
                proptest::collection::vec(any::<u32>(), 0..8),
                proptest::option::of(text()),
            )
                .prop_map(|((stage, dur, thread, index), needs, skipped)| {
                    Event::StageDone { stage, dur, thread, index, needs, skipped }
                }),
            Just(Event::AgentReady),
            (status(), any::<u32>()).prop_map(|(status, restarts)| Event::AgentExit { status, restarts }),
            (prop_oneof![Just(Mode::Exec), Just(Mode::Systemd)], any::<u32>())
                .prop_map(|(mode, pid)| Event::ProgramStart { mode, pid }),
            (text(), text()).prop_map(|(state, failed)| Event::SystemReady { state, failed }),
            Just(Event::HeadersStart),
            Just(Event::HeadersReady),
            text().prop_map(|reason| Event::HeadersSkipped { reason }),
            text().prop_map(|error| Event::HeadersFailed { error }),
            (status(), any::<bool>()).prop_map(|(status, oom)| Event::Exit { status, oom }),
            (text(), any::<Option<i32>>(), proptest::option::of(text()), text())
                .prop_map(|(stage, errno, path, error)| Event::Fatal { stage, errno, path, error }),
            Just(Event::PowerOff),
        ];
        (any::<[u8; 4]>(), any::<u64>(), any::<u64>(), event).prop_map(|(boot, seq, t, event)| Sentinel {
            boot: BootId(boot),
            seq,
            t,
            event,
        })
    }

    proptest! {
        #[test]
        fn every_sentinel_survives_its_line(sentinel in any_sentinel()) {
            let line = sentinel.render(&key());
            prop_assert!(line.len() <= MAX_LINE);
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(Sentinel::parse(line.trim_end().as_bytes(), &key()), Ok(sentinel));
        }

        #[test]
        fn free_text_of_any_length_fits_the_line(stage: String, path: String, error: String) {
            let event = Event::Fatal { stage, errno: Some(i32::MIN), path: Some(path), error };
            let sentinel = Sentinel { boot: BootId([255; 4]), seq: u64::MAX, t: u64::MAX, event };
            let line = sentinel.render(&key());
            prop_assert!(line.len() <= MAX_LINE);
            prop_assert!(Sentinel::parse(line.trim_end().as_bytes(), &key()).is_ok());
        }

        #[test]
        fn a_text_that_is_alone_on_its_line_has_more_room_and_fits_too(error in "\\PC{0,400}") {
            let told = error.is_ascii() && error.len() < 140;
            let event = Event::HeadersFailed { error };
            let sentinel = Sentinel { boot: BootId([255; 4]), seq: u64::MAX, t: u64::MAX, event };
            let line = sentinel.render(&key());
            prop_assert!(line.len() <= MAX_LINE);
            let read = Sentinel::parse(line.trim_end().as_bytes(), &key()).unwrap();
            prop_assert!(!told || read == sentinel);
        }

        #[test]
        fn a_stage_that_needs_too_many_others_is_told_without_them(stage: String, skipped: String, count in 40..500_u32) {
            let (thread, index, needs) = (Some(u32::MAX), Some(u32::MAX), (0..count).collect());
            let event = Event::StageDone { stage, dur: u64::MAX, thread, index, needs, skipped: Some(skipped) };
            let line = Sentinel { boot: BootId([255; 4]), seq: u64::MAX, t: u64::MAX, event }.render(&key());
            prop_assert!(line.len() <= MAX_LINE);
            let read = Sentinel::parse(line.trim_end().as_bytes(), &key()).unwrap();
            let told = matches!(&read.event, Event::StageDone { needs, .. } if needs.is_empty());
            prop_assert!(told);
        }

        #[test]
        fn one_changed_bit_is_no_sentinel(sentinel in any_sentinel(), at: prop::sample::Index, bit in 0..8_u8) {
            let mut line = sentinel.render(&key()).trim_end().as_bytes().to_vec();
            let at = at.index(line.len());
            line[at] ^= 1 << bit;
            prop_assert!(Sentinel::parse(&line, &key()).is_err());
        }

        #[test]
        fn any_bytes_are_refused(bytes: Vec<u8>) {
            prop_assert!(Sentinel::parse(&bytes, &key()).is_err());
        }
    }

    #[test]
    fn the_line_is_frozen() {
        let sentinel = Sentinel {
            boot: BootId([0x5f, 0x1c, 0x09, 0xae]),
            seq: 9,
            t: 412_003_118,
            event: Event::Fatal {
                stage: "volume:/data".into(),
                errno: Some(2),
                path: Some("/dev/my disk".into()),
                error: "say \"hi\"\n".into(),
            },
        };
        let line = sentinel.render(&key());
        let (signed, _) = line.split_once(" mac=").unwrap();
        assert_eq!(
            signed,
            "FIRSTLIGHT-FATAL boot=5f1c09ae seq=9 t=412003118 stage=volume:/data errno=2 \
             path=\"/dev/my disk\" error=\"say \\\"hi\\\"\\n\""
        );
    }
}
