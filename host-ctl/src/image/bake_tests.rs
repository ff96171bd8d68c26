use super::*;
use crate::image::baked::Marker;
use crate::image::survey::survey;
use std::process::Command;

/// Programs to bake with, and a root directory with a systemd.
fn lab() -> (tempfile::TempDir, PathBuf, [PathBuf; 2]) {
    let lab = tempfile::tempdir().unwrap();
    let root = lab.path().join("root");
    for directory in ["usr/lib/systemd/system", "etc", "boot", "sbin"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("usr/lib/systemd/systemd"), "systemd").unwrap();
    fs::write(root.join("etc/os-release"), "PRETTY_NAME=\"A System\"\n").unwrap();
    fs::write(root.join("boot/vmlinuz-6.1.0-1"), "kernel").unwrap();
    symlink("/usr/lib/systemd/systemd", root.join("sbin/init")).unwrap();
    let programs = ["guest-init", "guest-agent"].map(|name| lab.path().join(name));
    for program in &programs {
        fs::write(program, program.file_name().unwrap().as_encoded_bytes().repeat(10_000)).unwrap();
    }
    (lab, root, programs)
}

/// The root as an ext4 image.
fn image(lab: &Path, root: &Path) -> PathBuf {
    let image = lab.join("image");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let made = Command::new("/sbin/mkfs.ext4").args(["-q", "-F", "-d"]).arg(root).arg(&image).status();
    assert!(made.unwrap().success());
    image
}

fn bake_with(target: &Path, [init, agent]: &[PathBuf; 2]) -> Result<Baked, ImageError> {
    bake(target, init, agent)
}

#[test]
fn baking_an_image_twice_changes_not_one_byte() {
    let (lab, root, programs) = lab();
    let image = image(lab.path(), &root);
    let baked = bake_with(&image, &programs).unwrap();
    assert!(baked.written.iter().any(|path| path.ends_with("/firstlight-agent.service")), "{baked:?}");
    let first = fs::read(&image).unwrap();
    let modified = fs::metadata(&image).unwrap().modified().unwrap();
    assert_eq!(bake_with(&image, &programs).unwrap().written, Vec::<String>::new());
    assert!(fs::read(&image).unwrap() == first, "the second time changed something");
    assert_eq!(fs::metadata(&image).unwrap().modified().unwrap(), modified);
}

#[test]
fn a_baked_image_is_a_sound_file_system_and_nothing_is_left_beside_it() {
    let (lab, root, programs) = lab();
    let image = image(lab.path(), &root);
    bake_with(&image, &programs).unwrap();
    let check = Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(&image).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let mut names: Vec<_> =
        fs::read_dir(lab.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["guest-agent", "guest-init", "image", "root"]);
}

#[test]
fn newer_programs_take_the_place_of_older_ones() {
    let (lab, root, programs) = lab();
    let image = image(lab.path(), &root);
    bake_with(&image, &programs).unwrap();
    fs::write(&programs[1], "newer").unwrap();
    let written = bake_with(&image, &programs).unwrap().written;
    assert_eq!(written, ["/usr/lib/firstlight/guest-agent", "/usr/lib/firstlight/baked.json"]);
    let tree = Tree::open(&image).unwrap();
    let entry = Entry::File { mode: 0o755, bytes: b"newer".to_vec() };
    assert_eq!(tree.entry("/usr/lib/firstlight/guest-agent").unwrap(), Some(entry));
}

#[test]
fn a_directory_is_baked_like_an_image_and_twice_changes_nothing() {
    let (lab, root, programs) = lab();
    let image = image(lab.path(), &root);
    let written = bake_with(&image, &programs).unwrap().written;
    assert_eq!(bake_with(&root, &programs).unwrap().written, written);
    assert_eq!(bake_with(&root, &programs).unwrap().written, Vec::<String>::new());
    let surveys = [survey(&root).unwrap(), survey(&image).unwrap()];
    assert_eq!(surveys[0].baked, surveys[1].baked);
    assert!(matches!(&surveys[1].baked, Some(Marker { guest_init, .. }) if guest_init.len() == 64));
}

#[test]
fn a_survey_says_what_an_image_carries() {
    let (_lab, root, _) = lab();
    let survey = survey(&root).unwrap();
    assert_eq!(survey.system.as_deref(), Some("A System"));
    assert_eq!((survey.kernels, survey.initrds), (vec!["6.1.0-1".to_owned()], vec![]));
    assert_eq!((survey.modes, survey.baked), (vec!["exec", "systemd"], None));
}

#[test]
fn an_image_without_room_stays_as_it_was() {
    let (lab, root, programs) = lab();
    let image = image(lab.path(), &root);
    fs::write(&programs[0], vec![7; 32 << 20]).unwrap();
    let before = fs::read(&image).unwrap();
    let error = bake_with(&image, &programs).unwrap_err();
    assert!(matches!(error, ImageError::NotWritten { .. }), "{error}");
    assert!(fs::read(&image).unwrap() == before);
    assert_eq!(fs::read_dir(lab.path()).unwrap().count(), 4, "a copy was left behind");
}

#[test]
fn a_root_without_systemd_and_a_file_that_is_no_image_are_refused() {
    let (lab, root, programs) = lab();
    fs::remove_file(root.join("usr/lib/systemd/systemd")).unwrap();
    assert!(matches!(bake_with(&root, &programs), Err(ImageError::NoSystemd { .. })));
    let text = lab.path().join("guest-init");
    assert!(matches!(bake_with(&text, &programs), Err(ImageError::NotBakeable { .. })));
}

#[test]
fn a_link_of_the_image_leads_nothing_into_the_host() {
    let (lab, root, programs) = lab();
    let outside = lab.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, root.join("usr/lib/firstlight")).unwrap();
    assert!(bake_with(&root, &programs).is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
