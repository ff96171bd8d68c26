//! `SRC:DST[:ro|overlay][:optional]`.

use std::path::PathBuf;

use firstlight_protocol::boot_spec::VolumeMode;

/// One `--volume` argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    /// The disk image on the host.
    pub(crate) source: PathBuf,
    /// Where it is mounted in the guest.
    pub(crate) target: String,
    /// How.
    pub(crate) mode: VolumeMode,
    /// Whether the boot goes on without it.
    pub(crate) optional: bool,
}

/// Parses a volume. Options are taken from the end and the target is the last part before them, so a source may
/// contain colons.
pub(crate) fn parse(text: &str) -> Result<Volume, String> {
    let error = |why: &str| format!("{text:?}: {why}; write it like disk.img:/data[:ro|overlay][:optional]");
    let (mut rest, mut mode, mut optional) = (text, None, false);
    let target = loop {
        let (before, last) = rest.rsplit_once(':').ok_or_else(|| error("no target in the guest"))?;
        rest = before;
        let twice = match last {
            "rw" => mode.replace(VolumeMode::Rw).is_some(),
            "ro" => mode.replace(VolumeMode::Ro).is_some(),
            "overlay" => mode.replace(VolumeMode::Overlay).is_some(),
            "optional" => std::mem::replace(&mut optional, true),
            target if target.starts_with('/') => break target,
            other => return Err(error(&format!("{other:?} is neither an option nor an absolute path"))),
        };
        if twice {
            return Err(error("options exclude or repeat each other"));
        }
    };
    if rest.is_empty() {
        return Err(error("no source"));
    }
    if target == "/" {
        return Err(error("the root has a flag of its own, --rootfs"));
    }
    let (source, target) = (PathBuf::from(rest), target.to_owned());
    Ok(Volume { source, target, mode: mode.unwrap_or_default(), optional })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn volume(source: &str, target: &str, mode: VolumeMode, optional: bool) -> Volume {
        Volume { source: source.into(), target: target.into(), mode, optional }
    }

    #[test]
    fn options_follow_in_any_order() {
        assert_eq!(parse("a.img:/data"), Ok(volume("a.img", "/data", VolumeMode::Rw, false)));
        assert_eq!(parse("a.img:/data:ro"), Ok(volume("a.img", "/data", VolumeMode::Ro, false)));
        let both = Ok(volume("a.img", "/data", VolumeMode::Overlay, true));
        assert_eq!(parse("a.img:/data:overlay:optional"), both);
        assert_eq!(parse("a.img:/data:optional:overlay"), both);
    }

    #[test]
    fn a_source_may_contain_colons() {
        assert_eq!(parse("/a:b/c.img:/data"), Ok(volume("/a:b/c.img", "/data", VolumeMode::Rw, false)));
    }

    #[test]
    fn what_is_no_volume_is_refused_with_the_reason() {
        for (text, reason) in [
            ("a.img", "no target"),
            ("a.img:data", "neither an option nor an absolute path"),
            ("a.img:/data:rx", "neither an option nor an absolute path"),
            ("a.img:/data:ro:rw", "exclude or repeat"),
            ("a.img:/data:optional:optional", "exclude or repeat"),
            (":/data", "no source"),
            ("a.img:/", "--rootfs"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_volume_means_its_parts(source in "[a-z/.:]*[a-z]", target in "/[a-z/]*[a-z]") {
            let parsed = parse(&format!("{source}:{target}")).unwrap();
            prop_assert_eq!(parsed, volume(&source, &target, VolumeMode::Rw, false));
        }

        #[test]
        fn any_text_is_a_volume_or_an_error(text: String) {
            let _ = parse(&text);
        }
    }
}
