//! `pool release POOL VM`

use clap::Args;
use firstlight_host_ctl::pool::wire::Request;

use super::{Held, ask_now};
use crate::cli::resolved::Context;
use crate::output::Failure;

/// Give a VM back
///
/// It is reset, and proved clean, in the background. Nothing that was done in it is kept.
#[derive(Debug, Args)]
pub(crate) struct Release {
    #[command(flatten)]
    held: Held,
}

impl Release {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Held { pool, vm, lease } = self.held;
        ask_now(context, &pool, &Request::Release { vm, lease }).await.map(drop)
    }
}
