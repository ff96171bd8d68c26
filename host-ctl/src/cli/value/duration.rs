//! `500ms`, `30s`, `2m`, `1h30m`; a bare number is seconds, as for `docker stop -t`.

use std::time::Duration;

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses a duration, to the millisecond.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let error = || format!("{text:?} is no duration; write it like 500ms, 30s or 2m");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let (mut rest, mut total, mut allowed) = (text, 0_u64, &UNITS[..]);
    while !rest.is_empty() {
        let (number, tail) = split(rest, |c| c.is_ascii_digit());
        let (unit, tail) = split(tail, |c| c.is_ascii_alphabetic());
        let place = allowed.iter().position(|(name, _)| *name == unit).ok_or_else(error)?;
        let value = number.parse::<u64>().ok().and_then(|number| number.checked_mul(allowed[place].1));
        total = value.and_then(|value| total.checked_add(value)).ok_or_else(error)?;
        // Units come in falling order and once each, so `1s1h` and `1s1s` are typing errors.
        allowed = &allowed[place + 1..];
        rest = tail;
    }
    if text.is_empty() { Err(error()) } else { Ok(Duration::from_millis(total)) }
}

fn split(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !of(c)).unwrap_or(text.len()))
}

/// Shows a duration the way it can be typed.
pub(crate) fn show(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in UNITS {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h30m", 5_400_000),
            ("10", 10_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in ["", "s", "5 s", "-1s", "1.5s", "1s1h", "1s1s", "1d", "99999999999999999999s"] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("like 500ms"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_typed(millis in 0..u64::from(u32::MAX)) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&show(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_a_duration_or_an_error(text: String) {
            let _ = parse(&text);
        }
    }
}
