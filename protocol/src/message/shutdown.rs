//! Ending the VM from inside.

/// End the VM in order: init (or systemd) is told, and the answer comes before anything ends.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ShutdownRequest {
    /// Milliseconds the program has between its stop signal and SIGKILL; `None` is the boot spec's.
    pub grace_ms: Option<u32>,
}
