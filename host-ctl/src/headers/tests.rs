//! Bundles from directories and packages, and what is refused on the way.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;

use super::*;

const RELEASE: &str = "6.1.0-test";

/// Writes `files` below `root`.
fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A root with headers as Debian lays them out: three directories that refer to each other.
fn debian(root: &Path) {
    let define = format!("#define UTS_RELEASE \"{RELEASE}\"\n");
    write(
        root,
        &[
            ("usr/src/linux-headers-own/Makefile", "include /usr/src/linux-headers-common/Makefile\n"),
            ("usr/src/linux-headers-own/.config", "CONFIG_64BIT=y\nCONFIG_X86_64=y\n"),
            ("usr/src/linux-headers-own/include/generated/utsrelease.h", &define),
            ("usr/src/linux-headers-common/Makefile", "all:\n"),
            ("usr/src/linux-headers-common/arch/x86/Makefile", "x86\n"),
            ("usr/src/linux-headers-common/arch/sparc/Makefile", "sparc\n"),
            ("usr/src/other-software/README", "not headers\n"),
            ("usr/lib/linux-kbuild-6.1/scripts/basic/fixdep", "#!/bin/sh\n"),
            ("usr/share/doc/x", "text\n"),
        ],
    );
    symlink("../../lib/linux-kbuild-6.1/scripts", root.join("usr/src/linux-headers-own/scripts")).unwrap();
    let modules = root.join("lib/modules").join(RELEASE);
    fs::create_dir_all(&modules).unwrap();
    symlink("/usr/src/linux-headers-own", modules.join("build")).unwrap();
}

/// The members of a bundle as `tar` sees them, with the contents of files and the targets of links.
fn members(bundle: &Path) -> Vec<(String, String)> {
    let gzip = flate2::read::MultiGzDecoder::new(File::open(bundle).unwrap());
    let mut archive = tar::Archive::new(gzip);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let link = entry.link_name().unwrap().map(|target| target.to_str().unwrap().to_owned());
        (entry.path().unwrap().to_str().unwrap().to_owned(), link.unwrap_or(text))
    });
    entries.collect()
}

fn made(sources: &[&Path], lab: &Path) -> Result<Made, HeadersError> {
    let sources: Vec<PathBuf> = sources.iter().map(|source| (*source).to_owned()).collect();
    make(&sources, Some(&lab.join("bundle.tar.gz")))
}

/// A package of everything below `root`, as `dpkg-deb` would lay it out.
fn package(root: &Path, path: &Path, data: &str) {
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    tar.append_dir_all(".", root).unwrap();
    let tar = tar.into_inner().unwrap();
    let bytes = if data.ends_with(".gz") {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        gzip.finish().unwrap()
    } else {
        tar
    };
    let mut members = ar::Builder::new(File::create(path).unwrap());
    for (name, bytes) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", b""), (data, &bytes)] {
        members.append(&ar::Header::new(name.into(), bytes.len() as u64), bytes).unwrap();
    }
}

#[test]
fn headers_in_three_directories_become_one_tree_with_nothing_absolute_in_it() {
    let lab = tempfile::tempdir().unwrap();
    let root = lab.path().join("root");
    debian(&root);
    let made = made(&[&root], lab.path()).unwrap();
    let members = members(&made.path);
    let find = |path: &str| members.iter().find(|(found, _)| found == path).map(|(_, text)| text.as_str());
    assert_eq!(members[0].0, "manifest.json");
    assert_eq!(
        find("usr/src/linux-headers-own/Makefile"),
        Some("include $(dir $(lastword $(MAKEFILE_LIST)))../linux-headers-common/Makefile\n")
    );
    assert_eq!(find("usr/src/linux-headers-own/scripts"), Some("../../lib/linux-kbuild-6.1/scripts"));
    assert_eq!(find("usr/src/linux-headers-common/arch/x86/Makefile"), Some("x86\n"));
    for left_out in ["usr/src/linux-headers-common/arch/sparc/Makefile", "usr/src/other-software/README"] {
        assert_eq!(find(left_out), None);
    }
    assert_eq!((made.manifest.release.as_str(), made.manifest.arch.as_str()), (RELEASE, "x86_64"));
    assert_eq!(made.manifest.entries, members.len() as u64 - 1);
    assert_eq!(manifest_of(&made.path).unwrap(), made.manifest);
}

