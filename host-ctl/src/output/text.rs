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

/// Bytes in the unit people would choose, of the binary ones.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let scale = usize::try_from(bytes.ilog2() / 10 - 1).map_or(0, |scale| scale.min(UNITS.len() - 1));
    // Tenths, rounded to the nearest.
    let tenths = (u128::from(bytes) * 10 + (512 << (scale * 10))) >> ((scale + 1) * 10);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[scale])
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
    fn a_size_has_the_unit_people_would_choose() {
        let sizes =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (2_500_000, "2.4 MiB")];
        for (bytes, text) in sizes.into_iter().chain([(3 << 30, "3.0 GiB"), (u64::MAX, "16777216.0 TiB")]) {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn what_a_guest_says_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b]0;title\x07\nb ä"), "a\\u{1b}]0;title\\u{7}\\nb ä");
    }
}
