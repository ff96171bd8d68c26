//! `--since 10m` or `--since 2026-01-31T12:00:00Z`.

use std::time::SystemTime;

use super::duration;

/// A moment, or how long before now it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since(pub(crate) SystemTime);

/// Parses a moment; durations count back from now.
pub(crate) fn parse(text: &str) -> Result<Since, String> {
    parse_at(text, SystemTime::now())
}

fn parse_at(text: &str, now: SystemTime) -> Result<Since, String> {
    if let Ok(ago) = duration::parse(text) {
        return Ok(Since(now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)));
    }
    humantime::parse_rfc3339_weak(text)
        .map(Since)
        .map_err(|_| format!("{text:?} is no time; write it like 10m or 2026-01-31T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_duration_counts_back_from_now() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(parse_at("10m", now), Ok(Since(SystemTime::UNIX_EPOCH + Duration::from_secs(400))));
    }

    #[test]
    fn a_time_stands_for_itself() {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(3_600);
        assert_eq!(parse_at("1970-01-01T01:00:00Z", SystemTime::now()), Ok(Since(expected)));
    }

    #[test]
    fn other_text_is_refused_with_examples() {
        assert!(parse("yesterday").unwrap_err().contains("like 10m"));
    }
}
