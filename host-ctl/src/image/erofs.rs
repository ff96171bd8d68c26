//! Makes an erofs image of a directory.

use std::io;
use std::path::Path;
use std::process::Command;

use super::ImageError;

/// Makes the image `image` of the directory `tree`, uncompressed because a boot reads it once and at once. Made by root it
/// keeps the owners of its files; made by anybody else, all of them are owned by root.
pub(super) fn make(tree: &Path, image: &Path) -> Result<(), ImageError> {
    let mut command = Command::new("mkfs.erofs");
    command.arg("--quiet");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--all-root");
    }
    let output = match command.arg(image).arg(tree).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ImageError::NoTool { path: tree.to_owned() });
        }
        Err(error) => return Err(ImageError::io("run mkfs.erofs for", tree, error)),
    };
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let reason = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
    Err(ImageError::Tool { path: tree.to_owned(), reason: format!("{} ({})", reason.trim(), output.status) })
}
