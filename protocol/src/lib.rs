//! Every word a Firstlight host and guest say to each other.
//!
//! This crate is pure: it does no I/O, reads no clock and holds no `unsafe`. Bytes come in as slices and time comes
//! in as numbers, so both ends of every hop share one type and `parse(render(x)) == x` is tested without a VM.
//!
//! | hop | module |
//! | --- | --- |
//! | host → init, at boot | [`boot_spec`] |
//! | host → init, packed beside the kernel modules | [`module_manifest`] |
//! | host → guest, on a disk of its own; guest → its programs, in a file | [`headers`] |
//! | init → host, over serial and vsock | [`sentinel`] |
//! | host → init, back over the vsock event stream | [`init_command`] |
//! | init → agent, over an inherited descriptor | [`agent_config`] |
//! | init and host → systemd in the guest | [`units`] |
//! | host ↔ agent, over vsock | [`frame`] (header), [`codec`] (payload), [`message`] (what it says), [`version`] |
//! | all of the above → what the host calls it | [`lifecycle`] |

pub mod agent_config;
pub mod boot_spec;
pub mod codec;
pub mod frame;
pub mod headers;
pub mod hex;
pub mod init_command;
pub mod lifecycle;
pub mod message;
pub mod module_manifest;
pub mod port;
pub mod sentinel;
pub mod units;
pub mod version;
