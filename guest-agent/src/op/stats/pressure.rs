//! Pressure stall information. Source: the kernel's `Documentation/accounting/psi.rst`.

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::stats::{Percent, Pressure, Stall, Stalls};

use super::unreadable;
use crate::system_file;

const CPU: &str = "/proc/pressure/cpu";
const MEMORY: &str = "/proc/pressure/memory";
const IO: &str = "/proc/pressure/io";

/// `None` for a kernel that was built without it, or booted with `psi=0`.
pub(super) fn read() -> Result<Option<Pressure>, AgentError> {
    let (Some(cpu), Some(memory), Some(io)) = (read_one(CPU)?, read_one(MEMORY)?, read_one(IO)?) else {
        return Ok(None);
    };
    Ok(Some(Pressure { cpu, memory, io }))
}

fn read_one(path: &str) -> Result<Option<Stalls>, AgentError> {
    let text = system_file::read_optional(path)?;
    text.map(|text| parse(&text).ok_or_else(|| unreadable(path))).transpose()
}

fn parse(text: &str) -> Option<Stalls> {
    let line = |kind: &str| text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
    Some(Stalls {
        some: stall(line("some")?)?,
        // Before Linux 5.13 nothing was said of all tasks at once wanting a processor.
        full: line("full").map_or(Some(Stall::default()), stall)?,
    })
}

fn stall(line: &str) -> Option<Stall> {
    let value = |name: &str| {
        line.split(' ')
            .find_map(|field| field.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, v)| v)
    };
    Some(Stall {
        avg10: percent(value("avg10")?)?,
        avg60: percent(value("avg60")?)?,
        avg300: percent(value("avg300")?)?,
        total_us: value("total")?.parse().ok()?,
    })
}

/// `12.34`, always with two digits behind the point.
fn percent(text: &str) -> Option<Percent> {
    let (whole, hundredths) = text.split_once('.').filter(|(_, hundredths)| hundredths.len() == 2)?;
    let (whole, hundredths): (u32, u32) = (whole.parse().ok()?, hundredths.parse().ok()?);
    Some(Percent(whole.checked_mul(100)?.checked_add(hundredths)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_time_are_exact() {
        let text = "some avg10=56.69 avg60=0.07 avg300=100.00 total=312591474\n\
                    full avg10=1.00 avg60=0.00 avg300=0.13 total=16338801\n";
        let stalls = parse(text).unwrap();
        let some =
            Stall { avg10: Percent(5669), avg60: Percent(7), avg300: Percent(10_000), total_us: 312_591_474 };
        assert_eq!(stalls.some, some);
        assert_eq!(stalls.full.avg300, Percent(13));
    }

    #[test]
    fn an_older_kernel_says_nothing_of_all_tasks() {
        let stalls = parse("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n").unwrap();
        assert_eq!((stalls.some.total_us, stalls.full), (1, Stall::default()));
    }

    #[test]
    fn what_is_no_pressure_is_refused() {
        for text in ["", "some avg10=1 avg60=0.00 avg300=0.00 total=1", "some avg10=0.00 total=1"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
