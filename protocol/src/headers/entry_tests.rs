use proptest::prelude::*;

use super::*;

fn entry(path: &str, kind: Kind) -> Entry {
    Entry { path: path.into(), mtime: 1_700_000_000, kind }
}

fn link(path: &str, target: &str) -> Entry {
    entry(path, Kind::Symlink { target: target.into() })
}

/// A header as a hostile writer makes it: without the checks, with a right checksum.
fn forged(change: impl FnOnce(&mut [u8; BLOCK])) -> [u8; BLOCK] {
    let mut block = entry("a/b", Kind::File { size: 0, executable: false }).render().unwrap();
    change(&mut block);
    let sum = checksum(&block);
    put(&mut block, field::CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
    block
}

fn name(name: &[u8]) -> impl FnOnce(&mut [u8; BLOCK]) {
    move |block| {
        block[..100].fill(0);
        block[..name.len()].copy_from_slice(name);
    }
}

#[test]
fn paths_that_leave_the_bundle_are_refused_by_name() {
    for path in ["/etc/passwd", "../x", "a/../../x", "a/./b", "a//b"] {
        let error = Entry::parse(&forged(name(path.as_bytes()))).unwrap_err();
        assert!(matches!(&error, EntryError::Refused { path: found, .. } if found == path), "{error}");
        assert!(entry(path, Kind::Directory).render().is_err(), "{path}");
    }
}

#[test]
fn devices_hard_links_fifos_and_extensions_are_refused() {
    for kind in *b"1346xgLK7" {
        let error = Entry::parse(&forged(|block| block[156] = kind)).unwrap_err().to_string();
        assert!(error.contains("no directory, file or symbolic link"), "{error}");
    }
}

#[test]
fn links_may_go_up_inside_the_bundle_and_not_out_of_it() {
    for (path, target) in [("a/b/l", "../../c"), ("a/l", "b/../../c"), ("l", "a/b")] {
        assert!(link(path, target).render().is_ok(), "{path} -> {target}");
    }
    for (path, target) in [("a/b/l", "../../../c"), ("l", ".."), ("a/l", "/etc"), ("l", "a/../..")] {
        assert!(link(path, target).render().is_err(), "{path} -> {target}");
    }
}

#[test]
fn a_damaged_header_is_told_from_a_refused_one() {
    let mut block = forged(|_| {});
    block[3] ^= 1;
    assert!(matches!(Entry::parse(&block), Err(EntryError::Damaged(_))));
    assert!(matches!(Entry::parse(&[7; BLOCK]), Err(EntryError::Damaged(_))));
    assert_eq!(Entry::parse(&[0; BLOCK]), Ok(None));
}

#[test]
fn a_path_deeper_than_can_be_taken_away_again_is_refused() {
    let path = vec!["d"; MAX_DEPTH + 1].join("/");
    assert!(entry(&path, Kind::Directory).render().is_err());
    assert!(entry(&path[2..], Kind::Directory).render().is_ok());
}

#[test]
fn contents_are_padded_to_whole_blocks() {
    assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
}

proptest! {
    #[test]
    fn an_entry_survives_its_header(
        names in proptest::collection::vec("[a-zA-Z0-9_,.+-]{0,40}x", 1..5),
        mtime in 0..(1_u64 << 32),
        size in 0..(1_u64 << 32),
        kind in 0..4,
    ) {
        let path = names.join("/");
        let kind = match kind {
            0 => Kind::Directory,
            1 => Kind::Symlink { target: "../".repeat(names.len() - 1) + "target" },
            executable => Kind::File { size, executable: executable == 2 },
        };
        let entry = Entry { path, mtime, kind };
        prop_assert_eq!(Entry::parse(&entry.render().unwrap()), Ok(Some(entry)));
    }

    #[test]
    fn no_block_makes_the_reader_fall(bytes in proptest::collection::vec(any::<u8>(), BLOCK)) {
        let block: [u8; BLOCK] = bytes.try_into().unwrap();
        let _ = Entry::parse(&block);
        let _ = Entry::parse(&forged(|forged| forged[..257].copy_from_slice(&block[..257])));
    }
}
