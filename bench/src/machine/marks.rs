//! What the plugin `c/marks.c` says: when the guest executed what, and after how many instructions.

use std::fs;
use std::path::Path;

/// Bytes of machine code that make a mark. A translation block ends at the first jump or system call, and the start of
/// a C library's program, as that of ours, is longer than this.
const CODE: usize = 12;

/// A moment of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// By the host's monotonic clock, in ns.
    pub(crate) at: u64,
    /// Processor time QEMU had taken, in ns: unlike the clock it does not go on while others have the processor.
    pub(crate) processor: u64,
    /// Instructions that QEMU had translated.
    pub(crate) translated: u64,
    /// Instructions the guest had executed; 0 when they were not counted.
    pub(crate) instructions: u64,
}

/// The moments of one boot that the figures are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks {
    /// When the VMM was started.
    pub(crate) power_on: u64,
    /// The guest's first instruction.
    pub(crate) start: Moment,
    /// Init's first instruction: the first process of the C library's.
    pub(crate) init: Moment,
    /// The program's first instruction.
    pub(crate) program: Moment,
}

impl Marks {
    /// From init's first instruction to the program's, in ms.
    #[must_use]
    pub(crate) fn boot_ms(&self) -> f64 {
        milliseconds(self.program.at - self.init.at)
    }

    /// From init's first instruction to the program's, in ms of QEMU's processor time.
    #[must_use]
    pub(crate) fn boot_processor_ms(&self) -> f64 {
        milliseconds(self.program.processor - self.init.processor)
    }

    /// From init's first instruction to the program's, in instructions that QEMU translated on the way.
    #[must_use]
    pub(crate) fn boot_translated(&self) -> u64 {
        self.program.translated - self.init.translated
    }

    /// From init's first instruction to the program's, in instructions.
    #[must_use]
    pub(crate) fn boot_instructions(&self) -> u64 {
        self.program.instructions - self.init.instructions
    }

    /// From the VMM's start to the guest's first instruction, in ms.
    #[must_use]
    pub(crate) fn vmm_ms(&self) -> f64 {
        milliseconds(self.start.at - self.power_on)
    }

    /// From the guest's first instruction to init's, in ms.
    #[must_use]
    pub(crate) fn kernel_ms(&self) -> f64 {
        milliseconds(self.init.at - self.start.at)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a boot's nanoseconds are far below 2^52")]
fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// The plugin's argument for a mark at the entry point of the static program `path`.
#[must_use]
pub(crate) fn at_entry_of(name: &str, path: &Path) -> String {
    let program = fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let code = entry_code(&program).unwrap_or_else(|| panic!("{} is no ELF program", path.display()));
    let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("mark={name}:{hex}")
}

/// The code at an ELF64 program's entry point. Source: `elf(5)`.
fn entry_code(program: &[u8]) -> Option<&[u8]> {
    const EXECUTABLE: u32 = 1;
    let number = |offset: usize, size: usize| {
        let bytes = program.get(offset..offset + size)?;
        let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        usize::try_from(number).ok()
    };
    let (entry, headers, size, count) = (number(24, 8)?, number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut segments = (0..count).map(|index| headers + index * size);
    segments.find_map(|header| {
        let loaded = number(header, 4)? == 1 && number(header + 4, 4)? & EXECUTABLE as usize != 0;
        let (offset, address, length) =
            (number(header + 8, 8)?, number(header + 16, 8)?, number(header + 32, 8)?);
        let inside = loaded && (address..address + length).contains(&entry);
        inside.then(|| program.get(entry - address + offset..)?.get(..CODE)).flatten()
    })
}

/// Reads one line of the plugin's: the mark's name and moment.
#[must_use]
pub(crate) fn parse(line: &str) -> Option<(&str, Moment)> {
    let mut words = line.split_whitespace();
    if words.next()? != "mark" {
        return None;
    }
    let name = words.next()?;
    let mut number = || words.next()?.parse().ok();
    let moment =
        Moment { at: number()?, processor: number()?, translated: number()?, instructions: number()? };
    Some((name, moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_plugin_is_a_moment_and_anything_else_is_not() {
        let moment = Moment { at: 12, processor: 3, translated: 4, instructions: 56 };
        assert_eq!(parse("mark init 12 3 4 56"), Some(("init", moment)));
        assert_eq!(parse("warning: something"), None);
        assert_eq!(parse("mark init 12 3 4"), None);
    }

    #[test]
    fn the_entry_point_of_this_very_program_is_found() {
        let program = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(entry_code(&program).unwrap().len(), CODE);
        assert_eq!(entry_code(&program[..100]), None);
    }
}
