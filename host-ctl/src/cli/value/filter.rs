//! `--filter KEY=VALUE`, as docker has it: filters of different keys must all hold.

use std::collections::BTreeMap;

/// One filter, its key checked by whoever takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Parses `KEY=VALUE`, with one of the keys of the command.
pub(crate) fn parse(text: &str, keys: &[&str]) -> Result<Filter, String> {
    let known = || keys.join(", ");
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?}: write it like {}=VALUE", keys.join("=VALUE or ")))?;
    if keys.contains(&key) {
        Ok(Filter { key: key.to_owned(), value: value.to_owned() })
    } else {
        Err(format!("{key:?} is no key of this filter; there are {}", known()))
    }
}

/// A `--label`: with `run` it says what the label is, elsewhere which VMs are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

/// Parses `KEY` or `KEY=VALUE`.
pub(crate) fn parse_label(text: &str) -> Result<Label, String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if key.is_empty() {
        return Err(format!("{text:?} has no key; write it like tier=front"));
    }
    Ok(Label { key: key.to_owned(), value })
}

impl Label {
    /// Whether a VM with these labels is meant. A label without a value asks for its key alone.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.key);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_a_known_key() {
        let filter = parse("state=running", &["name", "state"]).unwrap();
        assert_eq!((filter.key.as_str(), filter.value.as_str()), ("state", "running"));
        assert!(parse("size=1", &["name", "state"]).unwrap_err().contains("there are name, state"));
        assert!(parse("running", &["name", "state"]).unwrap_err().contains("name=VALUE or state=VALUE"));
    }

    #[test]
    fn a_label_without_a_value_asks_for_its_key_alone() {
        let labels = BTreeMap::from([("tier".to_owned(), "front".to_owned())]);
        assert!(parse_label("tier").unwrap().matches(&labels));
        assert!(parse_label("tier=front").unwrap().matches(&labels));
        assert!(!parse_label("tier=back").unwrap().matches(&labels));
        assert!(!parse_label("zone").unwrap().matches(&labels));
        assert!(parse_label("=x").is_err());
    }
}
