//! The chart on a terminal.

use super::{Chart, Row, tick};

/// The narrowest bars that still tell something, in columns.
const MIN_BARS: usize = 20;

/// Columns between two marks on the axis, at least: the widest number and a space.
const MARK: usize = 8;

/// What the last line says of the two shades.
const LEGEND: &str = "█ the chain that decided when the program started   ▒ beside it   ▸ goes on";

impl Chart {
    /// The chart as lines of at most `width` columns, as far as the labels leave room.
    #[must_use]
    pub fn to_text(&self, width: usize) -> String {
        let columns: Vec<String> = self.rows.iter().map(left).collect();
        let heading = format!("{:>9} {:>9}  {:>2}  ", "START ms", "TOOK ms", "T");
        let labels = self.rows.iter().map(|row| row.label.chars().count()).max().unwrap_or_default();
        let after =
            self.rows.iter().filter_map(|row| row.after.as_ref()).map(|after| after.chars().count() + 7);
        let right = after.max().unwrap_or_default();
        let used = labels + 1 + heading.chars().count() + right;
        let bars = width.saturating_sub(used).max(MIN_BARS);
        let scale = Scale { end: self.end, columns: bars };

        let mut lines = vec![self.title(), format!("{:labels$} {heading}{}", "", scale.axis())];
        for (row, columns) in self.rows.iter().zip(columns) {
            let after = row.after.as_ref().map(|after| format!(" after {after}")).unwrap_or_default();
            let line = format!("{:labels$} {columns}{}{after}", row.label, scale.bar(row));
            lines.push(line.trim_end().to_owned());
        }
        lines.push(LEGEND.to_owned());
        lines.join("\n") + "\n"
    }

    fn title(&self) -> String {
        let running = self.running.map(|at| format!(": running after {at:.1} ms"));
        format!("boot {} of {}{}", self.boot_id, self.vm, running.unwrap_or_default())
    }
}

/// The figures of a row.
fn left(row: &Row) -> String {
    let took = row.duration().map(|took| format!("{took:.1}")).unwrap_or_default();
    let thread = row.thread.map(|thread| thread.to_string()).unwrap_or_default();
    format!("{:>9.1} {took:>9}  {thread:>2}  ", row.start)
}

/// Milliseconds as columns.
struct Scale {
    end: f64,
    columns: usize,
}

impl Scale {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of some columns, clamped to them"
    )]
    fn column(&self, at: f64) -> usize {
        (at / self.end * self.columns as f64).clamp(0.0, self.columns as f64) as usize
    }

    fn axis(&self) -> String {
        let marks = u32::try_from(self.columns / MARK).unwrap_or(u32::MAX).max(1);
        let step = tick(self.end, f64::from(marks));
        let mut axis = String::new();
        for number in 0..=marks {
            let at = f64::from(number) * step;
            let column = self.column(at);
            if at < self.end && column >= axis.len() {
                axis.push_str(&" ".repeat(column - axis.len()));
                axis.push_str(&format!("{at}"));
            }
        }
        axis
    }

    /// The bar of a row: at least one column, however short it was.
    fn bar(&self, row: &Row) -> String {
        let first = self.column(row.start).min(self.columns - 1);
        let goes_on = row.end.is_none_or(|end| end > self.end);
        let last = self.column(row.end.unwrap_or(self.end)).max(first + 1);
        let shade = if row.critical { "█" } else { "▒" };
        let length = last - first - usize::from(goes_on);
        let bar = format!("{}{}{}", " ".repeat(first), shade.repeat(length), if goes_on { "▸" } else { "" });
        bar + &" ".repeat(self.columns - last)
    }
}
