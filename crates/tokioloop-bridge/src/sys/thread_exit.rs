//! Handlers that libc runs when a thread ends by `pthread_exit`: `_pthread_cleanup_push`.
//!
//! A handler is of use only if it runs before the first frame is unwound. musl's `pthread_exit`
//! runs all handlers first and unwinds nothing. glibc (nptl/unwind.c) asks before each frame, the
//! innermost one first, which handlers' buffers lie in frames that the unwinding has left:
//!
//! ```c
//! #define FRAME_LEFT(cfa, buffer, top) ((uintptr_t) cfa - top >= (uintptr_t) buffer - top)
//! ```
//!
//! `top` is the upper end of the thread's stack, so both differences are taken modulo 2^64. The
//! frame's address `cfa` is on the stack, a distance `d` below the top: its difference is `2^64 - d`
//! with `d` no more than the size of the stack. A buffer outside of the stack is either above the
//! top, and its difference is small, or further below than the whole stack: `2^64 - D`, where `D` is
//! larger than `d`. Both are smaller than the frame's: the buffer counts as left from the very first
//! frame on. A buffer on the stack would not, and neither would one in static thread-local storage,
//! which glibc puts at the top of the stack's block: hence a buffer on the heap.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

type Routine = unsafe extern "C" fn(*mut c_void);

/// glibc's `struct _pthread_cleanup_buffer`.
#[cfg(not(target_env = "musl"))]
#[repr(C)]
struct CleanupBuffer {
    routine: Option<Routine>,
    arg: *mut c_void,
    cancel_type: c_int,
    previous: *mut Node,
}

/// musl's `struct __ptcb`.
#[cfg(target_env = "musl")]
#[repr(C)]
struct CleanupBuffer {
    routine: Option<Routine>,
    arg: *mut c_void,
    previous: *mut Node,
}

/// A buffer that libc and this module both write to.
#[repr(transparent)]
struct Node(UnsafeCell<CleanupBuffer>);

impl Node {
    const fn new() -> Self {
        Self(UnsafeCell::new(CleanupBuffer {
            routine: None,
            arg: null_mut(),
            #[cfg(not(target_env = "musl"))]
            cancel_type: 0,
            previous: null_mut(),
        }))
    }
}

unsafe extern "C" {
    fn _pthread_cleanup_push(buffer: *mut Node, routine: Routine, arg: *mut c_void);
    fn _pthread_cleanup_pop(buffer: *mut Node, execute: c_int);
}

/// A handler in the list of the thread that made it, which alone touches it.
pub(super) struct ExitHandler(*mut Node);

impl ExitHandler {
    /// # Safety
    /// `routine` must be fit to run while the thread ends, and take the null pointer that it gets.
    pub(super) unsafe fn push(routine: Routine) -> Self {
        let node = Box::into_raw(Box::new(Node::new()));
        // SAFETY: the buffer stays where it is until `drop` has taken it out of the list.
        unsafe { _pthread_cleanup_push(node, routine, null_mut()) };
        Self(node)
    }
}

/// For the moment that a buffer is in the list in which the thread cannot end.
unsafe extern "C" fn never_run(_: *mut c_void) {}

impl Drop for ExitHandler {
    /// Takes the handler out of the middle of the list: others (another copy of this crate) may
    /// have pushed theirs since. To push one is the only way to see the list.
    fn drop(&mut self) {
        let head = Node::new();
        // SAFETY: in the thread whose list it is. Each node of the list is live: ours until it is
        // freed here, out of the list; others by the same contract with libc.
        unsafe {
            let head = (&raw const head).cast_mut();
            _pthread_cleanup_push(head, never_run, null_mut());
            let mut at = head;
            while !at.is_null() {
                let next = (*(*at).0.get()).previous;
                if next == self.0 {
                    (*(*at).0.get()).previous = (*(*next).0.get()).previous;
                    break;
                }
                at = next;
            }
            _pthread_cleanup_pop(head, 0);
            drop(Box::from_raw(self.0));
        }
    }
}

/// The address of the first handler in this thread's list.
#[cfg(test)]
pub(super) fn first() -> Option<usize> {
    let probe = Node::new();
    // SAFETY: in the list for these two calls only.
    let first = unsafe {
        let probe = (&raw const probe).cast_mut();
        _pthread_cleanup_push(probe, never_run, null_mut());
        _pthread_cleanup_pop(probe, 0);
        (*(*probe).0.get()).previous
    };
    Some(first as usize).filter(|first| *first != 0)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::mem::forget;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    static UNWOUND: AtomicBool = AtomicBool::new(false);

    /// The innermost frame that has something to unwind.
    struct Frame(mpsc::Sender<&'static str>);

    impl Drop for Frame {
        fn drop(&mut self) {
            UNWOUND.store(true, Ordering::SeqCst);
            let _ = self.0.send("unwound");
        }
    }

    thread_local! {
        static REPORT: Cell<Option<mpsc::Sender<&'static str>>> = const { Cell::new(None) };
    }

    unsafe extern "C" fn report_exit(_: *mut c_void) {
        if let Some(sender) = REPORT.take() {
            let _ = sender.send("parked");
        }
        loop {
            // SAFETY: a signal ends the wait, and the next one begins.
            unsafe { libc::pause() };
        }
    }

    unsafe extern "C-unwind" {
        fn pthread_exit(value: *mut c_void) -> !;
    }

    /// The module rests on this: if it fails, this libc ends threads in another way.
    #[test]
    fn libc_runs_the_handler_before_it_unwinds_a_frame() {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            REPORT.set(Some(sender.clone()));
            // SAFETY: it parks the thread, whose values are all there.
            forget(unsafe { ExitHandler::push(report_exit) });
            let _frame = Frame(sender);
            // SAFETY: never returns: the handler parks the thread.
            unsafe { pthread_exit(null_mut()) };
        });
        let received = receiver.recv_timeout(Duration::from_secs(60));
        assert_eq!(received, Ok("parked"));
        assert!(!UNWOUND.load(Ordering::SeqCst));
    }

    #[test]
    fn handlers_leave_the_list_in_any_order() {
        let before = first();
        // SAFETY: it does nothing.
        let [a, b, c] = [(); 3].map(|()| unsafe { ExitHandler::push(never_run) });
        let latest = c.0 as usize;
        drop(b);
        assert_eq!(first(), Some(latest));
        drop(c);
        assert_eq!(first(), Some(a.0 as usize));
        drop(a);
        assert_eq!(first(), before);
    }
}
