//! PAX records: `LENGTH KEY=VALUE\n`, where the length counts itself. Source: `pax(1)` of POSIX, and `tar(5)` for
//! `SCHILY.xattr.`.

use firstlight_protocol::message::copy::Attribute;
use firstlight_protocol::message::file::Timestamp;

/// Before an extended attribute's name.
pub(super) const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// A key and its value.
pub(super) type Record = (Vec<u8>, Vec<u8>);

/// Reads records to the last byte, or gives `None` when they are none.
pub(super) fn parse(mut bytes: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Some(records)
}

/// The value of a key; the last one counts.
pub(super) fn value<'a>(records: &'a [Record], key: &[u8]) -> Option<&'a [u8]> {
    records.iter().rev().find(|(found, _)| found == key).map(|(_, value)| value.as_slice())
}

/// The value of a key as a number.
pub(super) fn number(records: &[Record], key: &[u8]) -> Option<u64> {
    std::str::from_utf8(value(records, key)?).ok()?.parse().ok()
}

/// Adds a record.
pub(super) fn push(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() > length {
        length += 1;
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    for part in [key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Adds an extended attribute.
pub(super) fn push_attribute(records: &mut Vec<u8>, attribute: &Attribute) {
    push(records, &[ATTRIBUTE, &attribute.name].concat(), &attribute.value);
}

/// A time as a decimal fraction, as records have it. Before the epoch the fraction counts down.
pub(super) fn show_time(time: Timestamp) -> String {
    if time.seconds >= 0 || time.nanos == 0 {
        return format!("{}.{:09}", time.seconds, time.nanos);
    }
    format!("-{}.{:09}", time.seconds.unsigned_abs() - 1, 1_000_000_000 - time.nanos)
}

/// Reads a time.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (seconds, nanos): (i64, u32) = (whole.parse().ok()?, digits.parse().ok()?);
    if whole.starts_with('-') && nanos > 0 {
        return Some(Timestamp { seconds: seconds.checked_sub(1)?, nanos: 1_000_000_000 - nanos });
    }
    Some(Timestamp { seconds, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_s_length_counts_itself() {
        for (value, length) in [(1, 6), (3, 8), (4, 9), (5, 11), (92, 98), (93, 99), (94, 101)] {
            let mut records = Vec::new();
            push(&mut records, b"k", &vec![b'v'; value]);
            assert_eq!(records.len(), length, "{value}");
            assert!(records.starts_with(format!("{length} k=v").as_bytes()));
        }
    }

    #[test]
    fn malformed_records_are_none() {
        for bytes in [
            &b"5 a=b"[..],
            b"6 ab\n",
            b"x a=b\n",
            b"9 a=b\n",
            b"2 a=b\n",
            b"0 a=b\n",
            b"99999999999999999999 a=b\n",
        ] {
            assert_eq!(parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn times_are_decimal_fractions() {
        let at = |seconds, nanos| Timestamp { seconds, nanos };
        let cases =
            [(at(1, 5), "1.000000005"), (at(-1, 750_000_000), "-0.250000000"), (at(-3, 0), "-3.000000000")];
        for (time, text) in cases {
            assert_eq!(show_time(time), text);
            assert_eq!(parse_time(text), Some(time));
        }
        assert_eq!(parse_time("12"), Some(at(12, 0)));
        assert_eq!(parse_time("12.5"), Some(at(12, 500_000_000)));
        assert_eq!(parse_time("1.2.3"), None);
        assert_eq!(parse_time("x"), None);
    }

    proptest! {
        #[test]
        fn records_come_back_whatever_is_in_them(values: Vec<Vec<u8>>) {
            let mut bytes = Vec::new();
            for value in &values {
                push(&mut bytes, b"key", value);
            }
            let found: Vec<Vec<u8>> = parse(&bytes).unwrap().into_iter().map(|(_, value)| value).collect();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn any_bytes_are_records_or_none(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_time_comes_back(seconds in -(1_i64 << 40)..1 << 40, nanos in 0..1_000_000_000_u32) {
            let time = Timestamp { seconds, nanos };
            prop_assert_eq!(parse_time(&show_time(time)), Some(time));
        }
    }
}
