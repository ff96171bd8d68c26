//! `TERM`, `SIGTERM`, `15`, `SIGRTMIN+4`: signals of the guest, which numbers them as Linux does on this architecture.

use std::str::FromStr as _;

use nix::sys::signal::Signal;

/// The first real-time signal programs see as `SIGRTMIN` in glibc: systemd's documentation counts from here.
const GLIBC_RTMIN: u8 = 34;

/// The highest signal.
const MAX: u8 = 64;

/// Parses a signal into its number, 1 to 64.
pub(crate) fn parse(text: &str) -> Result<u8, String> {
    let error = || format!("{text:?} is no signal; write it like TERM, SIGTERM or 15");
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = if let Ok(number) = name.parse::<u8>() {
        number
    } else if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset =
            if offset.is_empty() { Ok(0) } else { offset.strip_prefix('+').unwrap_or("").parse::<u8>() };
        GLIBC_RTMIN.saturating_add(offset.map_err(|_| error())?)
    } else {
        let signal = Signal::from_str(&format!("SIG{name}")).map_err(|_| error())?;
        u8::try_from(signal as i32).map_err(|_| error())?
    };
    if (1..=MAX).contains(&number) { Ok(number) } else { Err(error()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signals_are_named_or_numbered() {
        for (text, number) in [
            ("TERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("USR1", 10),
            ("SIGRTMIN+4", 38),
            ("RTMIN", 34),
            ("64", 64),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in ["", "0", "65", "-1", "NONE", "RTMIN+", "RTMIN+99", "SIG"] {
            assert!(parse(text).unwrap_err().contains("like TERM"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_signal_from_1_to_64_or_an_error(text: String) {
            if let Ok(number) = parse(&text) {
                prop_assert!((1..=MAX).contains(&number));
            }
        }
    }
}
