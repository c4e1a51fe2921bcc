//! Threads that CPython ends while the interpreter goes down.
//!
//! # The trap
//!
//! Python code that a Rust frame called may release the GIL. If the interpreter is finalizing when
//! the thread wants it back, CPython before 3.14 ends the thread with `pthread_exit`, and glibc then
//! unwinds its stack: it runs the destructors of Rust values without the GIL, and aborts the process
//! at the first frame that may not be unwound (an `extern "C"` function, a `catch_unwind`). Daemon
//! threads that run a loop meet this, and so does every other thread with a frame of ours on its
//! stack. CPython 3.14 leaves such a thread hanging instead, and so does this module before 3.14.
//!
//! # The mechanism
//!
//! [`guard`] registers one cleanup handler a thread with libc, `_pthread_cleanup_push`, when the
//! thread first comes into the core. The handler parks the thread for ever if the interpreter is
//! finalizing; otherwise (some other code ended the thread) it returns, and the thread ends as it
//! would have without it. So no call of Python code has to do anything, and none can forget
//! it: `trampoline::enter` and `trampoline::destroy` register the thread, and so does each method
//! that PyO3 writes the frame of (a test below goes through them).
//!
//! The handler must run before the first frame is unwound. musl's `pthread_exit` runs all handlers
//! first and unwinds nothing. glibc (nptl/unwind.c) asks before each frame, the innermost one first,
//! which handlers' buffers lie in frames that the unwinding has left:
//!
//! ```c
//! #define FRAME_LEFT(cfa, buffer, top) ((uintptr_t) cfa - top >= (uintptr_t) buffer - top)
//! ```
//!
//! `top` is the upper end of the thread's stack, so both differences are taken modulo 2^64. The
//! frame's address `cfa` is on the stack, a distance `d` below the top: its difference is `2^64 - d`
//! with `d` no more than the size of the stack. A buffer outside of the stack is either above the
//! top, and its difference is small, or further below than the whole stack, `2^64 - D` with `D > d`.
//! Both are smaller than the frame's: the buffer counts as left from the very first frame on. A
//! buffer on the stack would not, and neither would one in static thread-local storage, which glibc
//! puts at the top of the stack's block: hence a buffer on the heap.
//!
//! # Where it ends
//!
//! Handlers of this kind form a list, the latest first, and one that is not yet due hides those
//! behind it. C code that pushes one on its stack and calls Python inside (none is known; today's C
//! compilers make handlers of another kind, or landing pads, of `pthread_cleanup_push`) would
//! have its own frames unwound first. On a libc that runs no such handlers, or too late, a thread
//! that ends is unwound as before: the test of this module fails there.

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;

#[cfg(not(Py_3_14))]
pub(crate) use before_3_14::guard;

unsafe extern "C" {
    #[cfg_attr(Py_3_13, link_name = "Py_IsFinalizing")]
    fn _Py_IsFinalizing() -> c_int;
}

/// Whether the interpreter goes down, or is down: a thread that is not attached must not attach.
pub(crate) fn has_begun() -> bool {
    // SAFETY: both may be called at any time, in any thread.
    unsafe { ffi::Py_IsInitialized() == 0 || _Py_IsFinalizing() != 0 }
}

/// Whether this thread holds the GIL. `PyGILState_Check` says so of every thread once the process
/// has had a sub-interpreter.
fn is_attached() -> bool {
    // SAFETY: may be called at any time, in any thread; the results are only compared.
    unsafe {
        let own = ffi::PyGILState_GetThisThreadState();
        !own.is_null() && own == ffi::compat::PyThreadState_GetUnchecked()
    }
}

/// [`Python::try_attach`] for threads that nothing else guards, such as tokio's; None once the
/// interpreter goes down.
///
/// CPython leaves those threads hanging that have a thread state when it stops the world to go down.
/// One that asks for its first at that moment gets it afterwards, and the GIL as soon as the main
/// thread releases it: at the latest when nothing is left that the GIL protects. Hence the second
/// check; such a thread releases the GIL, for which the main thread may wait, and hangs.
pub(crate) fn try_attach<R>(body: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    guard();
    if is_attached() {
        // Perhaps the thread that takes the interpreter down, which may run Python code.
        return Python::try_attach(body);
    }
    if has_begun() {
        return None;
    }
    Python::try_attach(|py| {
        if has_begun() {
            py.detach(|| park());
        }
        body(py)
    })
}

