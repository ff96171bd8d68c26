//! Finding the program: a name without a slash is looked for in the directories of `PATH`.

use std::ffi::{CString, NulError};
use std::os::unix::fs::PermissionsExt;

use nix::errno::Errno;

/// `PATH` where the spec gives none.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file `name` means, as `execvp(3)` would find it with this `PATH` and this working directory.
///
/// # Errors
/// `ENOENT` when there is none; `EACCES` when there is one that nobody may execute.
pub(crate) fn find(name: &str, path: &str, cwd: &str) -> Result<String, Errno> {
    if name.contains('/') {
        return Ok(name.to_owned());
    }
    let mut failure = Errno::ENOENT;
    for directory in path.split(':') {
        // An empty entry is the working directory, by an old rule of the shell's.
        let candidate = match directory {
            "" => format!("{cwd}/{name}"),
            relative if !relative.starts_with('/') => format!("{cwd}/{relative}/{name}"),
            absolute => format!("{absolute}/{name}"),
        };
        match std::fs::metadata(&candidate) {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => return Ok(candidate),
            Ok(found) if found.is_file() => failure = Errno::EACCES,
            Ok(_) | Err(_) => {}
        }
    }
    Err(failure)
}

/// The strings as `execve` takes them.
///
/// # Errors
/// A string with a NUL in it, which no validated boot spec has.
pub(crate) fn c_strings(strings: Vec<String>) -> Result<Vec<CString>, NulError> {
    strings.into_iter().map(CString::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, create_dir, set_permissions, write};

    fn image() -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str, mode| {
            write(directory.path().join(name), "").unwrap();
            set_permissions(directory.path().join(name), Permissions::from_mode(mode)).unwrap();
        };
        for bin in ["first", "second"] {
            create_dir(directory.path().join(bin)).unwrap();
        }
        create_dir(directory.path().join("first/tool")).unwrap();
        place("second/tool", 0o755);
        place("first/data", 0o644);
        let path = directory.path().to_str().unwrap().to_owned();
        (directory, path)
    }

    #[test]
    fn the_first_executable_file_of_the_name_is_found_and_directories_are_not() {
        let (_image, at) = image();
        let path = format!("{at}/first:{at}/second");
        assert_eq!(find("tool", &path, "/"), Ok(format!("{at}/second/tool")));
    }

    #[test]
    fn a_name_with_a_slash_is_taken_as_it_is() {
        assert_eq!(find("./tool", "/bin", "/"), Ok("./tool".into()));
    }

    #[test]
    fn relative_entries_begin_at_the_working_directory() {
        let (_image, at) = image();
        assert_eq!(find("tool", "second", &at), Ok(format!("{at}/second/tool")));
        assert_eq!(find("tool", ":/nowhere", &format!("{at}/second")), Ok(format!("{at}/second/tool")));
    }

    #[test]
    fn what_is_there_but_not_executable_is_told_from_what_is_not_there() {
        let (_image, at) = image();
        assert_eq!(find("data", &format!("{at}/first:{at}/second"), "/"), Err(Errno::EACCES));
        assert_eq!(find("ghost", &at, "/"), Err(Errno::ENOENT));
    }
}
