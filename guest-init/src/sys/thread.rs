//! Threads, started by the C library and not by the standard one, which looks up, names, counts and shares things for each that
//! init has no use for: a twentieth of what init itself executes in a boot.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;

use super::FaultStack;

/// Stack of a thread in bytes. None recurses far; mounting and rendering fit well within.
const STACK: usize = 128 << 10;

/// Bytes between two stacks that are nobody's, so that a stack that runs out is a fault.
const BETWEEN_STACKS: usize = 128 << 10;

/// Where the first stack is to be: above this program and what its heap grows to, below what the kernel chooses by itself.
const FIRST_STACK: usize = 0x1000_0000;

/// What a thread does.
type Body = Box<dyn FnOnce() + Send>;

/// Starts a thread. Nobody waits for its end; a panic in it ends the process.
///
/// # Errors
/// Those of `pthread_create(3)`: `EAGAIN` when there is no room for its stack, or for one thread more.
pub(crate) fn spawn(body: impl FnOnce() + Send + 'static) -> nix::Result<()> {
    let body: Body = Box::new(body);
    // A pointer to the closure has two words, and a thread is given one.
    let argument = Box::into_raw(Box::new(body));
    let created = create(argument);
    if created.is_err() {
        // SAFETY: it is the box made above, and no thread was started that would take it.
        drop(unsafe { Box::from_raw(argument) });
    }
    created
}

fn create(argument: *mut Body) -> nix::Result<()> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    let mut thread: libc::pthread_t = 0;
    let stack = map_stack()?;
    // SAFETY: the attributes are initialized before they are used, and live until the thread is made, which is when they are
    // read. `run` takes the argument that it is given here, a box that came from `Box::into_raw`, and takes it once. The stack is
    // nobody else's.
    let created = unsafe {
        checked(libc::pthread_attr_init(attributes)).and_then(|()| {
            let created = checked(libc::pthread_attr_setstack(attributes, stack, STACK))
                .and_then(|()| {
                    checked(libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED))
                })
                .and_then(|()| {
                    checked(libc::pthread_create(&raw mut thread, attributes, run, argument.cast()))
                });
            libc::pthread_attr_destroy(attributes);
            created
        })
    };
    if created.is_err() {
        // SAFETY: no thread was started that would have it.
        unsafe { libc::munmap(stack, STACK) };
    }
    created
}

/// Maps a stack. The C library would map one with the page below it, take that page's access away again, and keep them next to
/// each other; here what is below was never mapped. It stays mapped when its thread has ended: this program starts a dozen.
fn map_stack() -> nix::Result<*mut libc::c_void> {
    static NEXT: AtomicUsize = AtomicUsize::new(FIRST_STACK);
    let place = NEXT.fetch_add(STACK + BETWEEN_STACKS, Ordering::Relaxed);
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    // SAFETY: the place is a wish, so nothing that is mapped is replaced, and the memory is nobody else's.
    let stack = unsafe { libc::mmap(ptr::without_provenance_mut(place), STACK, access, kind, -1, 0) };
    if stack == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(stack) }
}

/// These calls give the errno itself.
fn checked(code: libc::c_int) -> nix::Result<()> {
    if code == 0 { Ok(()) } else { Err(Errno::from_raw(code)) }
}

extern "C" fn run(argument: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: see `create`.
    let body = unsafe { Box::from_raw(argument.cast::<Body>()) };
    let _in_use = FaultStack::of_this_thread();
    body();
    ptr::null_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_thread_does_what_it_is_given_beside_the_one_that_started_it() {
        let (sender, receiver) = mpsc::channel();
        let starter = crate::sys::thread_id();
        spawn(move || sender.send(crate::sys::thread_id()).unwrap()).unwrap();
        assert_ne!(receiver.recv().unwrap(), starter);
        receiver.recv().expect_err("what the thread was given is dropped with it");
    }
}