/// [`try_attach`] for callers that cannot go on without it: once the interpreter goes down the thread hangs.
pub(crate) fn attach<R>(body: impl FnOnce(Python<'_>) -> R) -> R {
    try_attach(body).unwrap_or_else(|| park())
}

fn park() -> ! {
    loop {
        // SAFETY: a signal ends the wait, and the next one begins.
        unsafe { libc::pause() };
    }
}

/// CPython itself leaves threads hanging.
#[cfg(Py_3_14)]
#[inline(always)]
pub(crate) fn guard() {}

#[cfg(not(Py_3_14))]
mod before_3_14 {
    use std::cell::{Cell, UnsafeCell};
    use std::ffi::{c_int, c_void};
    use std::ptr::null_mut;
    use std::sync::Once;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// From now on this thread parks when CPython ends it.
    #[inline]
    pub(crate) fn guard() {
        // SAFETY: has no preconditions.
        if LAST.load(Ordering::Relaxed) != unsafe { libc::pthread_self() } as usize {
            register(park_if_finalizing);
        }
    }

    /// The thread that was guarded last, as `pthread_self` has it: a comparison costs a third
    /// of a thread-local value's cost in a shared library, and threads change seldom. A thread only
    /// ever finds its own number if it put it there, because the number goes before the thread does:
    /// with the thread's handler, or with the fork that leaves the thread behind.
    static LAST: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        /// Taken back when the thread ends in another way.
        static HANDLER: Cell<Option<Handler>> = const { Cell::new(None) };
    }

    extern "C" fn forget_last() {
        LAST.store(0, Ordering::Relaxed);
    }

    type Routine = unsafe extern "C" fn(*mut c_void);

    /// glibc's `struct _pthread_cleanup_buffer`.
    #[cfg(not(target_env = "musl"))]
    #[repr(C)]
    struct Buffer {
        routine: Option<Routine>,
        arg: *mut c_void,
        cancel_type: c_int,
        previous: *mut Node,
    }

    /// musl's `struct __ptcb`.
    #[cfg(target_env = "musl")]
    #[repr(C)]
    struct Buffer {
        routine: Option<Routine>,
        arg: *mut c_void,
        previous: *mut Node,
    }

    /// A buffer that libc and this module both write to.
    #[repr(transparent)]
    struct Node(UnsafeCell<Buffer>);

    impl Node {
        const fn new() -> Self {
            Self(UnsafeCell::new(Buffer {
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
    struct Handler(*mut Node);

    impl Handler {
        fn push(routine: Routine) -> Self {
            let node = Box::into_raw(Box::new(Node::new()));
            // SAFETY: the buffer stays where it is until `drop` has taken it out of the list.
            unsafe { _pthread_cleanup_push(node, routine, null_mut()) };
            Self(node)
        }
    }

    impl Drop for Handler {
        /// Takes the handler out of the middle of the list: others (another copy of this crate)
        /// may have pushed theirs since. To push one is the only way to see the list.
        fn drop(&mut self) {
            // SAFETY: has no preconditions.
            let this_thread = unsafe { libc::pthread_self() } as usize;
            let _ = LAST.compare_exchange(this_thread, 0, Ordering::Relaxed, Ordering::Relaxed);
            let head = Node::new();
            // SAFETY: in the thread whose list it is. Each node of the list is live: ours until it
            // is freed here, out of the list; others by the same contract with libc.
            unsafe {
                let head = (&raw const head).cast_mut();
                _pthread_cleanup_push(head, park_if_finalizing, null_mut());
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

    #[cold]
    fn register(routine: Routine) {
        static WATCH_FORKS: Once = Once::new();
        // SAFETY: the handler only touches an atomic, which is safe after a fork.
        WATCH_FORKS.call_once(|| unsafe {
            libc::pthread_atfork(None, None, Some(forget_last));
        });
        // Not in a thread whose thread-local values have been dropped: it runs destructors of such
        // values, and nothing else of it is left to be unwound.
        let registered = HANDLER.try_with(|handler| {
            let known = handler.take();
            handler.set(known.or_else(|| Some(Handler::push(routine))));
        });
        if registered.is_ok() {
            // SAFETY: has no preconditions.
            LAST.store(unsafe { libc::pthread_self() } as usize, Ordering::Relaxed);
        }
    }

    unsafe extern "C" fn park_if_finalizing(_: *mut c_void) {
        // SAFETY: may be asked at any time, in any thread.
        if unsafe { super::_Py_IsFinalizing() } != 0 {
            super::park();
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::atomic::AtomicBool;
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
            static TOLD: Cell<Option<mpsc::Sender<&'static str>>> = const { Cell::new(None) };
        }

        unsafe extern "C" fn told(_: *mut c_void) {
            if let Some(tell) = TOLD.take() {
                let _ = tell.send("parked");
            }
            super::super::park();
        }

        unsafe extern "C-unwind" {
            fn pthread_exit(value: *mut c_void) -> !;
        }

        /// The module relies on this: if it fails, this libc does it another way.
        #[test]
        fn libc_runs_the_handler_before_it_unwinds_a_frame() {
            let (tell, hear) = mpsc::channel();
            std::thread::spawn(move || {
                TOLD.set(Some(tell.clone()));
                register(told);
                let _frame = Frame(tell);
                // SAFETY: never returns: the handler parks the thread.
                unsafe { pthread_exit(null_mut()) };
            });
            let heard = hear.recv_timeout(Duration::from_secs(60));
            assert_eq!(heard, Ok("parked"));
            assert!(!UNWOUND.load(Ordering::SeqCst));
        }

        /// The first handler of this thread's list.
        fn first() -> *mut Node {
            let probe = Node::new();
            // SAFETY: in the list for these two calls only.
            unsafe {
                let probe = (&raw const probe).cast_mut();
                _pthread_cleanup_push(probe, park_if_finalizing, null_mut());
                _pthread_cleanup_pop(probe, 0);
                (*(*probe).0.get()).previous
            }
        }

        #[test]
        fn handlers_leave_the_list_in_any_order() {
            let before = first();
            let [a, b, c] = [(); 3].map(|()| Handler::push(park_if_finalizing));
            let latest = c.0;
            drop(b);
            assert_eq!(first(), latest);
            drop(c);
            assert_eq!(first(), a.0);
            drop(a);
            assert_eq!(first(), before);
        }

        #[test]
        fn a_thread_is_registered_once_and_ends_clean() {
            let ended = std::thread::spawn(|| {
                register(park_if_finalizing);
                let registered = first();
                assert!(!registered.is_null());
                register(park_if_finalizing);
                assert_eq!(first(), registered);
            });
            assert!(ended.join().is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Calls that guard the thread, themselves or as their first step.
    const GUARDS: [&str; 9] = [
        "enter(",
        "entered(",
        "destroy(",
        "trashcan::dealloc(",
        "finalizing::guard(",
        "step::<T>(",
        "T::dealloc(",
        "Self::watch(",
        "Self::unwatch(",
    ];

    /// Functions that run no Python code, and those that only guarded code calls.
    const UNGUARDED: [&str; 32] = [
        // For the garbage collector, which must not be disturbed.
        "traverse",
        "__traverse__",
        // They return what a field holds.
        "__aiter__",
        "__getbuffer__",
        "get_blocking",
        "get_closed",
        "get_debug_flag",
        "get_dict",
        "get_origin",
        "get_stopping",
        "get_thread_id",
        "itself",
        "looks_numeric",
        "time",
        // They store a number, or nothing.
        "_write_to_self",
        "set_closed",
        "set_ready",
        "set_scheduled",
        "set_stopping",
        "set_thread_id",
        // For libc.
        "after",
        "before",
        "in_child",
        "forget_last",
        "park_if_finalizing",
        "told",
        // The table through which the bridge uses a loop.
        "begin",
        "drop_target",
        "finish",
        "keep",
        "wake",
        "wakers",
    ];

    /// The table's functions that get a loop.
    const FOREIGN: [&str; 3] = ["new_target", "park", "release"];

    fn sources(folder: &Path, into: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("the sources are here") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|it| it == "rs") {
                into.push(fs::read_to_string(&path).expect("readable"));
            }
        }
    }

    /// The name of the function that a line begins, and whether it is C's.
    fn function(line: &str) -> Option<(&str, bool)> {
        let line = line.trim_start();
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let line = line.strip_prefix("unsafe ").unwrap_or(line);
        let (line, of_c) = match line.strip_prefix("extern \"C\" ") {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        let name = line.strip_prefix("fn ")?.split(|c: char| !c.is_alphanumeric() && c != '_');
        name.into_iter().next().filter(|name| !name.is_empty()).map(|name| (name, of_c))
    }

    #[test]
    fn all_that_python_calls_guards_its_thread() {
        let mut files = Vec::new();
        sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut files);
        let mut seen = 0;
        for file in files {
            let (mut methods, mut exported) = (false, false);
            let lines: Vec<_> = file.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                methods = (methods || *line == "#[pymethods]") && *line != "}";
                exported = exported || *line == "#[pyfunction]";
                let Some((name, of_c)) = function(line) else { continue };
                let depth = line.len() - line.trim_start().len();
                let called = of_c || exported || (methods && depth == 4);
                exported = false;
                if !called || UNGUARDED.contains(&name) || FOREIGN.contains(&name) {
                    continue;
                }
                seen += 1;
                let end = format!("{}}}", &line[..depth]);
                let body = lines[at..].iter().take_while(|it| **it != end);
                let guarded = body.flat_map(|line| GUARDS.iter().filter(|it| line.contains(**it)));
                assert!(guarded.count() > 0, "{name} must call `finalizing::guard()` first");
            }
        }
        assert!(seen > 60, "the sources are read in another way than they are written");
    }
}
