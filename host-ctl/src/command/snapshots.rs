//! `snapshots` and `snapshots rm SNAP...`

use clap::{Args, Subcommand};
use firstlight_host_ctl::snapshot::manifest::Manifest;
use firstlight_host_ctl::snapshot::{SnapshotError, Snapshots as All};
use firstlight_host_ctl::vm::Store;
use serde::Serialize;

use crate::cli::resolved::Context;
use crate::output::{self, Failure, Format, Table};

/// List snapshots, or remove some
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Snapshots {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Remove snapshots; the VMs restored from them stay as they are
    Rm {
        /// Their names
        #[arg(required = true, value_name = "SNAP")]
        names: Vec<String>,
    },
}

/// A snapshot, as it is listed.
#[derive(Debug, Serialize)]
pub(super) struct Row<'a> {
    version: u32,
    name: &'a str,
    vm: &'a str,
    created_at: &'a str,
    size: u64,
    memory_mib: u32,
    disks: usize,
}

impl Row<'_> {
    pub(super) fn of(manifest: &Manifest) -> Row<'_> {
        Row {
            version: 1,
            name: &manifest.name,
            vm: &manifest.vm,
            created_at: &manifest.created_at,
            size: manifest.size,
            memory_mib: manifest.spec.memory_mib,
            disks: manifest.disks.len(),
        }
    }
}

impl Snapshots {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let all = All::open(&Store::open(&context.state_dir)?)?;
        match self.action {
            None => list(&all, context),
            Some(Action::Rm { names }) => remove(&all, &names, context),
        }
    }
}

fn list(all: &All, context: &Context) -> Result<(), Failure> {
    let mut found = Vec::new();
    for (name, snapshot) in all.list()? {
        match snapshot {
            Ok(snapshot) => found.push(snapshot),
            // Removed since it was listed.
            Err(SnapshotError::NotFound { .. }) => {}
            Err(error) => output::note(format_args!("warning: {name}: {error}")),
        }
    }
    let rows: Vec<Row<'_>> = found.iter().map(|snapshot| Row::of(snapshot.manifest())).collect();
    if context.format == Format::Json {
        return output::json(&rows);
    }
    if context.quiet {
        return rows.iter().try_for_each(|row| output::line(row.name));
    }
    let mut table = Table::new(&["SNAPSHOT", "VM", "CREATED", "SIZE"]);
    for row in &rows {
        let created = row.created_at.get(..19).unwrap_or(row.created_at).replace('T', " ");
        table.row(vec![row.name.to_owned(), row.vm.to_owned(), created, format!("{}M", row.size >> 20)]);
    }
    output::text(&table.render())
}

fn remove(all: &All, names: &[String], context: &Context) -> Result<(), Failure> {
    let mut failed = None;
    for name in names {
        match all.remove(name) {
            Ok(()) => output::line(name)?,
            Err(error) => {
                let failure = Failure::from(error);
                output::fail(&failure, context.format);
                failed.get_or_insert(failure.exit_code());
            }
        }
    }
    failed.map_or(Ok(()), |code| Err(Failure::exit(code)))
}
