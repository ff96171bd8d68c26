//! End-to-end tests in real VMs: a real kernel, a real initramfs, real vsock.
//!
//! | module | what is proved there |
//! | --- | --- |
//! | [`bench_boot`] | boots measured with `bench boot`, and nothing left of them |
//! | [`boot`] | a VM runs what it was asked to, in the guest, from each kind of root |
//! | [`program`] | the program's exit code, signal, user, environment, limits and orphans |
//! | [`failure`] | bad input and failed boots: one clear error, nothing left behind |
//! | [`volumes`] | modes, required and optional, durability, a volume over `/etc` |
//! | [`network`] | bytes cross the network; addresses and names are set |
//! | [`headers`] | kernel headers: installed whole or not at all, built against, and in nobody's way |
//! | [`sentinels`] | what a program prints is never believed |
//! | [`agent`] | exec, the agent's death, and boots without one |
//! | [`agent_suite`] | what an agent does everywhere: the suite that also runs without a VM |
//! | [`batch`] | batch, probe, stats, health, `inspect --live` |
//! | [`files`] | files into a VM and out of it, and copies that end too early |
//! | [`forward`] | connections carried into the guest, out of it, and to whatever listens there |
//! | [`serial`] | the road over virtio-serial ports: bytes, deaths at either end, no agent |
//! | [`sessions`] | terminals, readers that stop, die and come back, bulk, a hundred at once |
//! | [`sync`] | directories made alike, both ways |
//! | [`pool`] | pools filled, handed out, reset, given up, killed |
//! | [`clones`] | copies that see the snapshot's memory itself, and copies that wait |
//! | [`recovery`] | SIGKILL on the host, rotated logs, races |
//! | [`snapshots`] | a save and its failures, copies that differ and go on |
//! | [`stop`] | clean ends, from every state |
//! | [`baked`] | images that boot by themselves |
//! | [`modes`] | the same commands over exec, systemd and baked guests |
//! | [`systemd`] | guests whose PID 1 is systemd, from the hand-over to the way back |
//! | [`truth`] | what is said of a VM: pushed, refused by name, told to systemd and Prometheus |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod agent;
mod agent_suite;
mod baked;
mod batch;
mod bench_boot;
mod boot;
mod clones;
mod failure;
mod files;
mod forward;
mod headers;
mod modes;
mod network;
mod pool;
mod program;
mod recovery;
mod sentinels;
mod serial;
mod sessions;
mod snapshots;
mod stop;
mod sync;
mod systemd;
mod truth;
mod volumes;
