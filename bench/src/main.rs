//! `make bench`: measures, and publishes the figures.
//!
//! | room | does |
//! | --- | --- |
//! | [`machine`] | boots VMs with a plugin in QEMU that notes moments and counts instructions |
//! | [`guest`] | the VM of the host's path, and the ways into it |
//! | [`contest`] | several ways to do one thing, in turn |
//! | [`measurement`] | what is measured, a file each |
//! | [`report`] | figures as a table, JSON and pictures |
//! | [`gate`] | `make bench-check`: counts against the committed ones |

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measuring program prints, and fails by panicking: a figure it could not get is no figure"
)]

mod contest;
mod gate;
mod guest;
mod machine;
mod measurement;
mod report;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use firstlight_host_ctl::assets::{self, Environment, Wanted};
use firstlight_tests::Lab;

use machine::Bench;
use machine::scene::Disks;
use machine::tools::Tools;
use measurement::{ALL, Context};
use report::{Report, Sections};

/// Measure how fast and how small Firstlight is.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// What to measure, by name [default: everything]
    names: Vec<String>,

    /// How often each timed boot is repeated
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,

    /// Only compare instruction counts with the committed ones, and fail on a regression
    #[arg(long)]
    check: bool,

    /// Only count instructions, and write what is to be committed
    #[arg(long)]
    update: bool,

    /// Put what is measured into docs/benchmarks.md as well
    #[arg(long)]
    publish: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let unknown = arguments.names.iter().find(|name| ALL.iter().all(|(known, _)| known != name));
    if let Some(name) = unknown {
        let known: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        println!("nothing here measures {name}; there are {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    let Some(lab) = Lab::open() else { return ExitCode::FAILURE };
    let context = context(lab, arguments.runs);
    if arguments.update {
        gate::update(&context);
    } else if arguments.check {
        return if gate::check(&context) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    } else {
        publish(&report(&context, &arguments.names), &arguments);
    }
    ExitCode::SUCCESS
}

fn context(lab: Lab, runs: usize) -> Context {
    let tools = Tools::new(&results().join("tools"));
    let bench = Bench::new(&tools);
    let wanted = Wanted { builtin_root: true, ..Wanted::default() };
    let assets = assets::find(&wanted, &Environment::of_process()).unwrap_or_else(|error| panic!("{error}"));
    let disks = Disks::make(&bench.program);
    Context { tools, bench, assets, disks, guest: OnceCell::new(), lab, runs }
}

fn report(context: &Context, names: &[String]) -> Report {
    let chosen = ALL.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| wanted == name));
    let sections = chosen.map(|(name, measure)| announced(name, || measure(context))).collect();
    Report { version: 1, machine: machine_in_words(context), sections }
}

/// Says how long a measurement takes, for whoever waits.
fn announced<T>(name: &str, measure: impl FnOnce() -> T) -> T {
    eprintln!("==> measuring {name}");
    let begun = Instant::now();
    let measured = measure();
    eprintln!("==> measured {name} in {:.0?}", begun.elapsed());
    measured
}

fn publish(report: &Report, arguments: &Arguments) {
    let written = report.write(&results());
    written.unwrap_or_else(|error| panic!("cannot write to {}: {error}", results().display()));
    println!("{}", report.markdown());
    if arguments.publish {
        let document = workspace().join("docs/benchmarks.md");
        let sections = if arguments.names.is_empty() { Sections::All } else { Sections::Some };
        report::publish(&document, &report.markdown(), sections).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Processor, number of them, and the guests' kernel.
fn machine_in_words(context: &Context) -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = context.assets.modules.file_name().unwrap_or_default().to_string_lossy();
    format!("{model}, {processors} processors, emulated guests (TCG) with kernel {kernel}")
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where everything goes that is made: `target/bench`.
fn results() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from)
        .join("bench")
}
