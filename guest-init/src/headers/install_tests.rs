use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::super::testing::{Archive, RELEASE, tree};
use super::*;
use crate::error::Cause as _;

/// An image's root on this machine.
struct Image {
    directory: tempfile::TempDir,
    root: OwnedFd,
}

fn image() -> Image {
    let directory = tempfile::tempdir().unwrap();
    let root = fs::File::open(directory.path()).unwrap().into();
    Image { directory, root }
}

fn open(bytes: &[u8]) -> Result<Bundle<&[u8]>, HeadersError> {
    Bundle::open(bytes, "/dev/test")
}

impl Image {
    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn build(&self) -> PathBuf {
        self.path(&format!("lib/modules/{RELEASE}/build"))
    }

    fn look(&self, bytes: &[u8]) -> Result<Standing, HeadersError> {
        let bundle = open(bytes)?;
        Site::new(&self.root, bundle.manifest()).look()
    }

    fn install(&self, bytes: &[u8]) -> Result<(), HeadersError> {
        self.install_with(bytes, &mut |_| {})
    }

    fn install_with(&self, bytes: &[u8], after: &mut dyn FnMut(Step)) -> Result<(), HeadersError> {
        let mut bundle = open(bytes)?;
        let manifest = bundle.manifest().clone();
        let site = Site::new(&self.root, &manifest);
        site.look()?;
        site.install(&mut bundle, after)
    }

    /// What `build` leads to, in this image.
    fn tree(&self) -> PathBuf {
        let link = fs::read_link(self.build()).unwrap();
        self.path(link.to_str().unwrap().trim_start_matches('/'))
    }

    #[track_caller]
    fn assert_whole(&self) {
        let tree = self.tree();
        assert_eq!(fs::read(tree.join("Makefile")).unwrap(), b"all:\n");
        assert_eq!(fs::metadata(tree.join("include/large.h")).unwrap().len(), 80_000);
        assert!(tree.join("scripts/empty").exists());
    }

    /// Names in `/usr/src`.
    fn sources(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("usr/src")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn a_bundle_becomes_a_tree_that_build_leads_to() {
    let image = image();
    let bundle = tree().bundle(|_| {});
    assert_eq!(image.look(&bundle).unwrap(), Standing::Missing);
    image.install(&bundle).unwrap();
    image.assert_whole();
    let file = |name: &str| fs::metadata(image.tree().join(name)).unwrap();
    assert_eq!(file("run.sh").permissions().mode() & 0o777, 0o755);
    assert_eq!(
        (file("Makefile").permissions().mode() & 0o777, file("Makefile").mtime()),
        (0o644, 1_600_000_000)
    );
    assert_eq!(image.look(&bundle).unwrap(), Standing::Installed);
    assert_eq!(image.sources().len(), 1);
}

#[test]
fn a_power_cut_after_any_step_leaves_nothing_or_all_and_the_next_boot_completes_it() {
    let bundle = tree().bundle(|_| {});
    let mut steps = Vec::new();
    image().install_with(&bundle, &mut |step| steps.push(step)).unwrap();
    assert!(steps.ends_with(&[Step::Synced, Step::Renamed, Step::NameSynced, Step::Linked]), "{steps:?}");
    for cut in 0..steps.len() {
        let image = image();
        let done = Cell::new(0);
        // A panic stops everything there and then: no error path takes anything away.
        let killed = catch_unwind(AssertUnwindSafe(|| {
            image.install_with(&bundle, &mut |_| {
                assert!(done.replace(done.get() + 1) < cut, "power cut");
            })
        }));
        assert!(killed.is_err());
        if image.build().is_symlink() {
            image.assert_whole();
        }
        let named = image.sources().into_iter().filter(|name| name.starts_with(OURS)).count();
        assert_eq!(named, usize::from(steps[cut..].iter().all(|step| *step > Step::Synced)), "{cut}");
        image.install(&bundle).unwrap();
        image.assert_whole();
        assert_eq!(image.sources().len(), 1, "after a cut at {:?}", steps[cut]);
    }
}

#[test]
fn whoever_has_the_headers_reads_the_manifest_and_no_more() {
    struct Counted<'a>(&'a [u8], &'a Cell<usize>);
    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1.set(self.1.get() + count);
            Ok(count)
        }
    }
    let image = image();
    let bytes = tree().bundle(|_| {});
    image.install(&bytes).unwrap();
    let read = Cell::new(0);
    let bundle = Bundle::open(Counted(&bytes, &read), "/dev/test").unwrap();
    assert_eq!(Site::new(&image.root, bundle.manifest()).look().unwrap(), Standing::Installed);
    assert!(read.get() <= 2048, "{} bytes", read.get());
}

