//! A section's times as bars: the median, and a line from the least to the greatest.

use std::fmt::Write as _;

use firstlight_host_ctl::boot_bench::Spread;

use super::table::number;
use super::{Figure, Section};

const WIDTH: f64 = 860.0;
/// Room for the labels.
const LEFT: f64 = 330.0;
/// Room for the numbers.
const RIGHT: f64 = 110.0;
const ROW: f64 = 26.0;
const TOP: f64 = 40.0;

/// The picture; `None` for a section without times.
pub(super) fn bars(section: &Section) -> Option<String> {
    let times: Vec<&Figure> = section.figures.iter().filter(|figure| figure.unit == "ms").collect();
    let spreads = times.iter().filter_map(|figure| figure.spread());
    let longest = spreads.map(|spread| spread.max).fold(0.0, f64::max);
    if times.is_empty() || longest <= 0.0 {
        return None;
    }
    let height = (0..times.len()).fold(TOP, |height, _| height + ROW) + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"16\">{}, ms</text>\n",
        escape(section.title)
    );
    let mut y = TOP;
    for figure in times {
        bar(&mut svg, figure, y, (WIDTH - LEFT - RIGHT) / longest);
        y += ROW;
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn bar(svg: &mut String, figure: &Figure, y: f64, scale: f64) {
    let (text_y, middle) = (y + 15.0, y + 10.0);
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{text_y}\" text-anchor=\"end\">{}</text>",
        LEFT - 8.0,
        escape(&figure.what)
    );
    let Some(Spread { median, min, max }) = figure.spread() else {
        let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{text_y}\" fill=\"#777\">not measured</text>");
        return;
    };
    let at = |value: f64| LEFT + value * scale;
    let _ = write!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"20\" fill=\"#4c78a8\"/>\n\
         <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#222\" stroke-width=\"2\"/>\n\
         <text x=\"{:.1}\" y=\"{text_y}\">{}</text>\n",
        median * scale,
        at(min),
        at(max),
        at(max) + 8.0,
        number(median),
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_are_drawn() {
        let figures = vec![Figure::new("a <b>", "ms", vec![1.0, 2.0]), Figure::new("heap", "MiB", vec![1.0])];
        let mut section = Section { name: "x", title: "X", text: String::new(), figures, checks: vec![] };
        let svg = bars(&section).unwrap();
        assert!(svg.contains("a &lt;b&gt;") && !svg.contains("heap"), "{svg}");
        section.figures.push(Figure::not_measured("rival", "ms", "it is not there"));
        assert!(bars(&section).unwrap().contains("not measured"));
        section.figures.remove(0);
        assert_eq!(bars(&section), None);
    }
}
