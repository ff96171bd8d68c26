//! `sync [--delete] [--exclude PATTERN] [--exclude-from FILE] [--checksum] [-n] [--force] SRC DST`

mod guard;
mod report;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use firstlight_host_ctl::copy::CopyError;
use firstlight_host_ctl::sync::{self, Direction, Options, Rules, Sync as Prepared, SyncError};
use firstlight_protocol::message::file::Place;

use super::explain::agent_failure;
use super::guest::Guest;
use crate::cli::resolved::Context;
use crate::cli::value::location::{self, GuestPath, Location};
use crate::interrupt::{Interrupt, Interrupts};
use crate::output::{self, Failure};
use guard::{End, is_home_in_guest, refusal};
use report::{Meter, Summary};

/// Make a directory in a VM like one on the host, or the other way round
///
/// One of SRC and DST is NAME:/path. What is in SRC then also is in DST, with its modes and times; only files whose size or
/// time differ are sent. Owners are not kept: files belong to whoever writes them. Ends with one line of what was sent and
/// how much there is in all.
#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// The directory to be like: NAME:/path or a path of the host
    #[arg(value_name = "SRC", value_parser = OsStringValueParser::new().try_map(location::parse))]
    source: Location,

    /// The directory to change: a path of the host or NAME:/path
    #[arg(value_name = "DST", value_parser = OsStringValueParser::new().try_map(location::parse))]
    destination: Location,

    /// Remove what SRC has not from DST, once everything else has arrived
    #[arg(long)]
    delete: bool,

    /// Leave what matches alone on both sides: a name as *.o, a path as /target, only directories as build/
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,

    /// Read such patterns from a file, one a line; lines that begin with # say nothing
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,

    /// Compare what is in files in place of their times; reads all of them
    #[arg(long)]
    checksum: bool,

    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Allow / and home folders, and a DST less than two levels below the root
    #[arg(long)]
    force: bool,
}

impl Sync {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let (vm, direction) = self.direction()?;
        if !self.force {
            check(&direction)?;
        }
        let options = self.options()?;
        let mut interrupts = Interrupts::listen()?;
        let interrupt = Cell::new(0);
        let stop = async {
            if let Interrupt::First(number) = interrupts.next().await {
                interrupt.set(number);
            }
        };
        tokio::pin!(stop);
        let Guest { name, connection } = Guest::reach(context, &vm, "sync").await?;
        let failed = |error| failure(&error, &name, interrupt.get());
        let prepared = tokio::select! {
            prepared = Prepared::prepare(sync::Guest::new(connection), direction, &options) => prepared,
            () = &mut stop => Err(CopyError::Interrupted.into()),
        };
        let prepared = prepared.map_err(failed)?;
        let summary = Summary::of(&name, prepared.plan(), self.dry_run);
        if self.dry_run {
            report::list(prepared.plan(), context.format)?;
            return summary.print(context.format);
        }
        let bulk = Guest::reach(context, &vm, "sync").await?.connection;
        let meter = Meter::start(context.progress, prepared.plan().count.bytes);
        let moved = meter.clone();
        let removed = prepared.run(bulk, Arc::new(move |bytes| moved.advance(bytes)), stop).await;
        meter.clear();
        summary.with_removed(removed.map_err(failed)?).print(context.format)
    }

    /// The VM, and which way.
    fn direction(&self) -> Result<(String, Direction), Failure> {
        match (&self.source, &self.destination) {
            (Location::Host(from), Location::Guest(GuestPath { vm, path })) => {
                let from = absolute(from)?;
                Ok((vm.clone(), Direction::In { from, to: Place::new(path.clone()) }))
            }
            (Location::Guest(GuestPath { vm, path }), Location::Host(to)) => {
                let to = absolute(to)?;
                Ok((vm.clone(), Direction::Out { from: Place::new(path.clone()), to }))
            }
            (Location::Archive, _) | (_, Location::Archive) => {
                Err(Failure::usage("a sync compares directories, and - is none")
                    .hint("host-ctl cp takes archives"))
            }
            (Location::Guest(_), Location::Guest(_)) => Err(Failure::usage("both SRC and DST are in a VM")
                .hint("sync to the host first, then from there")),
            (Location::Host(_), Location::Host(_)) => {
                Err(Failure::usage("neither SRC nor DST is in a VM").hint("write it like web:/srv/www"))
            }
        }
    }

    fn options(&self) -> Result<Options, Failure> {
        let mut exclude: Vec<Vec<u8>> =
            self.exclude.iter().map(|pattern| pattern.clone().into_bytes()).collect();
        for file in &self.exclude_from {
            let text = std::fs::read(file)
                .map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))?;
            exclude.extend(patterns(&text));
        }
        Ok(Options { rules: Rules { delete: self.delete, checksum: self.checksum }, exclude })
    }
}

/// The patterns of a file.
fn patterns(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).map(<[u8]>::to_vec)
}

/// The path with all symbolic links resolved, so that none hides what it really is. Its last name need not exist.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::failed(format!("cannot find {}: {error}", path.display()));
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let path = std::path::absolute(path).map_err(failed)?;
            match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => Ok(std::fs::canonicalize(parent).map_err(failed)?.join(name)),
                (_, _) => Err(failed(error)),
            }
        }
        found => found.map_err(failed),
    }
}

/// Refuses what is more likely a slip than a wish.
fn check(direction: &Direction) -> Result<(), Failure> {
    let home = std::env::var_os("HOME").and_then(|home| std::fs::canonicalize(home).ok());
    let on_host = |end, path: &Path| {
        let bytes = path.as_os_str().as_encoded_bytes();
        let is_home =
            |path: &[u8]| home.as_ref().is_some_and(|home| home.as_os_str().as_encoded_bytes() == path);
        refusal(end, bytes, is_home).map(|why| format!("{}: {why}", path.display()))
    };
    let in_guest = |end, place: &Place| {
        let why = refusal(end, &place.path, is_home_in_guest);
        why.map(|why| format!("{} in the guest: {why}", String::from_utf8_lossy(&place.path)))
    };
    let refused = match direction {
        Direction::In { from, to } => on_host(End::Source, from).or_else(|| in_guest(End::Destination, to)),
        Direction::Out { from, to } => in_guest(End::Source, from).or_else(|| on_host(End::Destination, to)),
    };
    match refused {
        Some(why) => Err(Failure::usage(format!("refused to sync {why}")).hint("if you mean it: --force")),
        None => Ok(()),
    }
}

fn failure(error: &SyncError, vm: &str, interrupt: u8) -> Failure {
    match error {
        SyncError::Copy(CopyError::Guest(error)) => agent_failure(error, vm),
        SyncError::Copy(CopyError::Host(_) | CopyError::Archive(_)) => {
            Failure::failed(error.to_string()).of_vm(vm)
        }
        SyncError::Copy(CopyError::Interrupted) => {
            output::note("interrupted; no file is left half-written, and a second sync goes on from here");
            Failure::exit(128 + interrupt)
        }
        SyncError::Conflict(_) => {
            Failure::failed(error.to_string()).of_vm(vm).hint("--delete makes room by removing what is in it")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_patterns_has_one_a_line_and_comments() {
        let found: Vec<Vec<u8>> = patterns(b"# built\n*.o\r\n\n  target/ \n\\#odd\n").collect();
        assert_eq!(found, [b"*.o".to_vec(), b"  target/".to_vec(), b"\\#odd".to_vec()]);
    }
}
