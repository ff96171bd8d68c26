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

/// Guest text on one line of a terminal: control characters, which could move the cursor or change the title, are shown
/// as escapes.
pub(crate) fn printable(text: &str) -> String {
    let show = |c: char| {
        if c.is_control() { c.escape_default().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(show).collect()
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
    fn what_a_guest_says_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b]0;title\x07\nb ä"), "a\\u{1b}]0;title\\u{7}\\nb ä");
    }
}
