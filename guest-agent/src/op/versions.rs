//! What runs in the guest, in which version.

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::versions::{Os, Versions};
use firstlight_protocol::version::SUPPORTED;

use crate::system_file;

const KERNEL_RELEASE: &str = "/proc/sys/kernel/osrelease";
const KERNEL_BUILD: &str = "/proc/sys/kernel/version";

/// Where an image says what it is, in the order of `os-release(5)`.
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// Most characters taken over of a value, which is the image's own.
const MAX_VALUE: usize = 128;

/// Versions from the protocol up to the image.
///
/// # Errors
/// When `/proc` is not there to be read.
pub fn answer() -> Result<Versions, AgentError> {
    let line = |path| system_file::read(path).map(|text| text.trim_end().to_owned());
    Ok(Versions {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_oldest: SUPPORTED.oldest,
        protocol_newest: SUPPORTED.newest,
        kernel: line(KERNEL_RELEASE)?,
        kernel_build: line(KERNEL_BUILD)?,
        architecture: std::env::consts::ARCH.to_owned(),
        os: os(),
    })
}

/// A file that cannot be read says nothing; that is the image's affair and hides no other version.
fn os() -> Option<Os> {
    let mut texts = OS_RELEASE.iter().filter_map(|path| system_file::read(path).ok());
    texts.next().as_deref().and_then(parse)
}

/// Source: `os-release(5)`, lines of shell assignments.
fn parse(text: &str) -> Option<Os> {
    let value = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(unquote(value.trim()).chars().take(MAX_VALUE).collect::<String>())
    };
    let os = Os {
        id: value("ID").unwrap_or_default(),
        version: value("VERSION_ID").unwrap_or_default(),
        name: value("PRETTY_NAME").unwrap_or_default(),
    };
    (os != Os::default()).then_some(os)
}

/// Takes quotes off, and the backslashes that protect a character inside double ones.
fn unquote(value: &str) -> String {
    if let Some(inside) = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
        return inside.to_owned();
    }
    let Some(inside) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let (mut plain, mut protected) = (String::new(), false);
    for character in inside.chars() {
        protected = character == '\\' && !protected;
        if !protected {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_s_words_come_without_their_quotes() {
        let text =
            "PRETTY_NAME=\"Debian \\\"GNU\\\" 12\"\nVERSION_ID='12'\nVERSION=\"x\"\nID=debian\nID_LIKE=x\n";
        let os = Os { id: "debian".into(), version: "12".into(), name: "Debian \"GNU\" 12".into() };
        assert_eq!(parse(text), Some(os));
    }

    #[test]
    fn an_image_that_says_nothing_has_no_version() {
        assert_eq!(parse("# nothing\nHOME_URL=x\n"), None);
    }

    #[test]
    fn a_long_word_is_cut() {
        assert_eq!(parse(&format!("ID={}\n", "ä".repeat(10_000))).unwrap().id.chars().count(), MAX_VALUE);
    }
}
