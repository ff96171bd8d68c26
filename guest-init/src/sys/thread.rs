//! Threads, started by the C library and not by the standard one, which looks up, names, counts and shares things for each that
//! init has no use for: a twentieth of what init itself executes in a boot.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;

use super::crash::{FAULT_STACK, handle_faults_on};

/// Stack of a thread in bytes. None recurses far; mounting and rendering fit well within.
const STACK: usize = 128 << 10;

/// What is mapped for a thread, in bytes: its stack, and above that the one for its faults.
const MAPPED: usize = STACK + FAULT_STACK;

/// Bytes between two stacks that are nobody's, so that a stack that runs out is a fault.
const BETWEEN_STACKS: usize = 128 << 10;

unsafe extern "C" {
    /// This program's first byte in memory. Source: "Built-in Symbols" of the linker's manual.
    static __executable_start: u8;
}

/// What a thread is given.
struct Start {
    body: Box<dyn FnOnce() + Send>,
    stack: *mut libc::c_void,
}

/// Starts a thread. Nobody waits for its end; a panic in it ends the process.
///
/// # Errors
/// Those of `pthread_create(3)`: `EAGAIN` when there is no room for its stack, or for one thread more.
pub(crate) fn spawn(body: impl FnOnce() + Send + 'static) -> nix::Result<()> {
    let stack = map_stack()?;
    let start = Box::into_raw(Box::new(Start { body: Box::new(body), stack }));
    let created = create(start, stack);
    if created.is_err() {
        // SAFETY: it is the box made above, and no thread was started that would take it or have the stack.
        unsafe {
            drop(Box::from_raw(start));
            libc::munmap(stack, MAPPED);
        }
    }
    created
}

fn create(start: *mut Start, stack: *mut libc::c_void) -> nix::Result<()> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    let mut thread: libc::pthread_t = 0;
    // SAFETY: the attributes are initialized before they are used, and live until the thread is made, which is when they are
    // read. `run` takes the argument that it is given here, a box that came from `Box::into_raw`, and takes it once. The stack is
    // nobody else's.
    unsafe {
        checked(libc::pthread_attr_init(attributes)).and_then(|()| {
            let created = checked(libc::pthread_attr_setstack(attributes, stack, STACK))
                .and_then(|()| {
                    checked(libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED))
                })
                .and_then(|()| checked(libc::pthread_create(&raw mut thread, attributes, run, start.cast())));
            libc::pthread_attr_destroy(attributes);
            created
        })
    }
}

/// Maps a thread's stacks. The C library would map one with the page below it, take that page's access away again, and keep them
/// next to each other; here what is below was never mapped. The first lies directly beneath this program, so that there is one
/// stretch of addresses less. They stay mapped when their thread has ended: this program starts a dozen.
fn map_stack() -> nix::Result<*mut libc::c_void> {
    static BENEATH: AtomicUsize = AtomicUsize::new(MAPPED);
    let beneath = BENEATH.fetch_add(MAPPED + BETWEEN_STACKS, Ordering::Relaxed);
    let place = (&raw const __executable_start).addr().saturating_sub(beneath);
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    // SAFETY: the place is a wish, so nothing that is mapped is replaced, and the memory is nobody else's.
    let stack = unsafe { libc::mmap(ptr::without_provenance_mut(place), MAPPED, access, kind, -1, 0) };
    if stack == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(stack) }
}

/// These calls give the errno itself.
fn checked(code: libc::c_int) -> nix::Result<()> {
    if code == 0 { Ok(()) } else { Err(Errno::from_raw(code)) }
}

extern "C" fn run(argument: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: see `create`.
    let Start { body, stack } = *unsafe { Box::from_raw(argument.cast::<Start>()) };
    // SAFETY: it lies above the stack that the thread was given, is as large as that, and stays mapped.
    unsafe { handle_faults_on(stack.byte_add(STACK)) };
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

    #[test]
    fn nothing_lies_below_a_stack_and_above_it_is_where_faults_are_handled() {
        let (sender, receiver) = mpsc::channel();
        spawn(move || {
            let mut faults = MaybeUninit::<libc::stack_t>::zeroed();
            // SAFETY: sigaltstack fills in what it is given, and zeroes are valid as well.
            let faults = unsafe {
                libc::sigaltstack(ptr::null(), faults.as_mut_ptr());
                faults.assume_init()
            };
            sender.send(((&raw const faults).addr(), faults.ss_sp.addr())).unwrap();
        })
        .unwrap();
        let (here, faults) = receiver.recv().unwrap();
        // The next one's comes below it. They stay.
        spawn(|| ()).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let ranges = maps.lines().filter_map(|line| line.split_once(' ')?.0.split_once('-'));
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        let ranges: Vec<(usize, usize)> = ranges.map(|(from, to)| (number(from), number(to))).collect();
        let (from, to) = *ranges.iter().find(|(from, to)| (from..to).contains(&&here)).unwrap();
        assert_eq!((to - from, faults - from), (MAPPED, STACK));
        let just_below = from - BETWEEN_STACKS + 1..=from;
        assert!(!ranges.iter().any(|(_, end)| just_below.contains(end)), "{maps}");
    }
}
