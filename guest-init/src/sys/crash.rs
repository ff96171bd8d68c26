//! The last line of defence: a PID 1 that dies panics the kernel, so a fault in it powers off instead.

use std::mem::ManuallyDrop;

use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signals a process gets for its own faults; `SIGABRT` is what a failed allocation ends in.
const FAULTS: [Signal; 5] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT];

/// Bytes of a stack for the handler: the processor's registers, and the few calls that it makes.
pub(super) const FAULT_STACK: usize = 8 << 10;

/// Has the handler run on `stack` when the calling thread faults, whose own stack may be what has run out. Source:
/// `sigaltstack(2)`; it fails only for want of room, which there is.
///
/// # Safety
/// There are [`FAULT_STACK`] bytes, nobody else's, for as long as the thread lives.
pub(super) unsafe fn handle_faults_on(stack: *mut libc::c_void) {
    let stack = libc::stack_t { ss_sp: stack, ss_flags: 0, ss_size: FAULT_STACK };
    // SAFETY: the pointer is to a live value, and the memory is the caller's promise.
    unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
}

/// Powers off when this process faults. To be called once, by PID 1, before threads are started.
///
/// # Errors
/// Those of `sigaction(2)`.
pub(crate) fn power_off_on_crash() -> nix::Result<()> {
    // This thread never ends.
    let mut stack = ManuallyDrop::new(Vec::<u8>::with_capacity(FAULT_STACK));
    // SAFETY: the memory is large enough, and never given back.
    unsafe { handle_faults_on(stack.as_mut_ptr().cast()) };
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
