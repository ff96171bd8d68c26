//! Where the C library enters this program.

/// What the standard library's start does besides is not for this program: it has no use for standard output, handles its
/// faults itself, and is started with all three standard descriptors.
#[cfg(not(test))]
// SAFETY: the C library looks for this name, no other function here has it, and this is its signature there.
#[unsafe(no_mangle)]
extern "C" fn main(count: libc::c_int, arguments: *const *const libc::c_char) -> libc::c_int {
    // SAFETY: there are `count` pointers to strings, which live as long as the process. Source: `execve(2)`.
    let name = if count > 0 { unsafe { std::ffi::CStr::from_ptr(*arguments) } } else { c"" };
    // Whoever writes to nobody is told so, and does not end. A program that is started gets the default back.
    // SAFETY: SIG_IGN is no function that could do anything.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    crate::main(name) as libc::c_int
}
