//! Finding a version in what a command prints about itself.

/// The first word that looks like a version: digits with a dot between them, perhaps after a `v`. Whatever follows them
/// in the word belongs to it, but for punctuation at its end.
pub(super) fn version(line: &str) -> Option<String> {
    line.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | ','))
        .map(|word| word.strip_prefix('v').unwrap_or(word))
        .map(|word| word.trim_end_matches(['.', ':', ';']))
        .find(|word| looks_like_one(word))
        .map(str::to_owned)
}

fn looks_like_one(word: &str) -> bool {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &word.as_bytes()[digits..];
    digits > 0 && rest.first() == Some(&b'.') && rest.get(1).is_some_and(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_found_where_programs_print_them() {
        for (line, expected) in [
            ("v20.11.1", "20.11.1"),
            ("git version 2.39.2", "2.39.2"),
            ("git version 2.39.3 (Apple Git-145)", "2.39.3"),
            ("Docker version 24.0.5, build ced0996", "24.0.5"),
            ("curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1", "7.88.1"),
            ("openjdk version \"17.0.9\" 2023-10-17", "17.0.9"),
            ("go version go1.21.1 linux/amd64 1.2.", "1.2"),
            ("rustc 1.95.0-nightly (59807616e 2026-04-14)", "1.95.0-nightly"),
            ("3.13.0rc1+", "3.13.0rc1+"),
        ] {
            assert_eq!(version(line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_is_no_version_is_not_taken_for_one() {
        for line in ["", "ok", "2", "v", "1.", ".5", "on 2024-01-02", "a1.2", "-"] {
            assert_eq!(version(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_has_a_version_or_none(line: String) {
            if let Some(version) = version(&line) {
                prop_assert!(line.contains(&version));
            }
        }
    }
}
