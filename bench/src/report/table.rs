//! The report as Markdown tables, which a terminal shows well enough.

use std::fmt::Write as _;

use firstlight_host_ctl::boot_bench::Spread;

use super::{Figure, Report, Section, Target};

/// The whole report.
pub(super) fn markdown(report: &Report) -> String {
    let mut text = format!("Measured on {}.\n", report.machine);
    for section in &report.sections {
        write_section(&mut text, section);
    }
    text
}

fn write_section(text: &mut String, section: &Section) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n### {}\n\n{}\n", section.title, section.text);
    let _ = writeln!(text, "| | median | min | max | n | |\n| --- | ---: | ---: | ---: | ---: | --- |");
    for figure in &section.figures {
        let Figure { what, unit, samples, not_measured } = figure;
        let Some(Spread { median, min, max }) = figure.spread() else {
            let why = not_measured.as_deref().unwrap_or("no samples");
            let _ = writeln!(text, "| {what} | not measured: {why} | | | | |");
            continue;
        };
        let [median, min, max] = [median, min, max].map(number);
        let _ = writeln!(text, "| {what} | {median} | {min} | {max} | {} | {unit} |", samples.len());
    }
    if section.checks.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n| | found | target | |\n| --- | ---: | ---: | --- |");
    for check in &section.checks {
        let target = match check.target {
            Target::AtMost(limit) => format!("≤ {}", number(limit)),
            Target::AtLeast(limit) => format!("≥ {}", number(limit)),
            Target::Open => String::new(),
        };
        let verdict = match check.target {
            Target::AtMost(_) | Target::AtLeast(_) if check.is_met() => "met",
            Target::AtMost(_) | Target::AtLeast(_) if !check.value.is_nan() => "**missed**",
            Target::AtMost(_) | Target::AtLeast(_) => "not measured",
            Target::Open => "",
        };
        let _ = writeln!(text, "| {} | {} | {target} | {verdict} |", check.what, number(check.value));
    }
}

/// Three digits that count, and thousands apart.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        return "–".to_owned();
    }
    if magnitude >= 1000.0 {
        return thousands(&format!("{value:.0}"));
    }
    match magnitude {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Check;
    use super::*;

    #[test]
    fn numbers_show_what_counts_of_them() {
        let shown = [1.078, 38.77, 316.4, 41_797_123.0, 999.0].map(number);
        assert_eq!(shown, ["1.08", "38.8", "316", "41,797,123", "999"]);
    }

    #[test]
    fn a_missed_target_is_told_from_one_that_is_met() {
        let checks = vec![
            Check::new("a", 1.0, Target::AtMost(1.15)),
            Check::new("b", 1.2, Target::AtMost(1.15)),
            Check::new("c", f64::NAN, Target::AtMost(1.0)),
            Check::new("d", 0.5, Target::Open),
        ];
        let figures = vec![
            Figure::new("boot", "ms", vec![1.0, 3.0]),
            Figure::not_measured("another's boot", "ms", "it is not installed"),
        ];
        let section = Section { name: "x", title: "X", text: "How.".into(), figures, checks };
        let report = Report { version: 1, machine: "a desk".into(), sections: vec![section] };
        let text = markdown(&report);
        assert!(text.contains("| boot | 2.00 | 1.00 | 3.00 | 2 | ms |"), "{text}");
        assert!(text.contains("| another's boot | not measured: it is not installed |"), "{text}");
        assert!(text.contains("| a | 1.00 | ≤ 1.15 | met |"), "{text}");
        assert!(text.contains("| b | 1.20 | ≤ 1.15 | **missed** |"), "{text}");
        assert!(text.contains("| c | – | ≤ 1.00 | not measured |"), "{text}");
        assert!(text.contains("| d | 0.50 |  |  |"), "{text}");
    }
}
