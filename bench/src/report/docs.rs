//! The figures inside a document that people write: between two marks, and nothing else of it.

use std::io;
use std::path::Path;

const BEGIN: &str = "<!-- figures: written by `make bench ARGS=--publish` -->\n";
const END: &str = "<!-- end of figures -->";

/// Puts `figures` between the marks of the document `path`.
///
/// # Errors
/// The document cannot be read or written, or has no marks.
pub(crate) fn publish(path: &Path, figures: &str) -> io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let replaced = replace(&text, figures)
        .ok_or_else(|| io::Error::other(format!("{} has no place for figures", path.display())))?;
    std::fs::write(path, replaced)
}

fn replace(text: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{figures}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_the_figures_stays() {
        let document = format!("# Title\n{BEGIN}\nold\n\n{END}\nthe end\n");
        let first = replace(&document, "new").unwrap();
        assert_eq!(first, format!("# Title\n{BEGIN}\nnew\n{END}\nthe end\n"));
        assert_eq!(replace(&first, "new").unwrap(), first);
        assert_eq!(replace("no marks", "new"), None);
    }
}
