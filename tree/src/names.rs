//! Paths as bytes: taking them apart.

/// The last component of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last<'a> {
    /// A name.
    Name(&'a [u8]),
    /// `.`, `..`, or none because the path is `/` or empty.
    Directory,
}

/// A path's last component, and what is before it. Slashes at the end belong to neither.
pub(crate) fn parent_and_last(path: &[u8]) -> (&[u8], Last<'_>) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let trimmed = &path[..end];
    let start = trimmed.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    match &trimmed[start..] {
        b"" | b"." | b".." => (path, Last::Directory),
        name => (&trimmed[..start], Last::Name(name)),
    }
}

/// A path below another, or the other itself when there is nothing below.
pub(crate) fn join(base: &[u8], below: &[u8]) -> Vec<u8> {
    match (base, below) {
        (b"", below) => below.to_vec(),
        (base, b"") => base.to_vec(),
        (base, below) if base.ends_with(b"/") => [base, below].concat(),
        (base, below) => [base, b"/", below].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_last_name_unless_it_is_a_directory_by_its_form() {
        let cases: [(&[u8], &[u8], Last<'_>); 7] = [
            (b"a", b"", Last::Name(b"a")),
            (b"/a", b"/", Last::Name(b"a")),
            (b"/a/b//", b"/a/", Last::Name(b"b")),
            (b"/", b"/", Last::Directory),
            (b"", b"", Last::Directory),
            (b"/a/.", b"/a/.", Last::Directory),
            (b"a/..", b"a/..", Last::Directory),
        ];
        for (path, parent, last) in cases {
            assert_eq!(parent_and_last(path), (parent, last));
        }
    }
}
