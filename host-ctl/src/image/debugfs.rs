//! Writing files into an ext4 image with e2fsprogs' `debugfs`, which needs neither root nor a mount. Source: `debugfs(8)`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::ImageError;
use super::baked::Item;
use super::tree::Entry;

/// The commands' file in the work directory; the contents of files are beside it, by number.
const SCRIPT: &str = "script";

/// Administrators' programs are not in every user's `PATH`.
const PLACES: [&str; 4] = ["debugfs", "/usr/sbin/debugfs", "/sbin/debugfs", "/usr/local/sbin/debugfs"];

/// Writes the items into `image`. debugfs ends well even when a command of the script failed, so the caller reads back.
pub(super) fn write(image: &Path, items: &[Item]) -> Result<(), ImageError> {
    let work = Work::new(image)?;
    let script = work.prepare(items)?;
    let path = work.0.join(SCRIPT);
    fs::write(&path, script).map_err(|error| ImageError::io("write", &path, error))?;
    let output =
        work.run(image).map_err(|error| ImageError::io("run debugfs (of e2fsprogs) for", image, error))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let reason = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
    Err(ImageError::NotWritten {
        image: image.to_owned(),
        file: "files".into(),
        reason: reason.trim().to_owned(),
    })
}

/// A directory for what debugfs reads, beside the image; gone with this value.
struct Work(PathBuf);

impl Work {
    fn new(image: &Path) -> Result<Work, ImageError> {
        let path = image.with_extension("debugfs");
        fs::create_dir(&path).map_err(|error| ImageError::io("make", &path, error))?;
        Ok(Work(path))
    }

    /// The commands for all items. Files of the host are named by numbers, and paths of the image are our own: none of them
    /// has a character that debugfs would take for something else.
    fn prepare(&self, items: &[Item]) -> Result<String, ImageError> {
        let mut script = String::new();
        for (number, Item { path, entry }) in items.iter().enumerate() {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            match entry {
                Entry::Directory => {
                    for directory in ancestors(path) {
                        // One that is there already is an error of its own, and no harm.
                        script += &format!("mkdir {directory}\n");
                    }
                }
                Entry::File { mode, bytes } => {
                    let source = self.0.join(number.to_string());
                    fs::write(&source, bytes).map_err(|error| ImageError::io("write", &source, error))?;
                    // `write` and `symlink` take a name and not a path.
                    script += &format!("cd {parent}\nrm {name}\nwrite {number} {name}\n");
                    script += &format!("set_inode_field {name} mode 0100{mode:o}\n");
                    script += &format!("set_inode_field {name} uid 0\nset_inode_field {name} gid 0\n");
                }
                Entry::Link { target } => {
                    let target = target.display();
                    script += &format!("cd {parent}\nrm {name}\nsymlink {name} {target}\n");
                }
                // There is no such item.
                Entry::Other => {}
            }
        }
        Ok(script)
    }

    fn run(&self, image: &Path) -> io::Result<Output> {
        let mut result = Err(io::ErrorKind::NotFound.into());
        for program in PLACES {
            let mut command = Command::new(program);
            result = command.current_dir(&self.0).args(["-w", "-f", SCRIPT]).arg(image).output();
            if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::NotFound) {
                break;
            }
        }
        result
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // It is beside an image that goes, or that somebody looks at next.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every directory on the way to `path`, itself included, outermost first.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    ends.chain([path.len()]).filter_map(|end| path.get(..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_from_the_outermost_on() {
        assert_eq!(ancestors("/usr/lib/x").collect::<Vec<_>>(), ["/usr", "/usr/lib", "/usr/lib/x"]);
    }
}
