//! `cp [-L] [--fsync] [--root DIR] SRC DST`

use std::cell::Cell;
use std::io::ErrorKind;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use firstlight_host_ctl::copy::{ArchiveError, CopyError, Destination, Source, pull, push};
use firstlight_protocol::message::copy::Totals;
use firstlight_protocol::message::file::Place;
use tokio::time::Instant;

use super::explain::agent_failure;
use super::guest::{Guest, InRoot};
use crate::cli::resolved::Context;
use crate::cli::value::location::{self, GuestPath, Location};
use crate::interrupt::{Interrupt, Interrupts};
use crate::output::text::elapsed;
use crate::output::{self, Failure, Format};

/// The exit code of a program that SIGPIPE ended.
const BROKEN_PIPE: u8 = 128 + 13;

/// Copy files between a running VM and the host
///
/// One of SRC and DST is NAME:/path. The other is a path of the host, or - for a tar archive on standard input or
/// output. Modes, times, owners, links, holes and extended attributes are kept; owners on the host only by root.
///
/// A directory that does not exist is made, and gets what is in SRC; into one that exists, SRC is copied under its own
/// name, or only what is in it when SRC ends in /. as in docker. Files are replaced at once, and a new directory is seen
/// when all is in it: an interrupted copy leaves nothing half-written.
#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// What to copy: NAME:/path, a path of the host, or - for a tar archive
    #[arg(value_name = "SRC", value_parser = OsStringValueParser::new().try_map(location::parse))]
    source: Location,

    /// Where to: a path of the host, - for a tar archive, or NAME:/path
    #[arg(value_name = "DST", value_parser = OsStringValueParser::new().try_map(location::parse))]
    destination: Location,

    /// Copy what SRC points to when it is a symbolic link
    #[arg(short = 'L', long)]
    follow_link: bool,

    /// End only when everything is on the disk
    #[arg(long)]
    fsync: bool,

    #[command(flatten)]
    in_root: InRoot,
}

impl Cp {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let is_archive_out = self.destination == Location::Archive;
        let (vm, direction) = self.resolve()?;
        let guest = Guest::reach(context, &vm, "cp").await?;
        let mut interrupts = Interrupts::listen()?;
        let interrupt = Cell::new(0);
        let stop = async {
            if let Interrupt::First(number) = interrupts.next().await {
                interrupt.set(number);
            }
        };
        let begun = Instant::now();
        let Guest { name, connection } = guest;
        let copied = match direction {
            Direction::In { source, to, durable } => push(connection, source, &to, durable, stop).await,
            Direction::Out { from, follow, destination } => {
                pull(connection, &from, follow, destination, stop).await
            }
        };
        let totals = copied.map_err(|error| failure(&error, &name, interrupt.get()))?;
        warn(&totals);
        if context.verbose {
            let took = elapsed(begun.elapsed());
            output::note(format_args!("copied {} files, {} bytes in {took}", totals.entries, totals.bytes));
        }
        match context.format {
            Format::Json if !is_archive_out => output::json_line(&totals),
            Format::Json | Format::Text => Ok(()),
        }
    }

    /// Which way, and from where to where.
    fn resolve(self) -> Result<(String, Direction), Failure> {
        let Cp { source, destination, follow_link: follow, fsync: durable, in_root } = self;
        let source = match source {
            Location::Guest(GuestPath { vm, path }) => {
                let from = in_root.place(path);
                let destination = match destination {
                    Location::Host(path) => Destination::Path { path, durable },
                    Location::Archive => Destination::Archive(output::archive()?),
                    Location::Guest(_) => return Err(between_guests()),
                };
                return Ok((vm, Direction::Out { from, follow, destination }));
            }
            Location::Host(path) => Source::Path { path, follow },
            Location::Archive => Source::Archive(Box::new(std::io::stdin())),
        };
        let Location::Guest(GuestPath { vm, path }) = destination else {
            return Err(Failure::usage("neither SRC nor DST is in a VM").hint("write it like web:/etc/hosts"));
        };
        Ok((vm, Direction::In { source, to: in_root.place(path), durable }))
    }
}

enum Direction {
    In { source: Source, to: Place, durable: bool },
    Out { from: Place, follow: bool, destination: Destination },
}

fn between_guests() -> Failure {
    Failure::usage("both SRC and DST are in a VM")
        .hint("copy through an archive: host-ctl cp A:/path - | host-ctl cp - B:/path")
}

fn failure(error: &CopyError, vm: &str, interrupt: u8) -> Failure {
    match error {
        CopyError::Guest(error) => agent_failure(error, vm),
        CopyError::Host(_) => Failure::failed(error.to_string()),
        // Whoever reads our archive has gone, and has no whole one.
        CopyError::Archive(ArchiveError::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
            Failure::exit(BROKEN_PIPE)
        }
        CopyError::Archive(_) => Failure::failed(error.to_string()),
        CopyError::Interrupted => {
            output::note("interrupted; no file is left half-written");
            Failure::exit(128 + interrupt)
        }
    }
}

/// Says what could not be copied although the copy is complete otherwise.
fn warn(totals: &Totals) {
    let Totals { special, lost_attributes, .. } = *totals;
    if special > 0 {
        output::note(format_args!("warning: sockets, pipes and devices are not copied: {special} left out"));
    }
    if lost_attributes > 0 {
        output::note(format_args!(
            "warning: {lost_attributes} extended attributes were lost: the destination does not take them"
        ));
    }
}
