//! Rules of the codebase that a compiler does not check.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate may depend on these crates of ours and no other: dependencies point one way, and `protocol` is the
/// ground floor.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("firstlight-protocol", &[]),
    ("firstlight-network", &["firstlight-protocol"]),
    ("firstlight-guest-init", &["firstlight-protocol", "firstlight-network"]),
    ("firstlight-socket", &["firstlight-protocol"]),
    ("firstlight-multiplex", &[]),
    ("firstlight-tree", &["firstlight-protocol"]),
    (
        "firstlight-guest-agent",
        &[
            "firstlight-protocol",
            "firstlight-network",
            "firstlight-socket",
            "firstlight-multiplex",
            "firstlight-tree",
        ],
    ),
    ("firstlight-initramfs", &["firstlight-protocol"]),
    (
        "firstlight-host-ctl",
        &[
            "firstlight-protocol",
            "firstlight-initramfs",
            "firstlight-socket",
            "firstlight-multiplex",
            "firstlight-tree",
        ],
    ),
];

/// A file longer than this holds two subjects or is one flat table; none is longer.
const MAX_LINES: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn dependencies_point_one_way() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let ours = package["dependencies"].as_array().unwrap().iter().filter(|dependency| {
            dependency["kind"] != "dev" && dependency["name"].as_str().unwrap().starts_with("firstlight-")
        });
        let ours = ours.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
        found.insert(package["name"].as_str().unwrap().to_owned(), ours);
    }
    for (name, allowed) in MAY_DEPEND_ON {
        let dependencies = found.get(*name).unwrap_or_else(|| panic!("no crate {name}"));
        for dependency in dependencies {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn no_source_file_outgrows_a_reader() {
    let mut files = Vec::new();
    for folder in [
        "protocol",
        "socket",
        "multiplex",
        "tree",
        "network",
        "guest-init",
        "guest-agent",
        "initramfs",
        "host-ctl",
        "tests",
        "bench",
    ] {
        collect(&root().join(folder), &mut files);
    }
    assert!(files.len() > 20, "found only {} files", files.len());
    for file in files {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{}: {lines} lines, at most {MAX_LINES}", file.display());
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
