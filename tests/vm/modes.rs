//! The three modes agree: the same list of commands over an exec, a systemd and a baked guest, with the same answers.

use std::fs;

use firstlight_tests::{Lab, Vm, disk};

use crate::baked::{bake, bootable};

/// One command, and what has to be so of it in every mode.
struct Check {
    what: &'static str,
    holds: fn(&Lab, &Vm<'_>) -> Result<(), String>,
}

/// The list, in order: the last one ends the VM.
const CHECKS: [Check; 9] = [
    Check { what: "ps shows it running", holds: |lab, vm| same(&row(lab, vm)?["state"], "running") },
    Check { what: "inspect names its boot and its start", holds: inspects },
    Check { what: "exec keeps the streams and the exit code apart", holds: executes },
    Check {
        what: "exec of a missing program is 127",
        holds: |_, vm| same(&vm.exec(&["/no/such"]).code(), &127),
    },
    Check { what: "cp brings a file in and out, byte for byte", holds: copies },
    Check { what: "events are numbered without a gap and begin with the start", holds: begins },
    Check { what: "wait knows what is past", holds: |lab, vm| same(&wait(lab, vm, "agent-ready"), &0) },
    Check { what: "stop ends it in order", holds: stops },
    Check { what: "what has ended refuses exec in the same words", holds: refuses },
];

fn same<A: PartialEq<B> + std::fmt::Debug, B: std::fmt::Debug + ?Sized>(
    is: &A,
    wanted: &B,
) -> Result<(), String> {
    if is == wanted { Ok(()) } else { Err(format!("{is:?} is not {wanted:?}")) }
}

fn row(lab: &Lab, vm: &Vm<'_>) -> Result<serde_json::Value, String> {
    let rows = lab.host_ctl(&["ps", "-a", "--json"]).ok().json();
    let rows = rows.as_array().or_else(|| rows["vms"].as_array()).ok_or("ps --json is no list")?;
    rows.iter().find(|row| row["name"] == vm.name()).cloned().ok_or_else(|| "it is not listed".to_owned())
}

fn inspects(_: &Lab, vm: &Vm<'_>) -> Result<(), String> {
    let view = vm.inspect();
    let there = ["boot_id", "pid", "started_at"].iter().all(|key| !view[key].is_null());
    let timings = ["init_start", "program_start", "agent_ready", "running"];
    let timed = timings.iter().all(|key| view["timings"][key].is_number());
    if there && timed && view["failure"].is_null() { Ok(()) } else { Err(view.to_string()) }
}

fn executes(_: &Lab, vm: &Vm<'_>) -> Result<(), String> {
    let run = vm.exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    same(&(run.code(), run.text().as_str(), run.stderr.as_str()), &(7, "out\n", "err\n"))
}

fn copies(lab: &Lab, vm: &Vm<'_>) -> Result<(), String> {
    let [there, back] = ["there", "back"].map(|end| lab.path(&format!("{}-{end}", vm.name())));
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&there, &bytes).unwrap();
    let guest = format!("{}:/tmp/copied", vm.name());
    for pair in [[there.to_str().unwrap(), &guest], [&guest, back.to_str().unwrap()]] {
        let copied = lab.host_ctl(&["cp", pair[0], pair[1]]);
        if copied.code() != 0 {
            return Err(copied.stderr);
        }
    }
    if fs::read(&back).unwrap() == bytes { Ok(()) } else { Err("the bytes differ".to_owned()) }
}

fn begins(_: &Lab, vm: &Vm<'_>) -> Result<(), String> {
    let view = vm.inspect();
    let events = view["events"].as_array().unwrap();
    let numbers = events.iter().filter_map(|event| event["seq"].as_u64());
    let gapless = numbers.eq(1..=events.len() as u64);
    let names = vm.events();
    let in_order =
        ["INIT-START", "PROGRAM-START", "AGENT-READY"].iter().all(|name| names.iter().any(|is| is == name));
    if gapless && in_order && names[0] == "INIT-START" { Ok(()) } else { Err(format!("{events:?}")) }
}

fn wait(lab: &Lab, vm: &Vm<'_>, condition: &str) -> i32 {
    lab.host_ctl(&["wait", vm.name(), "--for", condition, "--timeout", "5s"]).code()
}

fn stops(_: &Lab, vm: &Vm<'_>) -> Result<(), String> {
    vm.stop();
    let (view, events) = (vm.inspect(), vm.events());
    same(&view["state"], "stopped")?;
    same(&view["forced"], &serde_json::json!([]))?;
    same(&view["exit"].is_object(), &true)?;
    same(&events[events.len() - 2..].to_vec(), &vec!["EXIT".to_owned(), "POWER-OFF".to_owned()])
}

fn refuses(_: &Lab, vm: &Vm<'_>) -> Result<(), String> {
    let run = vm.exec(&["true"]);
    same(&(run.code(), run.stderr.contains("stopped")), &(125, true))
}

#[test]
fn the_same_commands_have_the_same_answers_in_every_mode() {
    let Some(lab) = Lab::open() else { return };
    let systemd = disk::debian_variant("systemd", "bookworm").to_str().unwrap().to_owned();
    let image = bootable(&lab);
    let _ = bake(&lab, &image);
    let modes: [(&str, Vec<&str>); 3] = [
        ("exec", vec!["--", "sleep", "1000"]),
        ("systemd", vec!["--rootfs", &systemd, "--mode", "systemd"]),
        (
            "baked",
            // It starts itself, by the one road that it was baked for.
            vec![
                "-m",
                "512M",
                "--rootfs",
                image.to_str().unwrap(),
                "--mode",
                "baked",
                "--transport",
                "vsock",
            ],
        ),
    ];
    let mut failures = Vec::new();
    for (mode, args) in &modes {
        // A distribution's whole boot, under emulation, on a busy machine.
        let args = [&["--timeout", "170s"], args.as_slice()].concat();
        let vm = lab.start(mode, &args);
        for check in &CHECKS {
            if let Err(why) = (check.holds)(&lab, &vm) {
                failures.push(format!("{mode}: {}: {why}", check.what));
            }
        }
        vm.remove();
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
