//! The chart as an SVG picture, to be read on a laptop's screen.

use svg::Document;
use svg::node::element::{Group, Line, Path, Rectangle, Style, Text, Title};

use super::{Chart, Kind, Row, tick};

/// Pixels. The width is that of a laptop's screen with a margin; the height follows from the rows.
const WIDTH: f64 = 1240.0;
const MARGIN: f64 = 20.0;
const HEADER: f64 = 70.0;
const ROW: f64 = 24.0;
const BAR: f64 = 16.0;
/// Room right of the bars for the label of the last one.
const LABEL: f64 = 240.0;

/// Marks on the axis, at most.
const MARKS: f64 = 12.0;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#222}\
.title{font-size:16px;font-weight:600}.axis{fill:#777;font-size:11px}.grid{stroke:#ddd}.running{stroke:#2a8f4e;stroke-width:2}\
.need{stroke:#999;fill:none}.need.critical{stroke:#c0392b}rect{rx:2px}rect.critical{stroke:#c0392b;stroke-width:1.5}\
@media (prefers-color-scheme:dark){svg{background:#1b1b1b}text{fill:#ddd}.grid{stroke:#333}}";

impl Chart {
    /// The chart as an SVG document.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let rows = u32::try_from(self.rows.len()).map_or(f64::MAX, f64::from);
        let height = HEADER + rows * ROW + MARGIN;
        let mut document = Document::new()
            .set("viewBox", (0.0, 0.0, WIDTH, height))
            .set("width", WIDTH)
            .set("height", height)
            .add(Style::new(STYLE))
            .add(self.heading())
            .add(self.grid(height));
        for (number, row) in (0_u32..).zip(&self.rows) {
            document = document.add(self.needs(number, row)).add(self.row(number, row));
        }
        document.to_string()
    }

    fn heading(&self) -> Text {
        let running = self.running.map(|at| format!(" — running after {at:.1} ms")).unwrap_or_default();
        let title = format!("{}, boot {}{running}", self.vm, self.boot_id);
        text(&title, MARGIN, 26.0).set("class", "title")
    }

    fn x(&self, at: f64) -> f64 {
        MARGIN + (at / self.end).clamp(0.0, 1.0) * (WIDTH - 2.0 * MARGIN - LABEL)
    }

    fn grid(&self, height: f64) -> Group {
        let step = tick(self.end, MARKS);
        let mut grid = Group::new();
        let mut at = 0.0;
        while at <= self.end {
            let x = self.x(at);
            grid = grid.add(vertical(x, HEADER - 12.0, height - MARGIN).set("class", "grid")).add(
                text(&format!("{at} ms"), x, HEADER - 18.0).set("class", "axis").set("text-anchor", "middle"),
            );
            at += step;
        }
        match self.running {
            Some(at) => {
                grid.add(vertical(self.x(at), HEADER - 12.0, height - MARGIN).set("class", "running"))
            }
            None => grid,
        }
    }

    fn row(&self, number: u32, row: &Row) -> Group {
        let (start, end) = (self.x(row.start), self.x(row.end.unwrap_or(self.end)));
        let class = if row.critical { "critical" } else { "" };
        let bar = Rectangle::new()
            .set("x", start)
            .set("y", top(number))
            .set("width", (end - start).max(1.0))
            .set("height", BAR)
            .set("fill", colour(row.kind))
            .set("class", class);
        let took = row.duration().map(|took| format!(" {took:.1} ms")).unwrap_or_default();
        let label = format!("{}{took}", row.label);
        Group::new().add(Title::new(hint(row))).add(bar).add(text(&label, end + 6.0, top(number) + BAR - 4.0))
    }

    /// Lines from the ends of what a row waited for to its start.
    fn needs(&self, number: u32, row: &Row) -> Group {
        let mut group = Group::new();
        for (above, need) in (0_u32..).zip(&self.rows) {
            let Some(end) = need.end.filter(|_| need.kind == Kind::Stage && row.needs.contains(&need.label))
            else {
                continue;
            };
            let (x, y) = (self.x(end), top(above) + BAR / 2.0);
            let (to_x, to_y) = (self.x(row.start), top(number) + BAR / 2.0);
            let critical = row.critical && row.after.as_ref() == Some(&need.label);
            let class = if critical { "need critical" } else { "need" };
            let curve =
                format!("M{x:.1},{y:.1} C{:.1},{y:.1} {x:.1},{to_y:.1} {to_x:.1},{to_y:.1}", x + 12.0);
            group = group.add(Path::new().set("d", curve).set("class", class));
        }
        group
    }
}

fn top(number: u32) -> f64 {
    HEADER + f64::from(number) * ROW
}

fn text(content: &str, x: f64, y: f64) -> Text {
    Text::new(content).set("x", x).set("y", y)
}

fn vertical(x: f64, from: f64, to: f64) -> Line {
    Line::new().set("x1", x).set("x2", x).set("y1", from).set("y2", to)
}

/// What is shown when the pointer rests on a row.
fn hint(row: &Row) -> String {
    let mut hint = format!("{}: from {:.1} ms", row.label, row.start);
    if let Some(end) = row.end {
        hint.push_str(&format!(" to {end:.1} ms"));
    }
    if let Some(thread) = row.thread {
        hint.push_str(&format!(", thread {thread}"));
    }
    if !row.needs.is_empty() {
        hint.push_str(&format!(", after {}", row.needs.join(", ")));
    }
    if let Some(reason) = &row.skipped {
        hint.push_str(&format!(", skipped: {reason}"));
    }
    hint
}

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Host => "#b8b8b8",
        Kind::Vmm => "#9aa7b5",
        Kind::Kernel => "#7da7d9",
        Kind::Stage => "#f0b95b",
        Kind::Headers => "#c9b6e4",
        Kind::Agent => "#8ccf9b",
        Kind::Program => "#5fb3a8",
        Kind::System => "#e39a9a",
    }
}
