//! `doctor`: proves by doing that this host can run VMs, and says how to mend what it cannot.

mod files;
mod sockets;
mod tools;
mod vcpu;

use clap::Args;
use firstlight_host_ctl::assets::Environment;
use serde::Serialize;

use crate::cli::resolved::Context;
use crate::output::{self, Failure, Format};

/// Check that this host can run VMs, by doing what a run does
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    result: Health,
    detail: String,
    mend: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Health {
    /// It works.
    Good,
    /// Something is missing that not every VM needs.
    Limited,
    /// No VM can run.
    Bad,
}

impl Finding {
    fn good(check: &'static str, detail: impl Into<String>) -> Finding {
        Finding { check, result: Health::Good, detail: detail.into(), mend: None }
    }

    fn bad(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { check, result: Health::Bad, detail: detail.into(), mend: Some(mend.into()) }
    }

    /// The same finding about something that not every VM needs.
    fn optional(self) -> Finding {
        let result = if self.result == Health::Bad { Health::Limited } else { self.result };
        Finding { result, ..self }
    }
}

impl Doctor {
    pub(crate) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let environment = Environment::of_process();
        let mut findings = sockets::check(&context.state_dir).await;
        findings.extend(files::check(&environment));
        findings.extend(tools::check(&environment).await);
        findings.extend(vcpu::check(&environment).await);
        match context.format {
            Format::Json => output::json(&serde_json::json!({ "version": 1, "findings": findings }))?,
            Format::Text => findings.iter().try_for_each(|finding| output::text(&render(finding)))?,
        }
        match findings.iter().filter(|finding| finding.result == Health::Bad).count() {
            0 => Ok(()),
            1 => Err(Failure::failed("this host cannot run VMs yet: 1 thing is to be mended")),
            count => {
                Err(Failure::failed(format!("this host cannot run VMs yet: {count} things are to be mended")))
            }
        }
    }
}

fn render(finding: &Finding) -> String {
    let mark = match finding.result {
        Health::Good => "ok",
        Health::Limited => "limited",
        Health::Bad => "FAILED",
    };
    let mend = finding.mend.as_ref().map(|mend| format!("{:24}  mend: {mend}\n", "")).unwrap_or_default();
    format!("{mark:<8} {:<16} {}\n{mend}", finding.check, finding.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_and_what_is_bad_has_another_that_mends_it() {
        let findings = [
            Finding::good("kernel", "/boot/vmlinuz"),
            Finding::bad("busybox", "not found", "apt-get install busybox-static").optional(),
            Finding::bad("state directory", "read-only", "give another with --state-dir"),
        ];
        let text: String = findings.iter().map(render).collect();
        insta::assert_snapshot!(text, @r"
        ok       kernel           /boot/vmlinuz
        limited  busybox          not found
                                  mend: apt-get install busybox-static
        FAILED   state directory  read-only
                                  mend: give another with --state-dir
        ");
    }
}
