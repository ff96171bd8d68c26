//! What can be set about a pool, and the bounds that cannot.

use std::time::Duration;

/// Most targets at a time. A caller for one more waits until one of them is idle or gone.
pub const MAX_TARGETS: usize = 32;
/// Most connections at a time: open, being made, or being closed. A target has more than one while an expired one
/// is still held, and with a TTL of 0. A quarter of the usual `RLIMIT_NOFILE` (1024), as a connection is one
/// descriptor.
pub const MAX_CONNECTIONS: usize = 256;
/// Most callers that wait, for room or for a dial. One more is refused at once.
pub const MAX_WAITERS: usize = 1024;
/// Longest dial; it then fails for all who wait. Callers have their own, usually shorter, deadlines.
pub const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Longest close of one connection; it is then dropped as it is.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// How long a connection is handed out, from the start of its dial, unless [`TTL_VARIABLE`] says otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(50);
/// Longest TTL that can be set: a connection that old has more to lose by being kept than a dial costs.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The environment variable that sets the TTL; see [`parse_ttl`].
pub const TTL_VARIABLE: &str = "FIRSTLIGHT_POOL_TTL";

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("", 1_000)];

/// How long connections are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Counted from the start of the dial, however often the connection is used. Zero: one dial and one close for
    /// each use.
    pub ttl: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { ttl: DEFAULT_TTL }
    }
}

impl Settings {
    /// The settings of this process' environment.
    ///
    /// # Errors
    /// [`TtlError`] when [`TTL_VARIABLE`] is set to something else than a TTL.
    pub fn from_env() -> Result<Settings, TtlError> {
        match std::env::var_os(TTL_VARIABLE) {
            Some(text) => parse_ttl(&text.to_string_lossy()).map(|ttl| Settings { ttl }),
            None => Ok(Settings::default()),
        }
    }
}

/// The value of [`TTL_VARIABLE`] is no TTL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{TTL_VARIABLE} is {found:?}; write it like 0, 500ms, 50s or 2m, at most 1440m")]
pub struct TtlError {
    found: String,
}

/// Parses a TTL: a whole number with `ms`, `s` or `m`; without, it is seconds. At most [`MAX_TTL`].
///
/// # Errors
/// [`TtlError`] for anything else.
pub fn parse_ttl(text: &str) -> Result<Duration, TtlError> {
    let error = || TtlError { found: text.chars().take(32).collect() };
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
    let number: u64 = number.parse().map_err(|_| error())?;
    let ttl = number.checked_mul(*millis).map(Duration::from_millis).ok_or_else(error)?;
    if ttl <= MAX_TTL { Ok(ttl) } else { Err(error()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ttl_reads_as_people_write_it() {
        for (text, millis) in
            [("0", 0), ("0s", 0), ("50", 50_000), ("500ms", 500), ("30s", 30_000), ("2m", 120_000)]
        {
            assert_eq!(parse_ttl(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_ttl_is_refused_by_name_and_with_an_example() {
        for text in ["", "s", "-1", "1.5s", "5 s", "1h", "1441m", "86401", "99999999999999999999"] {
            let error = parse_ttl(text).unwrap_err().to_string();
            assert!(error.contains(TTL_VARIABLE) && error.contains("50s") && error.contains(text), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_ttl_over_the_longest(text in "[0-9]{0,25}(ms|s|m|h)?") {
            if let Ok(ttl) = parse_ttl(&text) {
                prop_assert!(ttl <= MAX_TTL);
            }
        }
    }
}
