//! Forks: how many there were, and a lock that no fork catches locked.
//!
//! A forked child has one thread. A lock that another thread of the parent held at that moment
//! stays locked in the child for ever, and the value that it guards may be half written. So a
//! thread that locks a [`Mutex`] of this module first takes a pass, and a fork waits (in a hook, see
//! [`at_fork`]) until all passes are given back, and lets no thread take one until it is done.
//!
//! A thread that forks may hold the GIL, so no thread may wait for the GIL, nor fork, while it has
//! such a lock: while it is held only code of this crate and of tokio's wakers runs.

#[cfg(loom)]
use loom::sync::{Mutex as Inner, MutexGuard};
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{Mutex as Inner, MutexGuard};

pub use gate::count;
use gate::{Pass, pass};

#[cfg(not(loom))]
pub use hooks::{Hook, at_fork};

/// A lock that no forked child finds locked.
#[derive(Default)]
pub struct Mutex<T>(Inner<T>);

impl<T> Mutex<T> {
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    /// Poison is ignored: the values in these locks are whole wherever the code around them panics.
    pub fn lock(&self) -> Guard<'_, T> {
        let pass = pass();
        Guard { guard: self.0.lock().unwrap_or_else(PoisonError::into_inner), _pass: pass }
    }

    #[cfg(not(loom))]
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A locked `Mutex`. The fields are dropped in their order: the pass is the last to be given back.
pub struct Guard<'a, T> {
    guard: MutexGuard<'a, T>,
    _pass: Pass,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

#[cfg(not(loom))]
mod hooks {
    /// A function that libc calls around a fork.
    pub type Hook = extern "C" fn();

    /// Has libc call these functions around each fork. If it has no memory to note the functions they are not called.
    ///
    /// # Safety
    /// The functions must be fit to run around a fork: take no lock and allocate nothing, and panic
    /// never.
    #[cfg(unix)]
    pub unsafe fn at_fork(before: Option<Hook>, after: Option<Hook>, in_child: Option<Hook>) {
        let raw = |hook: Option<Hook>| hook.map(|hook| hook as unsafe extern "C" fn());
        // SAFETY: functions without arguments, which are there for as long as the code is; the rest is
        // the caller's promise.
        unsafe { libc::pthread_atfork(raw(before), raw(after), raw(in_child)) };
    }

    /// Nothing forks here.
    ///
    /// # Safety
    /// None is needed.
    #[cfg(not(unix))]
    pub unsafe fn at_fork(_: Option<Hook>, _: Option<Hook>, _: Option<Hook>) {}
}

#[cfg(not(loom))]
mod gate {
    use std::sync::Once;
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
    use std::thread;

    use super::at_fork;

    /// How many forks lie between this process and the one that first called `watch`.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    /// Passes that were taken and not given back.
    static PASSES: AtomicUsize = AtomicUsize::new(0);
    /// Threads that are forking.
    static FORKING: AtomicUsize = AtomicUsize::new(0);

    fn watch() {
        static WATCH: Once = Once::new();
        // SAFETY: the functions only touch atomics.
        WATCH.call_once(|| unsafe { at_fork(Some(before), Some(after), Some(in_child)) });
    }

    // The orderings in `before`, `after`, `in_child` and `pass`: a thread that takes a pass and one
    // that forks each write and then read what the other one writes. All of it is sequentially
    // consistent, so one of them sees the other.

    extern "C" fn before() {
        FORKING.fetch_add(1, Ordering::SeqCst);
        while PASSES.load(Ordering::SeqCst) != 0 {
            thread::yield_now();
        }
    }

    extern "C" fn after() {
        FORKING.fetch_sub(1, Ordering::SeqCst);
    }

    extern "C" fn in_child() {
        // No thread had a pass, and other threads that were forking are not in this process.
        FORKING.store(0, Ordering::SeqCst);
        COUNT.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes with each fork: a value that was kept differs in a forked child.
    pub fn count() -> u32 {
        watch();
        COUNT.load(Ordering::Relaxed)
    }

    /// The right to hold locks. Given back when it is dropped.
    pub(super) struct Pass;

    pub(super) fn pass() -> Pass {
        watch();
        loop {
            PASSES.fetch_add(1, Ordering::SeqCst);
            if FORKING.load(Ordering::SeqCst) == 0 {
                return Pass;
            }
            PASSES.fetch_sub(1, Ordering::SeqCst);
            thread::yield_now();
        }
    }

    impl Drop for Pass {
        fn drop(&mut self) {
            PASSES.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// The models do not fork.
#[cfg(loom)]
mod gate {
    pub fn count() -> u32 {
        0
    }

    pub(super) struct Pass;

    pub(super) fn pass() -> Pass {
        Pass
    }
}
