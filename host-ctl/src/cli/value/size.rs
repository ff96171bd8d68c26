//! `256M`, `1G`: binary multiples, as QEMU and docker read them.

/// Parses a size into bytes.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let error = || format!("{text:?} is no size; write it like 256M or 1G");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(error()),
    };
    let number: u64 = number.parse().map_err(|_| error())?;
    number.checked_mul(1 << shift).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_binary_multiples() {
        for (text, bytes) in
            [("256M", 256 << 20), ("1g", 1 << 30), ("1K", 1024), ("4096", 4096), ("2MiB", 2 << 20)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for text in ["", "M", "-1M", "1.5G", "12 M", "1X", "99999999999999T"] {
            assert!(parse(text).unwrap_err().contains("like 256M"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_an_error(text: String) {
            let _ = parse(&text);
        }
    }
}
