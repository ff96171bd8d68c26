//! `host-ctl`: parse, run, map to an exit code.

mod cli;
mod command;
mod follow;
mod interrupt;
mod output;
mod program_output;
mod progress;
mod watch;
mod watch_all;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use cli::Cli;
use cli::resolved::Context;
use command::Command;
use command::monitor::Monitor;
use output::{Failure, Format};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(monitor) = Monitor::alone(&arguments) {
        return monitor
            .run()
            .map_or_else(|failure| output::fail(&failure, Format::Text), |()| ExitCode::SUCCESS);
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &arguments),
    };
    let format = if cli.global.json { Format::Json } else { Format::Text };
    match run(cli) {
        Ok(code) => code,
        Err(failure) => output::fail(&failure, format),
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    if let Command::Monitor(monitor) = &cli.command {
        return monitor.run().map(|()| ExitCode::SUCCESS);
    }
    if let Command::TerminalGuard(guard) = &cli.command {
        return guard.run().map(|()| ExitCode::SUCCESS);
    }
    let context = Context::resolve(&cli.global, |name| std::env::var(name).ok())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(async {
        let result = cli.command.run(&context).await;
        context.close().await;
        result
    });
    // A read of stdin cannot be interrupted; waiting for it would hang until the user types.
    runtime.shutdown_background();
    result
}

/// Help and version are data; anything else clap has to say is a usage error.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let ours = arguments.iter().take_while(|argument| *argument != "--");
    let json = ours.into_iter().any(|argument| argument == "--json");
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let written = error.print().map_err(|error| Failure::stdout(&error));
        return written.map_or_else(|failure| output::fail(&failure, Format::Text), |()| ExitCode::SUCCESS);
    }
    if json {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let failure = Failure::usage(first).hint("see host-ctl --help");
        return output::fail(&failure, Format::Json);
    }
    // With stderr gone there is nobody left to tell.
    let _ = error.print();
    ExitCode::from(Failure::usage("").exit_code())
}
