//! Commands that take several VMs: each is done, at the same time, and one that fails does not keep the others from it.

use std::future::Future;

use clap::Args;
use firstlight_host_ctl::vm::store::StoreError;
use firstlight_host_ctl::vm::{Store, VmDir};
use tokio::task::JoinSet;

use crate::cli::resolved::Context;
use crate::output::{self, Failure};

/// The VMs a command is for.
#[derive(Debug, Args)]
pub(super) struct Targets {
    /// Names, or unique beginnings of ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,

    /// A VM that does not exist is no error
    #[arg(long)]
    ignore_not_found: bool,
}

impl Targets {
    /// Does `each` for every VM and prints the name of each that was done. All failures are said; the first one is the
    /// command's exit code.
    pub(super) async fn each<F, Done>(self, context: &Context, each: F) -> Result<(), Failure>
    where
        F: Fn(Store, VmDir) -> Done,
        Done: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let store = Store::open(&context.state_dir)?;
        let mut done = JoinSet::new();
        let mut outcome = Outcome { context, failed: None };
        for name in self.names {
            match store.resolve(&name) {
                Ok(vm) => {
                    let (shown, doing) = (vm.spec().name.clone(), each(store.clone(), vm));
                    done.spawn(async move { (shown, doing.await) });
                }
                Err(StoreError::NotFound { .. }) if self.ignore_not_found => {}
                Err(error) => outcome.failed(&error.into()),
            }
        }
        while let Some(joined) = done.join_next().await {
            match joined {
                Ok((name, Ok(()))) => outcome.done(&name)?,
                Ok((_, Err(failure))) => outcome.failed(&failure),
                Err(error) => outcome.failed(&Failure::failed(error.to_string())),
            }
        }
        outcome.failed.map_or(Ok(()), |code| Err(Failure::exit(code)))
    }
}

/// Does all at the same time, and gives what came of each in the order of `each`, or the first failure in that order.
pub(super) async fn at_once<T, E, Doing>(each: impl IntoIterator<Item = Doing>) -> Result<Vec<T>, E>
where
    T: Send + 'static,
    E: Send + From<Failure> + 'static,
    Doing: Future<Output = Result<T, E>> + Send + 'static,
{
    let tasks: Vec<_> = each.into_iter().map(tokio::spawn).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.map_err(|error| Failure::failed(error.to_string()))?);
    }
    done.into_iter().collect()
}

/// What became of the VMs so far.
struct Outcome<'a> {
    context: &'a Context,
    failed: Option<u8>,
}

impl Outcome<'_> {
    fn done(&self, name: &str) -> Result<(), Failure> {
        match self.context.format {
            output::Format::Text => output::line(name),
            output::Format::Json => output::json_line(&serde_json::json!({ "version": 1, "name": name })),
        }
    }

    fn failed(&mut self, failure: &Failure) {
        output::fail(failure, self.context.format);
        self.failed.get_or_insert(failure.exit_code());
    }
}
