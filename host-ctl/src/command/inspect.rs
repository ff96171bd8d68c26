//! `inspect [--live] NAME...`

use clap::Args;
use firstlight_host_ctl::agent::bundle::{self, Bundle};
use firstlight_host_ctl::monitor::client;
use firstlight_host_ctl::vm::{Store, VmDir};
use serde::Serialize;

use super::explain::agent_failure;
use super::guest::Requests;
use super::last_known::LastKnown;
use super::several::at_once;
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

    /// Ask the guest too: its status, health, stats, network and versions, in one round trip
    #[arg(long)]
    live: bool,
}

/// What is shown of one VM.
#[derive(Serialize)]
struct Inspected {
    #[serde(flatten)]
    known: LastKnown,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Live>,
}

/// What the guest says of itself. That it cannot be asked is no failure: what the host knows is shown all the same.
#[derive(Serialize)]
#[serde(untagged)]
enum Live {
    Answered(Box<Bundle>),
    Unanswered { error: String },
}

impl Inspect {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let store = Store::open(&context.state_dir)?;
        let vms: Vec<VmDir> = self.names.iter().map(|name| store.resolve(name)).collect::<Result<_, _>>()?;
        let views = at_once(vms.into_iter().map(|vm| inspect(context.clone(), vm, self.live))).await?;
        match views.as_slice() {
            [view] => show(view, context),
            views => show(&views, context),
        }
    }
}

async fn inspect(context: Context, vm: VmDir, live: bool) -> Result<Inspected, Failure> {
    client::ensure(&vm).await?;
    let known = LastKnown::of(&vm)?;
    let live = if live { Some(ask(&context, &vm).await) } else { None };
    Ok(Inspected { known, live })
}

async fn ask(context: &Context, vm: &VmDir) -> Live {
    let asked = async {
        let requests = Requests::to(context, vm, "inspect --live").await?;
        bundle::gather(requests.agent()).await.map_err(|error| agent_failure(&error, requests.name()))
    };
    match asked.await {
        Ok(bundle) => Live::Answered(Box::new(bundle)),
        Err(failure) => Live::Unanswered { error: failure.message().to_owned() },
    }
}

fn show(views: &impl serde::Serialize, context: &Context) -> Result<(), Failure> {
    match context.format {
        Format::Text => output::json(views),
        Format::Json => output::json_line(views),
    }
}
