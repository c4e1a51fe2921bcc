//! loom's models on real threads.
//!
//! loom runs a model in all orders of its threads' steps, by its own account of memory.
//! ThreadSanitizer and Miri judge the same sources and models by their machine code and by the
//! rules of the language. For them this crate takes loom's name, and runs each model many times
//! with real threads.
//!
//! The standard library comes without ThreadSanitizer's instrumentation, so `Mutex` and `Arc` in
//! here are made of nothing but atomics: ThreadSanitizer sees neither the order that the library's
//! futex makes nor the fence before an `Arc` frees its value.

#![cfg_attr(not(test), allow(dead_code, reason = "only the models use all of the sources"))]

extern crate self as loom;

#[path = "../../../../src/driver/events.rs"]
pub mod events;
#[path = "../../../../crates/tokioloop-bridge/src/sys/fork.rs"]
mod fork;
#[path = "../../../../crates/tokioloop-bridge/src/sys/inbox.rs"]
pub mod inbox;
#[path = "../../../../src/driver/mailbox.rs"]
pub mod mailbox;
#[path = "../../../../crates/tokioloop-bridge/src/sys/wake_state.rs"]
pub mod wake_state;

#[cfg(test)]
#[path = "../../src/models.rs"]
mod models;

pub use std::thread;

pub mod cell {
    pub use std::cell::Cell;
}

pub mod sync {
    pub use std::sync::atomic;

    use std::cell::UnsafeCell;
    use std::ops::{Deref, DerefMut};
    use std::ptr::NonNull;
    use std::sync::LockResult;

    use atomic::{AtomicBool, AtomicUsize, Ordering};

    /// An `Arc` without weak references.
    pub struct Arc<T>(NonNull<Shared<T>>);

    struct Shared<T> {
        owners: AtomicUsize,
        value: T,
    }

    // SAFETY: as for the standard library's: the value is shared, and dropped by any owner.
    unsafe impl<T: Send + Sync> Send for Arc<T> {}
    // SAFETY: as above.
    unsafe impl<T: Send + Sync> Sync for Arc<T> {}

    impl<T> Arc<T> {
        pub fn new(value: T) -> Self {
            let shared = Shared { owners: AtomicUsize::new(1), value };
            Self(NonNull::from(Box::leak(Box::new(shared))))
        }

        #[must_use]
        pub fn ptr_eq(this: &Self, other: &Self) -> bool {
            this.0 == other.0
        }

        #[must_use]
        pub fn strong_count(this: &Self) -> usize {
            this.shared().owners.load(Ordering::Acquire)
        }

        fn shared(&self) -> &Shared<T> {
            // SAFETY: allocated as long as there is an owner, and this is one.
            unsafe { self.0.as_ref() }
        }
    }

    impl<T> Clone for Arc<T> {
        fn clone(&self) -> Self {
            self.shared().owners.fetch_add(1, Ordering::Relaxed);
            Self(self.0)
        }
    }

    impl<T> Deref for Arc<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.shared().value
        }
    }

    impl<T> Drop for Arc<T> {
        fn drop(&mut self) {
            if self.shared().owners.fetch_sub(1, Ordering::AcqRel) == 1 {
                // SAFETY: this was the last owner, and saw all that the others did before they
                // went.
                drop(unsafe { Box::from_raw(self.0.as_ptr()) });
            }
        }
    }

    /// A lock that waits by trying again.
    #[derive(Default)]
    pub struct Mutex<T> {
        taken: AtomicBool,
        inside: UnsafeCell<T>,
    }

    // SAFETY: one thread at a time reaches the inside, which need not be `Sync` for that.
    unsafe impl<T: Send> Sync for Mutex<T> {}

    impl<T> Mutex<T> {
        pub fn new(inside: T) -> Self {
            Self { taken: AtomicBool::new(false), inside: UnsafeCell::new(inside) }
        }

        /// As `std::sync::Mutex::lock`, but never poisoned.
        #[expect(clippy::missing_errors_doc, reason = "there are none")]
        pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            while self.taken.swap(true, Ordering::Acquire) {
                std::thread::yield_now();
            }
            Ok(MutexGuard(self))
        }
    }

    pub struct MutexGuard<'a, T>(&'a Mutex<T>);

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            // SAFETY: the lock is held for as long as the guard lives.
            unsafe { &*self.0.inside.get() }
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: the lock is held for as long as the guard lives, which is borrowed mutably.
            unsafe { &mut *self.0.inside.get() }
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            self.0.taken.store(false, Ordering::Release);
        }
    }
}

pub mod model {
    /// How often a model runs, unless `MODEL_RUNS` is set.
    const RUNS: usize = if cfg!(miri) { 20 } else { 1000 };

    #[derive(Default)]
    pub struct Builder {
        /// loom's alone.
        pub preemption_bound: Option<usize>,
    }

    impl Builder {
        #[must_use]
        pub fn new() -> Self {
            Self::default()
        }

        pub fn check(&self, body: impl Fn()) {
            let runs = std::env::var("MODEL_RUNS").ok().and_then(|runs| runs.parse().ok());
            for _ in 0..runs.unwrap_or(RUNS) {
                body();
            }
        }
    }
}

pub mod future {
    use std::mem::forget;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    /// Polls once, and again whenever it is woken.
    pub fn block_on<F: Future>(future: F) -> F::Output {
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        if cfg!(not(miri)) {
            // A waker has to be the standard library's, whose last fence ThreadSanitizer does not
            // see.
            forget(Arc::clone(&woken));
        }
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            while !woken.0.swap(false, Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
    }
}
