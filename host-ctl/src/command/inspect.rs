//! `inspect NAME...`

use clap::Args;
use firstlight_host_ctl::monitor::client;
use firstlight_host_ctl::vm::Store;

use super::last_known::LastKnown;

use crate::cli::resolved::Context;
use crate::output::{self, Failure, Format};

/// Show all that is known of VMs
///
/// Always JSON: one VM is an object, several are an array. With --json it is the same on one line.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Names, or unique beginnings of ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Inspect {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let store = Store::open(&context.state_dir)?;
        let mut views = Vec::new();
        for name in &self.names {
            let vm = store.resolve(name)?;
            client::ensure(&vm).await?;
            views.push(LastKnown::of(&vm)?);
        }
        match views.as_slice() {
            [view] => show(view, context),
            views => show(&views, context),
        }
    }
}

fn show(views: &impl serde::Serialize, context: &Context) -> Result<(), Failure> {
    match context.format {
        Format::Text => output::json(views),
        Format::Json => output::json_line(views),
    }
}
