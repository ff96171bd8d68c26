//! Columns that line up.

/// Space between two columns.
const GAP: usize = 3;

/// A table for people: a heading and rows of as many cells.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with nothing but its heading.
    pub(crate) fn new(heading: &[&str]) -> Table {
        Table { rows: vec![heading.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as lines.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| padded(cell, width + GAP));
            cells.collect::<String>().trim_end().to_owned() + "\n"
        };
        self.rows.iter().map(line).collect()
    }
}

/// A cell and the space up to `width`. `format!` panics where that is over 65,535.
fn padded(cell: &str, width: usize) -> String {
    cell.to_owned() + &" ".repeat(width.saturating_sub(cell.chars().count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_may_be_of_any_length() {
        let long = "x".repeat(70_000);
        let mut table = Table::new(&["COMMAND", "STATE"]);
        table.row(vec![long.clone(), "running".into()]);
        let lines = table.render();
        assert_eq!(lines.lines().nth(1), Some(format!("{long}   running").as_str()));
    }

    #[test]
    fn columns_line_up_and_lines_do_not_trail_off() {
        let mut table = Table::new(&["NAME", "STATE", "LABELS"]);
        table.row(vec!["web".into(), "initializing".into(), "tier=front".into()]);
        table.row(vec!["database".into(), "running".into(), String::new()]);
        insta::assert_snapshot!(table.render(), @r"
        NAME       STATE          LABELS
        web        initializing   tier=front
        database   running
        ");
    }
}
