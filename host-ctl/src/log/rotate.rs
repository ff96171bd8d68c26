//! Rotated files: `NAME.1` is the newest, higher numbers are older.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::LogError;

/// The rotated file `number` of the log at `path`.
#[must_use]
pub fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Makes room for a new log at `path`: each file moves on by one, and the oldest goes when more than `max_files` would
/// be left, the new one included. Killed at any point, it has lost no file, and the next call goes on from there.
///
/// # Errors
/// [`LogError`] naming the file.
pub fn rotate(path: &Path, max_files: u32) -> Result<(), LogError> {
    let keep = max_files.saturating_sub(1);
    // A gap in the numbers ends the shift: it is what a rotation that was killed left, or the first free number.
    let free = (1..=keep).find(|number| !rotated(path, *number).exists()).unwrap_or(keep);
    for number in (1..free).rev() {
        rename(&rotated(path, number), &rotated(path, number + 1))?;
    }
    if keep == 0 {
        return remove(path);
    }
    rename(path, &rotated(path, 1))
}

/// The files of the log at `path` that exist, oldest first, the current one last; at most `rotations` rotated ones.
#[must_use]
pub fn files(path: &Path, rotations: u32) -> Vec<PathBuf> {
    // A rotation that was killed leaves one number unused, so the first gap is not the end.
    let mut files = Vec::new();
    let mut gaps = 0;
    for number in 1..=rotations {
        let file = rotated(path, number);
        if file.exists() {
            files.push(file);
        } else {
            gaps += 1;
            if gaps > 1 {
                break;
            }
        }
    }
    files.reverse();
    files.extend(path.exists().then(|| path.to_owned()));
    files
}

fn rename(from: &Path, to: &Path) -> Result<(), LogError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LogError::new("rotate", from)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), LogError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LogError::new("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(path: &Path) -> Vec<String> {
        files(path, 10).iter().map(|file| fs::read_to_string(file).unwrap()).collect()
    }

    #[test]
    fn the_oldest_file_goes_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for text in ["1", "2", "3", "4"] {
            fs::write(&path, text).unwrap();
            rotate(&path, 3).unwrap();
        }
        fs::write(&path, "5").unwrap();
        assert_eq!(contents(&path), ["3", "4", "5"]);
    }

    #[test]
    fn a_log_of_one_file_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "1").unwrap();
        rotate(&path, 1).unwrap();
        assert_eq!(contents(&path), Vec::<String>::new());
    }

    #[test]
    fn a_rotation_killed_at_any_point_loses_no_file() {
        // A kill leaves one number unused; the file above it has moved on already.
        for gap in 1..=3_u32 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            fs::write(&path, "0").unwrap();
            for number in (1..=4).filter(|number| *number != gap) {
                fs::write(rotated(&path, number), number.to_string()).unwrap();
            }
            let before = contents(&path);
            assert_eq!(before.len(), 4, "gap at {gap}");
            rotate(&path, 6).unwrap();
            fs::write(&path, "new").unwrap();
            assert_eq!(contents(&path), [&before[..], &["new".to_owned()]].concat(), "gap at {gap}");
        }
    }
}
