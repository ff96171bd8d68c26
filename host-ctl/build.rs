//! Has the linker lay together what a monitor executes: `tools/host.ld` says why.

#![allow(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/host.ld");
    println!("cargo::rerun-if-changed={script}");
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
}
