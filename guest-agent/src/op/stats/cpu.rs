//! Processors and tasks. Source: `proc_stat(5)`, `proc_loadavg(5)`.

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::stats::Cpu;
use nix::unistd::{SysconfVar, sysconf};

use super::unreadable;
use crate::system_file;

const STAT: &str = "/proc/stat";
const LOADAVG: &str = "/proc/loadavg";

/// What `sysconf(3)` says on every Linux there is, should it ever say nothing.
const USUAL_TICKS: u64 = 100;

pub(super) fn read() -> Result<Cpu, AgentError> {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
    let ticks = ticks.filter(|ticks| *ticks > 0).unwrap_or(USUAL_TICKS);
    parse(&system_file::read(STAT)?, 1_000_000 / ticks).ok_or_else(|| unreadable(STAT))
}

pub(super) fn read_tasks() -> Result<u32, AgentError> {
    parse_tasks(&system_file::read(LOADAVG)?).ok_or_else(|| unreadable(LOADAVG))
}

/// `us_per_tick` is the length of the unit in which the file counts.
fn parse(text: &str, us_per_tick: u64) -> Option<Cpu> {
    let all = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = all.split_whitespace().map_while(|ticks| ticks.parse().ok()).collect();
    // Guest time, the last two, is in user and nice already.
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    let is_cpu = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let us = |ticks: u64| ticks.saturating_mul(us_per_tick);
    Some(Cpu {
        count: u32::try_from(text.lines().filter(is_cpu).count()).ok()?,
        user_us: us(user + nice),
        system_us: us(system + irq + softirq),
        idle_us: us(idle + iowait),
        steal_us: us(steal),
    })
}

/// The number after the slash in the fourth field.
fn parse_tasks(text: &str) -> Option<u32> {
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "cpu  100 20 30 4000 500 6 7 8 90 1\ncpu0 50 10 15 2000 250 3 3 4 45 1\n\
                        cpu1 50 10 15 2000 250 3 4 4 45 0\nintr 9 0\nctxt 8\nbtime 7\n";

    #[test]
    fn every_tick_is_counted_once_and_in_microseconds() {
        let cpu = parse(TEXT, 10_000).unwrap();
        let expected =
            Cpu { count: 2, user_us: 1_200_000, system_us: 430_000, idle_us: 45_000_000, steal_us: 80_000 };
        assert_eq!(cpu, expected);
        assert_eq!(cpu.busy_us(), 1_630_000);
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        for text in ["", "cpu0 1 2 3 4 5 6 7 8\n", "cpu  1 2 3\n", "cpu  a b c d e f g h\n"] {
            assert_eq!(parse(text, 10_000), None, "{text:?}");
        }
    }

    #[test]
    fn tasks_are_all_and_not_the_running_ones() {
        assert_eq!(parse_tasks("0.20 0.18 0.12 1/80 11206\n"), Some(80));
        assert_eq!(parse_tasks("0.20 0.18"), None);
    }
}
