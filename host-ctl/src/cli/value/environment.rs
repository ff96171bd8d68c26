//! `-e K=V`, `-e K` (the value host-ctl itself has), and files of such lines, as docker reads them.

use std::collections::BTreeMap;
use std::path::Path;

/// One `-e` argument: a name, and its value unless it is to be taken from host-ctl's own environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// Parses one `K=V` or `K`.
pub(crate) fn parse(text: &str) -> Result<Variable, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() || name.contains(char::is_whitespace) || text.contains('\0') {
        return Err(format!(
            "{text:?} names no variable; write it like NAME=value, or NAME to pass yours on"
        ));
    }
    Ok(Variable { name: name.to_owned(), value })
}

/// Parses an env-file: a variable a line; blank lines and lines that start with `#` are skipped; quotes mean
/// themselves.
fn parse_file(text: &str) -> Result<Vec<Variable>, (usize, String)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_start()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| parse(line).map_err(|error| (number, error)))
        .collect()
}

/// Reads an env-file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<Variable>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read env-file {}: {error}", path.display()))?;
    parse_file(&text).map_err(|(line, error)| format!("env-file {} line {line}: {error}", path.display()))
}

/// The environment that variables add up to, later ones winning. `own` looks up host-ctl's own variables; one that
/// host-ctl does not have is left out.
pub(crate) fn resolve<'a>(
    variables: impl IntoIterator<Item = &'a Variable>,
    own: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    let resolved = variables
        .into_iter()
        .filter_map(|Variable { name, value }| Some((name.clone(), value.clone().or_else(|| own(name))?)));
    resolved.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_may_hold_anything_and_be_empty() {
        let variable = |name: &str, value: Option<&str>| {
            Ok(Variable { name: name.into(), value: value.map(str::to_owned) })
        };
        assert_eq!(parse("A=b=c d"), variable("A", Some("b=c d")));
        assert_eq!(parse("A="), variable("A", Some("")));
        assert_eq!(parse("A"), variable("A", None));
    }

    #[test]
    fn a_variable_without_a_name_is_refused() {
        for text in ["", "=x", "two words=x"] {
            assert!(parse(text).unwrap_err().contains("NAME=value"), "{text}");
        }
    }

    #[test]
    fn a_file_is_a_variable_a_line_with_comments_and_blanks() {
        let variables = parse_file("# comment\n\nA=1\n  B='quoted'\nHOME\n").unwrap();
        let own = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let expected = [("A", "1"), ("B", "'quoted'"), ("HOME", "/root")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(resolve(&variables, own), BTreeMap::from(expected));
    }

    #[test]
    fn an_error_in_a_file_names_its_line() {
        assert_eq!(parse_file("A=1\n=2\n").unwrap_err().0, 2);
    }

    #[test]
    fn the_last_value_wins_and_what_the_host_lacks_is_left_out() {
        let variables = ["A=1", "A=2", "ABSENT"].map(|text| parse(text).unwrap());
        assert_eq!(resolve(&variables, |_| None), BTreeMap::from([("A".into(), "2".into())]));
    }

    proptest! {
        #[test]
        fn a_variable_survives_text(name in "[A-Za-z_][A-Za-z0-9_]*", value in "[^\\x00]*") {
            let parsed = parse(&format!("{name}={value}")).unwrap();
            prop_assert_eq!(parsed, Variable { name, value: Some(value) });
        }
    }
}
