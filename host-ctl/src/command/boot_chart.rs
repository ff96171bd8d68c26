//! `boot-chart NAME [--svg FILE]`

use std::path::PathBuf;

use clap::Args;
use firstlight_host_ctl::boot_chart::Chart;
use firstlight_host_ctl::monitor::client;
use firstlight_host_ctl::vm::Store;

use crate::cli::resolved::Context;
use crate::output::{self, Code, Failure, Format};

/// Columns of a chart that goes to a file or a pipe.
const DEFAULT_WIDTH: usize = 120;

/// Show where the time of a VM's latest boot went
///
/// A timeline of the host's part, the kernel, each stage of init with the one it waited for, the headers worker, the
/// agent and the program. The chain that decided when the program started stands out.
#[derive(Debug, Args)]
pub(crate) struct BootChart {
    /// The VM's name, or a unique beginning of its id
    #[arg(value_name = "NAME")]
    name: String,

    /// Write a picture to this file instead
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl BootChart {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let store = Store::open(&context.state_dir)?;
        let vm = store.resolve(&self.name)?;
        client::ensure(&vm).await?;
        let view = vm.view()?;
        let chart = Chart::of(&view).ok_or_else(|| {
            Failure::new(Code::WrongState, format!("{} has not been started yet", view.name))
                .of_vm(&view.name)
                .hint(format!("start it: host-ctl start {}", view.name))
        })?;
        if let Some(file) = &self.svg {
            return std::fs::write(file, chart.to_svg()).map_err(|error| {
                Failure::failed(format!("cannot write {}: {error}", file.display())).of_vm(&view.name)
            });
        }
        match context.format {
            Format::Json => output::json(&chart),
            Format::Text => output::text(&chart.to_text(output::width().unwrap_or(DEFAULT_WIDTH))),
        }
    }
}
