//! Where a source lands: the table of [`Shape`], as one pure function.

use firstlight_protocol::message::copy::Shape;

/// What is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or nothing yet.
    Missing,
    /// Something that is no directory and can be replaced.
    File,
    /// A pipe, socket or device.
    Special,
    /// A directory.
    Directory,
}

/// Where the source goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landing {
    /// It takes the destination's name.
    There,
    /// It goes into the destination under its own name.
    Inside,
    /// What is in it goes into the destination.
    Merged,
}

/// Decides, or says why not.
pub(super) fn land(
    shape: &Shape,
    source_is_directory: bool,
    found: Found,
    slash: bool,
) -> Result<Landing, &'static str> {
    match (shape, found) {
        (Shape::Contents | Shape::Archive, _) if !source_is_directory => {
            Err("only a directory has content to copy")
        }
        (_, Found::Special) => Err("a pipe, socket or device is not overwritten"),
        (Shape::Named(_), Found::Directory) => Ok(Landing::Inside),
        (Shape::Named(_), Found::Missing | Found::File) if source_is_directory => match found {
            Found::Missing => Ok(Landing::There),
            Found::File | Found::Special | Found::Directory => Err(NOT_OVER_A_FILE),
        },
        (Shape::Named(_), Found::Missing | Found::File) if slash => {
            Err("the slash at its end says that it is a directory, and it is none")
        }
        (Shape::Named(_), Found::Missing | Found::File) => Ok(Landing::There),
        (Shape::Contents | Shape::Archive, Found::Directory) => Ok(Landing::Merged),
        (Shape::Contents, Found::Missing) => Ok(Landing::There),
        (Shape::Archive, Found::Missing) => Err("an archive goes into a directory, and there is none"),
        (Shape::Contents | Shape::Archive, Found::File) => Err(NOT_OVER_A_FILE),
    }
}

const NOT_OVER_A_FILE: &str = "a directory cannot take the place of a file";

#[cfg(test)]
mod tests {
    use super::*;

    /// The documented table, a row for each source: missing, file, directory.
    #[test]
    fn a_source_lands_where_docker_puts_it() {
        use Landing::{Inside, Merged, There};
        let named = || Shape::Named(b"name".to_vec());
        let rows: [(Shape, bool, [Option<Landing>; 3]); 4] = [
            (named(), false, [Some(There), Some(There), Some(Inside)]),
            (named(), true, [Some(There), None, Some(Inside)]),
            (Shape::Contents, true, [Some(There), None, Some(Merged)]),
            (Shape::Archive, true, [None, None, Some(Merged)]),
        ];
        for (shape, directory, landings) in rows {
            for (found, landing) in [Found::Missing, Found::File, Found::Directory].into_iter().zip(landings)
            {
                assert_eq!(land(&shape, directory, found, false).ok(), landing, "{shape:?} over {found:?}");
            }
        }
    }

    #[test]
    fn a_slash_at_the_end_wants_a_directory() {
        let named = Shape::Named(b"name".to_vec());
        for found in [Found::Missing, Found::File] {
            assert!(land(&named, false, found, true).is_err(), "{found:?}");
        }
        assert_eq!(land(&named, false, Found::Directory, true), Ok(Landing::Inside));
        assert_eq!(land(&named, true, Found::Missing, true), Ok(Landing::There));
    }

    #[test]
    fn a_device_is_never_overwritten_and_a_file_has_no_content_to_merge() {
        for shape in [Shape::Named(b"name".to_vec()), Shape::Contents, Shape::Archive] {
            assert!(land(&shape, true, Found::Special, false).is_err());
        }
        for shape in [Shape::Contents, Shape::Archive] {
            assert!(land(&shape, false, Found::Directory, false).is_err());
        }
    }
}
