//! `web=http:8080/ready`, `db=tcp:5432`, `disk=exec:test -w /data`: what a health check does.

use firstlight_protocol::message::health::Probe;

/// A check by its name; its thresholds are flags of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    pub(crate) name: String,
    pub(crate) probe: Probe,
}

/// Parses a check.
pub(crate) fn parse(text: &str) -> Result<HealthCheck, String> {
    let error = || {
        format!(
            "{text:?} is no health check; write it like web=http:8080/ready, db=tcp:5432 or disk=exec:test -w /data"
        )
    };
    let (name, what) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(error)?;
    let (kind, rest) = what.split_once(':').ok_or_else(error)?;
    let probe = match kind {
        "exec" => shell(rest),
        "tcp" => port(rest).map(Probe::Tcp),
        "http" => http(rest),
        _ => None,
    };
    Ok(HealthCheck { name: name.to_owned(), probe: probe.ok_or_else(error)? })
}

fn shell(script: &str) -> Option<Probe> {
    let argv = ["/bin/sh", "-c", script].map(|argument| argument.as_bytes().to_vec());
    (!script.trim().is_empty()).then(|| Probe::Exec(argv.into()))
}

fn http(text: &str) -> Option<Probe> {
    let (number, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    let path = if path.is_empty() { "/" } else { path };
    Some(Probe::Http { port: port(number)?, path: path.to_owned() })
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_reads_as_people_write_it() {
        let probe = |text: &str| parse(text).unwrap().probe;
        assert_eq!(probe("db=tcp:5432"), Probe::Tcp(5432));
        assert_eq!(probe("web=http:80"), Probe::Http { port: 80, path: "/".into() });
        assert_eq!(probe("web=http:8080/a?b=c:d"), Probe::Http { port: 8080, path: "/a?b=c:d".into() });
        let script = Probe::Exec(vec![b"/bin/sh".to_vec(), b"-c".to_vec(), b"test a = b".to_vec()]);
        assert_eq!(parse("disk=exec:test a = b"), Ok(HealthCheck { name: "disk".into(), probe: script }));
    }

    #[test]
    fn what_is_no_check_is_refused_with_examples() {
        for text in
            ["", "web", "web=http", "=tcp:1", "x=tcp:0", "x=tcp:65536", "x=udp:1", "x=exec: ", "x=http:/a"]
        {
            assert!(parse(text).unwrap_err().contains("db=tcp:5432"), "{text}");
        }
    }
}
