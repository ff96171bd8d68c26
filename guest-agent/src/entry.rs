//! Where the C library enters this program.

#![allow(unsafe_code, reason = "the program's own entry point, which only the linker can name")]

/// What the standard library's start does besides is not for this program: init and systemd start it with all three
/// standard descriptors, and say how it ended when it has run out of stack.
#[cfg(not(test))]
// SAFETY: the C library looks for this name, no other function here has it, and this is its signature there.
#[unsafe(no_mangle)]
extern "C" fn main(_count: libc::c_int, _arguments: *const *const libc::c_char) -> libc::c_int {
    // Whoever writes to nobody is told so, and does not end. A command that is started gets the default back.
    // SAFETY: SIG_IGN is no function that could do anything.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    crate::main() as libc::c_int
}