#[test]
fn packages_give_the_same_bundle_as_the_root_they_are_unpacked_in() {
    let lab = tempfile::tempdir().unwrap();
    let root = lab.path().join("root");
    debian(&root);
    let expected = fs::read(made(&[&root], lab.path()).unwrap().path).unwrap();
    for data in ["data.tar", "data.tar.gz"] {
        let deb = lab.path().join("headers.deb");
        package(&root, &deb, data);
        assert!(fs::read(made(&[&deb], lab.path()).unwrap().path).unwrap() == expected, "{data}");
    }
}

#[test]
fn a_build_tree_alone_is_a_bundle_too() {
    let lab = tempfile::tempdir().unwrap();
    let root = lab.path().join("root");
    debian(&root);
    let tree = root.join("usr/src/linux-headers-own");
    fs::remove_file(tree.join("scripts")).unwrap();
    fs::write(tree.join("Makefile"), "all:\n").unwrap();
    let made = made(&[&tree], lab.path()).unwrap();
    assert_eq!(made.manifest.release, RELEASE);
    let makefile = format!("{}/Makefile", made.manifest.build);
    assert!(members(&made.path).iter().any(|(path, _)| *path == makefile));
}

#[test]
fn what_is_missing_is_named_with_the_place_it_should_be_in() {
    let lab = tempfile::tempdir().unwrap();
    let root = lab.path().join("root");
    debian(&root);
    fs::remove_dir_all(root.join("usr/lib/linux-kbuild-6.1")).unwrap();
    let error = made(&[&root], lab.path()).unwrap_err().to_string();
    assert!(
        error.contains("/usr/src/linux-headers-own/scripts needs /usr/lib/linux-kbuild-6.1/scripts"),
        "{error}"
    );
    fs::remove_dir_all(root.join("usr/src/linux-headers-common")).unwrap();
    let error = made(&[&root], lab.path()).unwrap_err().to_string();
    assert!(error.contains("needs /usr/src/linux-headers-common/Makefile"), "{error}");
    assert!(!lab.path().join("bundle.tar.gz").exists());
}

#[test]
fn no_kernel_and_two_kernels_are_told_apart() {
    let lab = tempfile::tempdir().unwrap();
    let root = lab.path().join("root");
    debian(&root);
    let modules = root.join("lib/modules");
    fs::create_dir(modules.join("5.10.0-other")).unwrap();
    symlink("/usr/src/linux-headers-common", modules.join("5.10.0-other/build")).unwrap();
    let error = made(&[&root], lab.path()).unwrap_err();
    assert!(error.to_string().contains("5.10.0-other, 6.1.0-test"), "{error}");
    fs::remove_dir_all(&modules).unwrap();
    assert!(matches!(made(&[&root], lab.path()), Err(HeadersError::NoKernel)));
}

#[test]
fn sources_that_are_nothing_of_the_kind_are_refused_by_name() {
    let lab = tempfile::tempdir().unwrap();
    let file = lab.path().join("notes.txt");
    fs::write(&file, "text").unwrap();
    assert!(made(&[&file], lab.path()).unwrap_err().to_string().contains("notes.txt is neither"));
    let empty = lab.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(matches!(made(&[&empty], lab.path()), Err(HeadersError::NoHeaders { .. })));
    let deb = lab.path().join("cut.deb");
    let root = lab.path().join("root");
    debian(&root);
    package(&root, &deb, "data.tar.gz");
    let whole = fs::read(&deb).unwrap();
    fs::write(&deb, &whole[..whole.len() / 2]).unwrap();
    let error = made(&[&deb], lab.path()).unwrap_err().to_string();
    assert!(error.contains("cut.deb: data.tar.gz"), "{error}");
}

#[test]
fn a_bundle_shorter_or_longer_than_it_says_is_none() {
    let lab = tempfile::tempdir().unwrap();
    let root = lab.path().join("root");
    debian(&root);
    let path = made(&[&root], lab.path()).unwrap().path;
    let whole = fs::read(&path).unwrap();
    for length in [0, 5, 40, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(manifest_of(&path), Err(HeadersError::NoBundle { .. })), "{length}");
    }
    fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert!(matches!(manifest_of(&path), Err(HeadersError::NoBundle { .. })));
}