#[test]
fn members_that_do_not_belong_in_a_bundle_are_refused_and_nothing_is_left_of_it() {
    let named = |name: &'static [u8]| tree().forged(move |header| header[..name.len()].copy_from_slice(name));
    let typed = |kind: u8| tree().forged(move |header| header[156] = kind);
    let outside = tempfile::tempdir().unwrap();
    // Two members that are fine one by one: a link, and a file on the other side of it.
    let through = tree().link("tree/out", "../kbuild").file("tree/out/x", b"x");
    let hostile = [
        named(b"../evil"),
        named(b"/tmp/evil"),
        named(b"tree/../../evil"),
        typed(b'1'),
        typed(b'3'),
        typed(b'4'),
        typed(b'6'),
        through,
        tree().file("tree/Makefile", b"twice"),
    ];
    for archive in hostile {
        let image = image();
        let error = image.install(&archive.bundle(|_| {})).unwrap_err();
        assert_eq!(image.sources(), Vec::<String>::new(), "{error}");
        assert!(!image.build().is_symlink());
        assert!(!image.path("evil").exists());
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_bundle_cut_short_anywhere_is_an_error_and_leaves_nothing() {
    let bytes = tree().bundle(|_| {});
    for length in (0..bytes.len()).step_by(bytes.len() / 100).chain([bytes.len() - 1]) {
        let image = image();
        let error = image.install(&bytes[..length]).unwrap_err().to_string();
        assert!(error.contains("not a whole headers bundle"), "{length}: {error}");
        assert_eq!(image.sources(), Vec::<String>::new(), "{length}");
    }
}

#[test]
fn a_bundle_with_any_damaged_byte_is_an_error_and_leaves_nothing() {
    let bytes = tree().bundle(|_| {});
    for at in (0..bytes.len()).step_by(bytes.len() / 100) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let image = image();
        assert!(image.install(&damaged).is_err(), "{at}");
        assert_eq!(image.sources(), Vec::<String>::new(), "{at}");
    }
}

#[test]
fn what_a_disk_is_padded_with_does_not_matter() {
    let image = image();
    let mut bytes = tree().bundle(|_| {});
    bytes.resize(bytes.len() + 700, 0);
    image.install(&bytes).unwrap();
    image.assert_whole();
}

#[test]
fn a_bundle_that_holds_more_than_it_says_is_refused_before_it_is_written() {
    let fewer: [fn(&mut Manifest); 2] = [|manifest| manifest.entries -= 1, |manifest| manifest.bytes -= 1];
    for change in fewer {
        let image = image();
        let error = image.install(&tree().bundle(change)).unwrap_err().to_string();
        assert!(error.contains("more than its manifest says"), "{error}");
        assert_eq!(image.sources(), Vec::<String>::new());
    }
    let less = |manifest: &mut Manifest| manifest.entries += 1;
    assert!(image().install(&tree().bundle(less)).unwrap_err().to_string().contains("less"));
}

#[test]
fn headers_larger_than_the_disk_are_refused_before_anything_is_written() {
    let image = image();
    let mut wrote = 0;
    let bundle = tree().bundle(|manifest| manifest.space = 1 << 60);
    let error = image.install_with(&bundle, &mut |_| wrote += 1).unwrap_err();
    assert_eq!((error.errno(), error.path()), (Some(Errno::ENOSPC), Some("/usr/src")));
    assert_eq!((wrote, image.sources().len()), (0, 0));
}

#[test]
fn headers_that_the_image_brought_are_used_and_left_alone() {
    let image = image();
    fs::create_dir_all(image.path("usr/src/linux-headers-own")).unwrap();
    fs::write(image.path("usr/src/linux-headers-own/Makefile"), "own").unwrap();
    fs::create_dir_all(image.build().parent().unwrap()).unwrap();
    symlink("/usr/src/linux-headers-own", image.build()).unwrap();
    let standing = image.look(&tree().bundle(|_| {})).unwrap();
    assert_eq!(standing, Standing::OfTheImage(format!("/lib/modules/{RELEASE}/build")));
}

#[test]
fn a_link_of_the_image_that_leads_nowhere_is_named_and_not_replaced() {
    let image = image();
    fs::create_dir_all(image.build().parent().unwrap()).unwrap();
    symlink("/home/builder/linux", image.build()).unwrap();
    let error = image.install(&tree().bundle(|_| {})).unwrap_err();
    assert!(error.path().unwrap().ends_with("/build"), "{error}");
    assert_eq!(fs::read_link(image.build()).unwrap(), Path::new("/home/builder/linux"));
    assert_eq!(image.sources(), Vec::<String>::new());
}

#[test]
fn a_link_that_someone_makes_meanwhile_stays() {
    let image = image();
    let error = image
        .install_with(&tree().bundle(|_| {}), &mut |step| {
            if step == Step::NameSynced {
                fs::create_dir_all(image.build().parent().unwrap()).unwrap();
                symlink("/usr/src/linux-headers-own", image.build()).unwrap();
            }
        })
        .unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EEXIST));
    assert_eq!(fs::read_link(image.build()).unwrap(), Path::new("/usr/src/linux-headers-own"));
}

#[test]
fn a_newer_bundle_of_the_same_release_takes_over_the_link_and_other_releases_stay() {
    let image = image();
    fs::create_dir_all(image.path("lib/modules/5.10.0-other/kernel")).unwrap();
    image.install(&tree().bundle(|_| {})).unwrap();
    let old = image.tree();
    let newer = Archive::default().directory("tree").file("tree/Makefile", b"newer").bundle(|_| {});
    assert_eq!(image.look(&newer).unwrap(), Standing::Missing);
    image.install(&newer).unwrap();
    assert_eq!(fs::read(image.tree().join("Makefile")).unwrap(), b"newer");
    assert!(old.join("Makefile").exists() && image.path("lib/modules/5.10.0-other/kernel").exists());
    // The directory is that of the bundle; someone has emptied it.
    fs::remove_dir_all(image.tree().parent().unwrap()).unwrap();
    assert_eq!(image.look(&newer).unwrap(), Standing::Missing);
    image.install(&newer).unwrap();
    assert_eq!(image.look(&newer).unwrap(), Standing::Installed);
}

#[test]
fn links_of_the_image_are_followed_inside_it_only() {
    let image = image();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(image.path("usr/lib")).unwrap();
    symlink("usr/lib", image.path("lib")).unwrap();
    symlink(outside.path(), image.path("usr/src")).unwrap();
    let error = image.install(&tree().bundle(|_| {})).unwrap_err();
    assert_eq!(error.path(), Some("/usr/src"));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    fs::remove_file(image.path("usr/src")).unwrap();
    image.install(&tree().bundle(|_| {})).unwrap();
    assert!(image.path(&format!("usr/lib/modules/{RELEASE}/build")).is_symlink());
}
