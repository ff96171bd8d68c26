//! The figures inside a document that people write: between two marks, and nothing else of it.

use std::io;
use std::path::Path;

const BEGIN: &str = "<!-- figures: written by `make bench ARGS=--publish` -->\n";
const END: &str = "<!-- end of figures -->";

/// Puts `figures` between the marks of the document `path`.
///
/// # Errors
/// The document cannot be read or written, or has no marks.
pub(crate) fn publish(path: &Path, figures: &str, of: Sections) -> io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let replaced = replace(&text, figures, of)
        .ok_or_else(|| io::Error::other(format!("{} has no place for figures", path.display())))?;
    std::fs::write(path, replaced)
}

/// Which sections a report has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sections {
    /// All there are: what else the document has is no longer measured.
    All,
    /// Some; the document's others stay.
    Some,
}

fn replace(text: &str, figures: &str, of: Sections) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (old, after) = rest.split_once(END)?;
    let figures = match of {
        Sections::All => figures.to_owned(),
        Sections::Some => merge(old.trim_matches('\n'), figures.trim_end()) + "\n",
    };
    Some(format!("{before}{BEGIN}\n{figures}\n{END}{after}"))
}

/// `old` with the sections of `new` in place of its own of the same title, and those it has not at its end.
fn merge(old: &str, new: &str) -> String {
    const HEADING: &str = "\n### ";
    let title = |section: &str| section.lines().next().unwrap_or_default().to_owned();
    let mut measured: Vec<&str> = new.split(HEADING).collect();
    let mut sections = vec![measured.remove(0)];
    for section in old.split(HEADING).skip(1) {
        let newer = measured.iter().position(|candidate| title(candidate) == title(section));
        sections.push(newer.map_or(section, |index| measured.remove(index)));
    }
    sections.extend(measured);
    let sections: Vec<&str> = sections.into_iter().map(|section| section.trim_matches('\n')).collect();
    sections.join(&format!("\n{HEADING}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_the_figures_stays() {
        let document = format!("# Title\n{BEGIN}\nold\n\n{END}\nthe end\n");
        let first = replace(&document, "new", Sections::All).unwrap();
        assert_eq!(first, format!("# Title\n{BEGIN}\nnew\n{END}\nthe end\n"));
        assert_eq!(replace(&first, "new", Sections::All).unwrap(), first);
        assert_eq!(replace("no marks", "new", Sections::All), None);
    }

    #[test]
    fn sections_that_were_not_measured_stay_where_they_are() {
        let report = |sections: &str| format!("Measured here.\n{sections}");
        let old = report("\n### A\n\nold\n\n### B\n\nold\n");
        let document = format!("{BEGIN}\n{old}\n{END}");
        let figures = report("\n### B\n\nnew\n\n### C\n\nnew\n");
        let merged = report("\n### A\n\nold\n\n### B\n\nnew\n\n### C\n\nnew\n");
        assert_eq!(
            replace(&document, &figures, Sections::Some).unwrap(),
            format!("{BEGIN}\n{merged}\n{END}")
        );
        assert_eq!(replace(&document, &old, Sections::Some).unwrap(), document);
    }
}
