//! The program's cgroup. Source: the kernel's `Documentation/admin-guide/cgroup-v2.rst`.

use std::path::Path;

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::stats::Program;

use crate::system_file;

/// Where guest-init puts the program.
const CGROUP: &str = "/sys/fs/cgroup/firstlight-program";

/// `None` without a program of guest-init's: under systemd, or outside a VM.
pub(super) fn read() -> Result<Option<Program>, AgentError> {
    read_in(Path::new(CGROUP))
}

fn read_in(cgroup: &Path) -> Result<Option<Program>, AgentError> {
    let file = |name: &str| system_file::read_optional(cgroup.join(name));
    let Some(cpu) = file("cpu.stat")? else { return Ok(None) };
    let number = |text: Option<String>| text.and_then(|text| text.trim().parse().ok());
    Ok(Some(Program {
        cpu_us: field(&cpu, "usage_usec").unwrap_or(0),
        memory: number(file("memory.current")?),
        // `max`, which is no number, is no limit.
        memory_max: number(file("memory.max")?),
        oom_kills: file("memory.events")?.and_then(|events| field(&events, "oom_kill")).unwrap_or(0),
    }))
}

/// The value of the line `NAME VALUE`.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut fields = text.lines().filter_map(|line| line.split_once(' '));
    fields.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_with_a_limit_is_read_whole() {
        let cgroup = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(cgroup.path().join(name), text).unwrap();
        write("cpu.stat", "usage_usec 12345\nuser_usec 12000\nsystem_usec 345\n");
        write("memory.current", "4096\n");
        write("memory.max", "max\n");
        write("memory.events", "oom 3\noom_kill 2\noom_group_kill 9\n");
        let mut expected = Program { cpu_us: 12_345, memory: Some(4096), memory_max: None, oom_kills: 2 };
        assert_eq!(read_in(cgroup.path()), Ok(Some(expected)));
        write("memory.max", "1048576\n");
        expected.memory_max = Some(1 << 20);
        assert_eq!(read_in(cgroup.path()), Ok(Some(expected)));
    }

    #[test]
    fn without_a_memory_controller_there_is_still_processor_time() {
        let cgroup = tempfile::tempdir().unwrap();
        std::fs::write(cgroup.path().join("cpu.stat"), "usage_usec 7\n").unwrap();
        assert_eq!(read_in(cgroup.path()), Ok(Some(Program { cpu_us: 7, ..Program::default() })));
        assert_eq!(read_in(Path::new("/no/such/cgroup")), Ok(None));
    }
}
