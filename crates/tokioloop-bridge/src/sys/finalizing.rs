//! What CPython can be asked without the GIL, and the guard of threads that it ends.
//!
//! The functions had other names before CPython 3.13, neither of them in the stable ABI of 3.10: they
//! are looked up once a process.

#[cfg(not(unix))]
pub(crate) use elsewhere::*;
#[cfg(unix)]
pub(crate) use unix::*;

#[cfg(unix)]
mod unix {
    use std::ffi::{CStr, c_int, c_void};
    use std::mem::transmute;
    use std::ptr::null_mut;
    use std::sync::atomic::{AtomicPtr, Ordering};

    use pyo3::ffi;

    type Question = unsafe extern "C" fn() -> c_int;
    type CurrentState = unsafe extern "C" fn() -> *mut ffi::PyThreadState;

    /// A function of CPython's, looked up when it is first wanted; null where there is none.
    fn find(known: &AtomicPtr<c_void>, names: [&CStr; 2]) -> *mut c_void {
        let found = known.load(Ordering::Relaxed);
        if !found.is_null() {
            return found;
        }
        // SAFETY: static names; the handle that stands for all that the process has loaded.
        let found = names.map(|name| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) });
        let found = found.into_iter().find(|it| !it.is_null()).unwrap_or(null_mut());
        known.store(found, Ordering::Relaxed);
        found
    }

    /// Whether the interpreter goes down.
    ///
    /// # Safety
    /// There must be an interpreter in the process; any thread may ask.
    pub(crate) unsafe fn is_finalizing() -> bool {
        static KNOWN: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
        let found = find(&KNOWN, [c"Py_IsFinalizing", c"_Py_IsFinalizing"]);
        // SAFETY: null, or CPython's function of that name: no arguments, an int.
        unsafe { transmute::<*mut c_void, Option<Question>>(found) }
            .is_some_and(|ask| unsafe { ask() } != 0)
    }

    /// Whether this thread is attached to the interpreter.
    ///
    /// # Safety
    /// As of `is_finalizing`.
    pub(crate) unsafe fn is_attached() -> bool {
        static KNOWN: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
        let found = find(&KNOWN, [c"PyThreadState_GetUnchecked", c"_PyThreadState_UncheckedGet"]);
        // SAFETY: null, or CPython's function of that name: no arguments, a state that is only compared.
        unsafe {
            let own = ffi::PyGILState_GetThisThreadState();
            let ask = transmute::<*mut c_void, Option<CurrentState>>(found);
            !own.is_null() && ask.is_none_or(|ask| ask() == own)
        }
    }

    #[cfg(not(target_os = "linux"))]
    #[inline(always)]
    pub(crate) fn guard() {}

    #[cfg(target_os = "linux")]
    pub(crate) use linux::guard;

    #[cfg(target_os = "linux")]
    mod linux {
        use std::cell::Cell;
        use std::ffi::{CStr, c_void};
        use std::sync::Once;
        use std::sync::atomic::{AtomicUsize, Ordering};

        use pyo3::ffi;

        use crate::sys::fork::at_fork;
        use crate::sys::thread_exit::ExitHandler;

        /// From now on this thread parks when CPython ends it.
        #[inline]
        pub(crate) fn guard() {
            let last = LAST.load(Ordering::Relaxed);
            // SAFETY: has no preconditions.
            if last != NOT_NEEDED && last != unsafe { libc::pthread_self() } as usize {
                register();
            }
        }

        /// The thread that was guarded last, as `pthread_self` has it: a comparison costs a third
        /// of a thread-local value's cost in a shared library, and threads change seldom. A thread only
        /// ever finds its own number if it put it there, because the number goes before the thread does:
        /// with the thread's handler, or with the fork that leaves the thread behind.
        static LAST: AtomicUsize = AtomicUsize::new(0);
        /// From CPython 3.14 on threads are left hanging by CPython itself. No thread has this number.
        const NOT_NEEDED: usize = usize::MAX;

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

        /// Whether CPython leaves threads hanging: 3.14 and later.
        fn hangs_threads() -> bool {
            // SAFETY: a static text, which may be asked for at any time.
            let version = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) }.to_string_lossy();
            let mut numbers = version.split(['.', ' ']).map(|it| it.parse::<u32>().unwrap_or(0));
            (numbers.next(), numbers.next()) >= (Some(3), Some(14))
        }

        #[cold]
        fn register() {
            if hangs_threads() {
                LAST.store(NOT_NEEDED, Ordering::Relaxed);
            } else {
                register_thread();
            }
        }

        fn register_thread() {
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
            // SAFETY: an interpreter that ends a thread is there.
            while unsafe { super::is_finalizing() } {
                // SAFETY: a signal ends the wait, and the next one begins.
                unsafe { libc::pause() };
            }
        }

        #[cfg(test)]
        mod tests {
            use super::*;
            use crate::sys::thread_exit::first;

            #[test]
            fn a_thread_is_registered_once_and_ends_clean() {
                let ended = std::thread::spawn(|| {
                    register_thread();
                    let registered = first();
                    assert!(registered.is_some());
                    register_thread();
                    assert_eq!(first(), registered);
                });
                assert!(ended.join().is_ok());
            }
        }
    }
}

/// Windows ends threads without unwinding them, and PyO3 asks CPython before it attaches.
#[cfg(not(unix))]
mod elsewhere {
    use pyo3::ffi;

    /// # Safety
    /// There must be an interpreter in the process; any thread may ask.
    pub(crate) unsafe fn is_finalizing() -> bool {
        false
    }

    /// # Safety
    /// As of `is_finalizing`.
    pub(crate) unsafe fn is_attached() -> bool {
        // SAFETY: may be called at any time, in any thread.
        unsafe { ffi::PyGILState_Check() != 0 }
    }

    #[inline(always)]
    pub(crate) fn guard() {}
}
