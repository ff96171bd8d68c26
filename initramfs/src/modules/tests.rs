use std::io::Write;

use super::*;

const DEPENDENCIES: &str = "\
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/net/core/failover.ko.zst:
kernel/crypto/crc32c-intel.ko.gz:
";

fn tree() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("modules.dep"), DEPENDENCIES).unwrap();
    fs::write(directory.path().join("modules.builtin"), "kernel/fs/ext4/ext4.ko\nkernel/lib/some-thing.ko\n")
        .unwrap();
    directory
}

fn put(tree: &Path, file: &str, contents: &[u8]) {
    let path = tree.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

#[test]
fn a_module_comes_after_all_it_needs() {
    let directory = tree();
    let manifest = ModuleTree::read(directory.path()).unwrap().resolve(&["virtio_blk"]).unwrap();
    assert_eq!(manifest.load_order(&["virtio_blk"]), ["virtio_ring", "virtio", "virtio_blk"]);
}

#[test]
fn what_a_module_needs_can_be_loaded_by_its_own_name() {
    let directory = tree();
    let manifest = ModuleTree::read(directory.path()).unwrap().resolve(&["virtio_blk"]).unwrap();
    assert_eq!(manifest.load_order(&["virtio"]), ["virtio_ring", "virtio"]);
}

#[test]
fn dashes_and_underscores_are_the_same() {
    let directory = tree();
    let tree = ModuleTree::read(directory.path()).unwrap();
    for name in ["crc32c-intel", "crc32c_intel"] {
        assert_eq!(tree.resolve(&[name]).unwrap().names().collect::<Vec<_>>(), ["crc32c_intel"]);
    }
}

#[test]
fn a_module_built_into_the_kernel_needs_no_file() {
    let directory = tree();
    let tree = ModuleTree::read(directory.path()).unwrap();
    assert_eq!(tree.resolve(&["ext4", "some-thing"]).unwrap(), ModuleManifest::default());
}

#[test]
fn a_module_that_is_nowhere_is_an_error_that_names_it_and_the_tree() {
    let directory = tree();
    let error = ModuleTree::read(directory.path()).unwrap().resolve(&["virtio_blq"]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("virtio_blq") && text.contains(directory.path().to_str().unwrap()), "{text}");
}

#[test]
fn a_dependency_that_is_nowhere_is_named() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("modules.dep"), "a.ko: b.ko\n").unwrap();
    let error = ModuleTree::read(directory.path()).unwrap().resolve(&["a"]).unwrap_err();
    assert!(matches!(error, Error::ModuleMissing { name, .. } if name == "b"));
}

#[test]
fn a_directory_without_modules_dep_is_told_apart_from_one_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let error = ModuleTree::read(directory.path()).unwrap_err();
    assert!(matches!(error, Error::NotAModuleTree { .. }));
    fs::create_dir(directory.path().join("modules.dep")).unwrap();
    let error = ModuleTree::read(directory.path()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn a_malformed_list_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("modules.dep");
    for (text, line) in [("a.ko:\nno colon\n", 2), ("readme:\n", 1), ("a.ko: ../b\n", 1)] {
        fs::write(&list, text).unwrap();
        let error = ModuleTree::read(directory.path()).unwrap_err();
        let expected = format!("{}, line {line}: ", list.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

/// "module" as a file in each format, made by `gzip -n`, `xz --check=crc32` and `zstd`.
const GZIP: &[u8] = include_bytes!("fixtures/module.gz");
const XZ: &[u8] = include_bytes!("fixtures/module.xz");
const ZSTD: &[u8] = include_bytes!("fixtures/module.zst");

#[test]
fn compressed_modules_are_decompressed() {
    let directory = tree();
    put(directory.path(), "kernel/crypto/crc32c-intel.ko.gz", GZIP);
    put(directory.path(), "kernel/drivers/block/virtio_blk.ko.xz", XZ);
    put(directory.path(), "kernel/net/core/failover.ko.zst", ZSTD);
    put(directory.path(), "kernel/drivers/virtio/virtio.ko", b"module");
    let tree = ModuleTree::read(directory.path()).unwrap();
    for name in ["crc32c_intel", "virtio_blk", "failover", "virtio"] {
        assert_eq!(tree.load(name).unwrap(), b"module", "{name}");
    }
}

#[test]
fn a_damaged_module_is_named() {
    let directory = tree();
    put(directory.path(), "kernel/drivers/block/virtio_blk.ko.xz", &XZ[..XZ.len() / 2]);
    put(directory.path(), "kernel/net/core/failover.ko.zst", b"no zstd at all");
    put(directory.path(), "kernel/crypto/crc32c-intel.ko.gz", b"");
    let tree = ModuleTree::read(directory.path()).unwrap();
    for name in ["virtio_blk", "failover", "crc32c_intel"] {
        let error = tree.load(name).unwrap_err().to_string();
        assert!(error.starts_with("cannot read ") && error.contains(".ko."), "{error}");
    }
}

#[test]
fn a_module_that_grows_without_end_is_refused() {
    let directory = tree();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..257 {
        encoder.write_all(&zeros).unwrap();
    }
    put(directory.path(), "kernel/crypto/crc32c-intel.ko.gz", &encoder.finish().unwrap());
    let error = ModuleTree::read(directory.path()).unwrap().load("crc32c_intel").unwrap_err();
    assert!(matches!(error, Error::ModuleTooLarge { .. }), "{error}");
}
