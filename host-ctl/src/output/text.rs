//! Words for people.

use std::time::Duration;

/// How long ago something was, in its two largest units at most: `3s`, `4m`, `2h`, `5d`.
pub(crate) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A time that a person waits for: `0.4s`, `12.0s`.
pub(crate) fn elapsed(elapsed: Duration) -> String {
    format!("{:.1}s", elapsed.as_secs_f64())
}

/// A number of bytes in the largest binary unit that leaves a whole part: `512B`, `1.5KiB`, `103MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let Some(unit) = (1..=UNITS.len()).rev().find(|unit| bytes >> (10 * unit) > 0) else {
        return format!("{bytes}B");
    };
    let (whole, rest) = (bytes >> (10 * unit), (bytes >> (10 * (unit - 1))) & 1023);
    let name = UNITS[unit - 1];
    // Three digits say enough; they are cut and not rounded, so that 1023.9 KiB is not 1024.
    if whole >= 100 { format!("{whole}{name}") } else { format!("{whole}.{}{name}", rest * 10 / 1024) }
}

/// Guest text on one line of a terminal: control characters, which could move the cursor or change the title, are shown
/// as escapes.
pub(crate) fn printable(text: &str) -> String {
    let show = |c: char| {
        if c.is_control() { c.escape_default().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(show).collect()
}

/// Characters of guest text that is shown as a remark on something, such as the first line of what a command wrote.
const MAX_REMARK: usize = 200;

/// The beginning of guest text, likewise on one line: enough to recognize it. Nothing is cut in JSON.
pub(crate) fn remark(text: &str) -> String {
    let mut remark: String = printable(text).chars().take(MAX_REMARK + 1).collect();
    if let Some((end, _)) = remark.char_indices().nth(MAX_REMARK) {
        remark.replace_range(end.., "…");
    }
    remark
}

/// The name or path of a file, likewise on one line; bytes that are no UTF-8 are shown as escapes too.
pub(crate) fn printable_path(path: &[u8]) -> String {
    path.utf8_chunks()
        .map(|chunk| printable(chunk.valid()) + &chunk.invalid().escape_ascii().to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_the_unit_people_would_choose() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m"), (7_300, "2h"), (200_000, "2d")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn bytes_have_the_unit_people_would_choose() {
        for (count, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (1536, "1.5KiB"),
            ((1 << 20) - 1, "1023KiB"),
            (103 << 20, "103MiB"),
            (u64::MAX, "15.9EiB"),
        ] {
            assert_eq!(bytes(count), text, "{count}");
        }
    }

    #[test]
    fn what_a_guest_says_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b]0;title\x07\nb ä"), "a\\u{1b}]0;title\\u{7}\\nb ä");
    }

    #[test]
    fn a_remark_is_no_longer_than_a_few_lines_of_a_terminal() {
        assert_eq!(remark("\x07ä"), "\\u{7}ä");
        assert_eq!(remark(&"ä".repeat(200)), "ä".repeat(200));
        assert_eq!(remark(&"ä".repeat(70_000)), "ä".repeat(200) + "…");
    }

    #[test]
    fn names_that_differ_look_different() {
        assert_eq!(printable_path(b"a\xff\xc3\xa4\nb\xc3"), "a\\xffä\\nb\\xc3");
    }
}
