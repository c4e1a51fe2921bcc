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
//! [`guard`] registers one cleanup handler a thread with libc, when the thread first comes into the
//! core. The handler parks the thread for ever if the interpreter is
//! finalizing; otherwise (some other code ended the thread) it returns, and the thread ends as it
//! would have without it. So no call of Python code has to do anything, and none can forget
//! it: `trampoline::enter` and `trampoline::destroy` register the thread, and so does each method
//! that PyO3 writes the frame of (a test below goes through them).
//!
//! The handler runs before the first frame is unwound: see `driver::sys::thread_exit`.
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
    use std::cell::Cell;
    use std::ffi::c_void;
    use std::sync::Once;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::driver::sys::fork::at_fork;
    use crate::driver::sys::thread_exit::ExitHandler;

    /// From now on this thread parks when CPython ends it.
    #[inline]
    pub(crate) fn guard() {
        // SAFETY: has no preconditions.
        if LAST.load(Ordering::Relaxed) != unsafe { libc::pthread_self() } as usize {
            register();
        }
    }

    /// The thread that was guarded last, as `pthread_self` has it: a comparison costs a third
    /// of a thread-local value's cost in a shared library, and threads change seldom. A thread only
    /// ever finds its own number if it put it there, because the number goes before the thread does:
    /// with the thread's handler, or with the fork that leaves the thread behind.
    static LAST: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        /// Taken back when the thread ends in another way.
        static HANDLER: Cell<Option<ThreadGuard>> = const { Cell::new(None) };
    }

    extern "C" fn forget_last() {
        LAST.store(0, Ordering::Relaxed);
    }

    /// The handler of the thread that made it.
    struct ThreadGuard(#[expect(dead_code, reason = "dropped with it")] ExitHandler);

    impl Drop for ThreadGuard {
        fn drop(&mut self) {
            // SAFETY: has no preconditions.
            let this_thread = unsafe { libc::pthread_self() } as usize;
            let _ = LAST.compare_exchange(this_thread, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    #[cold]
    fn register() {
        static WATCH_FORKS: Once = Once::new();
        // SAFETY: the function only touches an atomic.
        WATCH_FORKS.call_once(|| unsafe { at_fork(None, None, Some(forget_last)) });
        // Not in a thread whose thread-local values have been dropped: it runs destructors of such
        // values, and nothing else of it is left to be unwound.
        let registered = HANDLER.try_with(|handler| {
            let known = handler.take();
            handler.set(known.or_else(|| {
                // SAFETY: it asks a question and waits; it goes with the thread's values.
                Some(ThreadGuard(unsafe { ExitHandler::push(park_if_finalizing) }))
            }));
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
        use super::*;
        use crate::driver::sys::thread_exit::first;

        #[test]
        fn a_thread_is_registered_once_and_ends_clean() {
            let ended = std::thread::spawn(|| {
                register();
                let registered = first();
                assert!(registered.is_some());
                register();
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
    const UNGUARDED: [&str; 33] = [
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
        "report_exit",
        "never_run",
        // The table through which the bridge uses a loop.
        "begin",
        "drop_target",
        "finish",
        "keep",
        "wake",
        "is_forgotten",
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
