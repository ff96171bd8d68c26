//! The checks that come with host-ctl.

/// A command that prints a line for each thing it looks for: its version, or [`NONE`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BuiltIn {
    /// The check's name.
    pub(super) name: &'static str,
    /// The command; a shell is not needed.
    pub(super) argv: &'static [&'static str],
    /// What its lines are about, in their order.
    pub(super) finds: &'static [&'static str],
}

/// What a command prints in the place of a version it looked for in vain.
pub(super) const NONE: &str = "-";

/// Prints Python's version and pip's. Where `importlib.metadata` is missing (before Python 3.8) pip has to be loaded,
/// which takes ten times as long. `PackageNotFoundError` is an `ImportError`.
const PYTHON: &str = "\
import sys
print(sys.version.split()[0], flush=True)
def pip():
    try:
        from importlib.metadata import version
    except ImportError:
        import pip
        return pip.__version__
    return version('pip')
try:
    print(pip())
except ImportError:
    print('-')
";

pub(super) const ALL: &[BuiltIn] = &[
    BuiltIn { name: "node", argv: &["node", "--version"], finds: &["node"] },
    BuiltIn { name: "python", argv: &["python3", "-c", PYTHON], finds: &["python", "pip"] },
    BuiltIn { name: "git", argv: &["git", "--version"], finds: &["git"] },
    // The client's own version: whether a daemon answers is health and not a dependency.
    BuiltIn { name: "docker", argv: &["docker", "--version"], finds: &["docker"] },
];

/// The names of all, for people.
pub(super) fn names() -> String {
    ALL.iter().map(|check| check.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::version::version;
    use super::*;

    #[test]
    fn this_machine_s_python_prints_a_line_for_itself_and_one_for_pip() {
        let Ok(output) = Command::new("python3").args(["-c", PYTHON]).output() else { return };
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let [python, pip] = lines[..] else { panic!("{text}") };
        assert!(version(python).is_some_and(|version| version.starts_with('3')), "{text}");
        assert!(pip == NONE || version(pip).is_some(), "{text}");
    }
}
