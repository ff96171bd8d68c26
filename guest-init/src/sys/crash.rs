//! The last line of defence: a PID 1 that dies panics the kernel, so a fault in it powers off instead.

use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signals a process gets for its own faults; `SIGABRT` is what a failed allocation ends in.
const FAULTS: [Signal; 5] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT];

/// Bytes of a stack for the handler: the processor's registers, and the few calls that it makes.
const FAULT_STACK: usize = 8 << 10;

/// Where the handler runs on this thread, whose own stack may be what has run out. In use until it is dropped, by the same
/// thread.
#[derive(Debug)]
pub(crate) struct FaultStack {
    memory: Vec<u8>,
}

impl FaultStack {
    /// Gives the calling thread one. Source: `sigaltstack(2)`; it fails only for want of room, which there is.
    pub(crate) fn of_this_thread() -> FaultStack {
        let mut stack = FaultStack { memory: Vec::with_capacity(FAULT_STACK) };
        stack.set(0);
        stack
    }

    fn set(&mut self, flags: libc::c_int) {
        let place = libc::stack_t {
            ss_sp: self.memory.as_mut_ptr().cast(),
            ss_flags: flags,
            ss_size: self.memory.capacity(),
        };
        // SAFETY: the memory is live and nobody else's for as long as this value, which disables it at its end.
        unsafe { libc::sigaltstack(&raw const place, std::ptr::null_mut()) };
    }
}

impl Drop for FaultStack {
    fn drop(&mut self) {
        self.set(libc::SS_DISABLE);
    }
}

/// Powers off when this process faults. To be called once, by PID 1, before threads are started.
///
/// # Errors
/// Those of `sigaction(2)`.
pub(crate) fn power_off_on_crash() -> nix::Result<()> {
    // This thread never ends.
    std::mem::forget(FaultStack::of_this_thread());
    let action = SigAction::new(SigHandler::Handler(crashed), SaFlags::SA_ONSTACK, SigSet::all());
    for signal in FAULTS {
        // SAFETY: the handler calls nothing but async-signal-safe functions and never returns.
        unsafe { sigaction(signal, &action) }?;
    }
    let mut faults = SigSet::empty();
    faults.extend(FAULTS);
    faults.thread_unblock()
}

extern "C" fn crashed(signal: libc::c_int) {
    let mut text = *b"guest-init: killed by its own fault, signal 00; powering off\n";
    let digit = |number: libc::c_int| u8::try_from(number % 10).map_or(b'?', |digit| b'0' + digit);
    // The place of the two zeroes in the text.
    text[44] = digit(signal / 10);
    text[45] = digit(signal);
    // SAFETY: the pointer and the length are those of a live array. Nothing is left to do about a failure.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    // SAFETY: sync takes nothing and is async-signal-safe.
    unsafe { libc::sync() };
    let _ = reboot(RebootMode::RB_POWER_OFF);
    loop {
        // SAFETY: pause takes nothing. Returning would run into the same fault again.
        unsafe { libc::pause() };
    }
}
