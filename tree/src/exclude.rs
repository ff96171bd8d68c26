//! Patterns of what a sync leaves out: pure.
//!
//! | in a pattern | matches |
//! | --- | --- |
//! | `*`, `?` | any run of bytes of one name, any one byte of it |
//! | `**` | any run, over several names too; `**/` also none at all |
//! | `\` | the byte behind it, whatever that means otherwise |
//! | `/` at its end | directories alone |
//! | `/` elsewhere | the pattern is a path from the top; otherwise it is a name at any depth |

use firstlight_protocol::message::sync::{MAX_PATTERN, MAX_PATTERNS};

use crate::error::Error;
use crate::names::{Last, parent_and_last};

/// Which files are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclude(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    tokens: Vec<Token>,
    whole_path: bool,
    directories_only: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Run,
    /// `**`
    Deep,
    /// `**/`
    Above,
}

impl Exclude {
    /// Reads patterns.
    ///
    /// # Errors
    /// When there are too many, or one is too long.
    pub fn new(patterns: &[Vec<u8>]) -> Result<Exclude, Error> {
        if patterns.len() > MAX_PATTERNS {
            return Err(Error::Stream("there are more than 256 patterns"));
        }
        if patterns.iter().any(|pattern| pattern.len() > MAX_PATTERN) {
            return Err(Error::Stream("a pattern is longer than 1024 bytes"));
        }
        Ok(Exclude(patterns.iter().map(|pattern| Pattern::new(pattern)).collect()))
    }

    /// Whether the file at `path` is left out, and with it all that is in it.
    #[must_use]
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        self.0.iter().any(|pattern| (is_directory || !pattern.directories_only) && pattern.matches(path))
    }
}

impl Pattern {
    fn new(text: &[u8]) -> Pattern {
        let (text, directories_only) = match text.strip_suffix(b"/") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let whole_path = text.contains(&b'/');
        let text = text.strip_prefix(b"/").unwrap_or(text);
        Pattern { tokens: tokens(text), whole_path, directories_only }
    }

    fn matches(&self, path: &[u8]) -> bool {
        let subject = match parent_and_last(path) {
            (_, Last::Name(name)) if !self.whole_path => name,
            (_, Last::Name(_) | Last::Directory) => path,
        };
        // The tokens that may come next, all at once: a pattern of stars cannot make this try every split.
        let mut next = vec![false; self.tokens.len() + 1];
        self.enter(&mut next, 0);
        for byte in subject {
            let now = std::mem::replace(&mut next, vec![false; self.tokens.len() + 1]);
            for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| now[*at]) {
                let inside_a_name = *byte != b'/';
                match token {
                    Token::Byte(wanted) if wanted == byte => self.enter(&mut next, at + 1),
                    Token::One if inside_a_name => self.enter(&mut next, at + 1),
                    Token::Run if inside_a_name => self.enter(&mut next, at),
                    Token::Deep => self.enter(&mut next, at),
                    Token::Above => {
                        next[at] = true;
                        if !inside_a_name {
                            self.enter(&mut next, at + 1);
                        }
                    }
                    Token::Byte(_) | Token::One | Token::Run => {}
                }
            }
        }
        next[self.tokens.len()]
    }

    /// Notes that the token at `at` may come next, and those behind it that it may leave to.
    fn enter(&self, next: &mut [bool], mut at: usize) {
        loop {
            next[at] = true;
            match self.tokens.get(at) {
                Some(Token::Run | Token::Deep | Token::Above) => at += 1,
                Some(Token::Byte(_) | Token::One) | None => return,
            }
        }
    }
}

fn tokens(mut text: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        let (token, rest) = match (first, rest) {
            (b'*', [b'*', b'/', rest @ ..]) => (Token::Above, rest),
            (b'*', [b'*', rest @ ..]) => (Token::Deep, rest),
            (b'*', rest) => (Token::Run, rest),
            (b'?', rest) => (Token::One, rest),
            (b'\\', [escaped, rest @ ..]) => (Token::Byte(*escaped), rest),
            (byte, rest) => (Token::Byte(*byte), rest),
        };
        tokens.push(token);
        text = rest;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let exclude = Exclude::new(&[pattern.into()]).unwrap();
        for path in matching {
            assert!(exclude.matches(path.as_bytes(), false), "{pattern} should match {path}");
        }
        for path in others {
            assert!(!exclude.matches(path.as_bytes(), false), "{pattern} should not match {path}");
        }
    }

    #[test]
    fn a_name_matches_at_any_depth() {
        check("*.o", &["a.o", "x/y/b.o", ".o"], &["a.os", "a.o/b"]);
        check("target", &["target", "a/target"], &["target/a", "targets"]);
        check("?.c", &["a.c", "x/b.c"], &[".c", "ab.c"]);
    }

    #[test]
    fn a_path_matches_from_the_top() {
        check("/target", &["target"], &["a/target"]);
        check("a/*.o", &["a/b.o"], &["x/a/b.o", "a/x/b.o"]);
        check("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["ab", "a/xb", "b"]);
        check("**/b", &["b", "a/b", "x/y/b"], &["ab", "a/bc"]);
        check("a/**", &["a/b", "a/b/c"], &["a", "b/a"]);
    }

    #[test]
    fn a_backslash_takes_the_meaning_away() {
        check(r"\*", &["*"], &["a"]);
        check(r"a\?b", &["a?b"], &["axb"]);
        check("\\", &["\\"], &["a"]);
    }

    #[test]
    fn a_slash_at_the_end_means_directories_alone() {
        let exclude = Exclude::new(&[b"build/".to_vec()]).unwrap();
        assert!(exclude.matches(b"a/build", true));
        assert!(!exclude.matches(b"a/build", false));
    }

    #[test]
    fn patterns_are_bounded() {
        assert!(Exclude::new(&vec![b"a".to_vec(); MAX_PATTERNS + 1]).is_err());
        assert!(Exclude::new(&[vec![b'a'; MAX_PATTERN + 1]]).is_err());
    }

    /// The obvious way to match, for patterns short enough for it.
    fn naive(tokens: &[Token], text: &[u8]) -> bool {
        let Some((token, rest)) = tokens.split_first() else { return text.is_empty() };
        let tail = |from: usize| naive(rest, &text[from..]);
        match token {
            Token::Byte(byte) => text.first() == Some(byte) && tail(1),
            Token::One => text.first().is_some_and(|byte| *byte != b'/') && tail(1),
            Token::Run => (0..=text.len()).take_while(|end| !text[..*end].contains(&b'/')).any(tail),
            Token::Deep => (0..=text.len()).any(tail),
            Token::Above => (0..=text.len()).filter(|end| *end == 0 || text[end - 1] == b'/').any(tail),
        }
    }

    proptest! {
        #[test]
        fn all_at_once_is_as_one_by_one(pattern in "[ab/*?]{0,8}", path in "[ab]{1,3}(/[ab]{1,3}){0,3}") {
            let text = pattern.trim_start_matches('/').as_bytes();
            let tokens = tokens(text);
            let pattern = Pattern { tokens: tokens.clone(), whole_path: true, directories_only: false };
            prop_assert_eq!(pattern.matches(path.as_bytes()), naive(&tokens, path.as_bytes()));
        }
    }

    #[test]
    fn a_pattern_of_stars_takes_no_longer_than_its_length_says() {
        let exclude = Exclude::new(&["*a".repeat(MAX_PATTERN / 2).into_bytes()]).unwrap();
        assert!(!exclude.matches(&[b'a'; 400], false));
        let mut long = vec![b'a'; 4000];
        long.push(b'b');
        assert!(!exclude.matches(&long, false));
    }
}
