//! What the guest uses of its resources: counters since its kernel started, and levels of this moment.
//!
//! Counters only grow, so a rate is the difference of two of them over that of [`Stats::at_ns`].

use serde::{Serialize, Serializer};

/// Most disks, file systems and network links of one answer each. A guest with more shows the first this many.
pub const MAX_ENTRIES: usize = 64;

/// The guest's resources at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Stats {
    /// When, in nanoseconds since the guest's kernel started (`CLOCK_BOOTTIME`).
    pub at_ns: u64,
    /// Processors.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads that exist.
    pub tasks: u32,
    /// Block devices, loop and RAM devices left out.
    pub disks: Vec<Disk>,
    /// Mounted file systems of disks and the root.
    pub filesystems: Vec<Filesystem>,
    /// Network links, the loopback left out.
    pub links: Vec<Link>,
    /// How long tasks stood still for want of something; `None` where the kernel does not count it.
    pub pressure: Option<Pressure>,
    /// The program alone; `None` where it has no cgroup of its own.
    pub program: Option<Program>,
}

/// Time of all processors together, in microseconds. Source: `proc_stat(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, bincode::Encode, bincode::Decode)]
pub struct Cpu {
    /// How many are online.
    pub count: u32,
    /// In user mode, niced included.
    pub user_us: u64,
    /// In the kernel, interrupts included.
    pub system_us: u64,
    /// Doing nothing, waiting for a disk included.
    pub idle_us: u64,
    /// Taken by the host.
    pub steal_us: u64,
}

impl Cpu {
    /// All time in which something was done.
    #[must_use]
    pub fn busy_us(&self) -> u64 {
        self.user_us.saturating_add(self.system_us)
    }
}

/// Bytes of memory. Source: `proc_meminfo(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, bincode::Encode, bincode::Decode)]
pub struct Memory {
    /// All the kernel has to give.
    pub total: u64,
    /// What could be had without swapping.
    pub available: u64,
    /// What is used for nothing.
    pub free: u64,
    /// What caches files and could be given up.
    pub cached: u64,
    /// Swap space.
    pub swap_total: u64,
    /// Swap space that is used for nothing.
    pub swap_free: u64,
}

impl Memory {
    /// What is used and cannot simply be given up.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.available)
    }
}

/// What went to and from a block device. Source: the kernel's `Documentation/admin-guide/iostats.rst`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Disk {
    /// Its name in the kernel, such as `vda`.
    pub name: String,
    /// Reads completed.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes completed.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Milliseconds in which anything was under way.
    pub busy_ms: u64,
}

/// A mounted file system, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Filesystem {
    /// Where it is mounted.
    pub path: String,
    /// Its type, such as `ext4`.
    pub kind: String,
    /// Its size.
    pub size: u64,
    /// What is in use.
    pub used: u64,
    /// What someone other than root may still use.
    pub available: u64,
}

/// What went over a network link. Source: `proc_pid_net(5)`, `/proc/net/dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Link {
    /// Its name, such as `eth0`.
    pub name: String,
    /// What came.
    pub received: Traffic,
    /// What went.
    pub sent: Traffic,
}

/// One direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, bincode::Encode, bincode::Decode)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were broken.
    pub errors: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// Pressure stall information. Source: the kernel's `Documentation/accounting/psi.rst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, bincode::Encode, bincode::Decode)]
pub struct Pressure {
    /// For want of a processor.
    pub cpu: Stalls,
    /// For want of memory.
    pub memory: Stalls,
    /// For want of a disk's answer.
    pub io: Stalls,
}

/// How much of the time tasks stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, bincode::Encode, bincode::Decode)]
pub struct Stalls {
    /// At least one of them.
    pub some: Stall,
    /// All of them at once.
    pub full: Stall,
}

/// A share of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, bincode::Encode, bincode::Decode)]
pub struct Stall {
    /// Of the last 10 s.
    pub avg10: Percent,
    /// Of the last minute.
    pub avg60: Percent,
    /// Of the last five minutes.
    pub avg300: Percent,
    /// Since the kernel started, in microseconds.
    pub total_us: u64,
}

/// A percentage in hundredths, which is all that the kernel tells. It serializes as a number of per cent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, bincode::Encode, bincode::Decode)]
pub struct Percent(pub u32);

impl Percent {
    /// Per cent.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

/// The program and all it started. Source: the kernel's `Documentation/admin-guide/cgroup-v2.rst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, bincode::Encode, bincode::Decode)]
pub struct Program {
    /// Processor time in microseconds.
    pub cpu_us: u64,
    /// Bytes of memory charged to it; `None` where the memory controller is off.
    pub memory: Option<u64>,
    /// The limit of that; `None` is the guest's.
    pub memory_max: Option<u64>,
    /// Processes of it that the OOM killer ended.
    pub oom_kills: u64,
}
