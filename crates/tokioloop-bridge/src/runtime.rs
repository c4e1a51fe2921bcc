//! The tokio runtime that Rust futures run on where no loop of tokioloop's brings one.
//!
//! # Forks
//!
//! A forked child has none of the runtime's threads, and a lock that another thread of the parent held
//! at the fork stays locked for ever. So the child must neither use the runtime nor take any lock of
//! its parent's. [`PerProcess`] gives each process a value of its own: the parent's is left behind in
//! the child, neither dropped (which would join threads that do not exist) nor looked at.

use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use tokio::runtime::{Builder, Runtime};

use crate::sys::fork;

/// A value that is made at first use, once in each process.
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<Slot<T>>);

struct Slot<T> {
    forks: u32,
    /// Its lock is of this process, as the slot is.
    value: OnceLock<T>,
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &'static T {
        self.slot().get_or_init(make)
    }

    /// This process's place for the value. A slot is never freed: there is one for each process on the
    /// way from the first one down to this one that ever asked.
    fn slot(&self) -> &'static OnceLock<T> {
        let forks = fork::count();
        let mut known = self.0.load(Ordering::Acquire);
        loop {
            // SAFETY: null, or a slot that was leaked below.
            if let Some(slot) = unsafe { known.as_ref() }
                && slot.forks == forks
            {
                return &slot.value;
            }
            let made = Box::into_raw(Box::new(Slot { forks, value: OnceLock::new() }));
            match self.0.compare_exchange(known, made, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: just leaked.
                Ok(_) => return unsafe { &(*made).value },
                Err(other) => {
                    known = other;
                    // SAFETY: made above, and not published.
                    drop(unsafe { Box::from_raw(made) });
                }
            }
        }
    }
}

static RUNTIME: PerProcess<&'static Runtime> = PerProcess::new();

/// What [`init`] was called with. Whoever takes the pointer out owns the builder, so no lock is
/// needed, which a fork could leave locked. A child that is forked in the very moment in which its parent
/// builds a runtime finds none, and uses the default.
static BUILDER: AtomicPtr<Builder> = AtomicPtr::new(null_mut());

fn take_builder() -> Option<Box<Builder>> {
    let taken = BUILDER.swap(null_mut(), Ordering::AcqRel);
    // SAFETY: a pointer in `BUILDER` comes from a box, and is taken out once.
    (!taken.is_null()).then(|| unsafe { Box::from_raw(taken) })
}

/// Puts a builder back for a forked child, unless [`init`] has been called meanwhile.
fn put_back(builder: Box<Builder>) {
    let builder = Box::into_raw(builder);
    if BUILDER.compare_exchange(null_mut(), builder, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        // SAFETY: made from a box above, and not published.
        drop(unsafe { Box::from_raw(builder) });
    }
}

fn build() -> &'static Runtime {
    let mut builder = take_builder().unwrap_or_else(|| {
        let mut builder = Builder::new_multi_thread();
        builder.enable_all();
        Box::new(builder)
    });
    let built = builder.build();
    put_back(builder);
    match built {
        Ok(runtime) => Box::leak(Box::new(runtime)),
        Err(error) => panic!("Unable to build Tokio runtime: {error}"),
    }
}

/// Sets how the runtime is built. Has no effect on a runtime that has been built already, but has on
/// the one of a forked child.
pub fn init(builder: Builder) {
    drop(take_builder());
    put_back(Box::new(builder));
}

/// Sets the runtime itself; `Err` if there is one already. A forked child, in which its threads are missing,
/// builds one of its own.
#[expect(clippy::result_unit_err, reason = "the signature of pyo3-async-runtimes")]
pub fn init_with_runtime(runtime: &'static Runtime) -> Result<(), ()> {
    RUNTIME.slot().set(runtime).map_err(drop)
}

/// The runtime that futures are spawned on. It is built at first use: multi-threaded, with all drivers
/// enabled, unless [`init`] says otherwise.
///
/// # Panics
/// If it cannot be built, mostly because the system has no more threads or descriptors.
pub fn get_runtime<'a>() -> &'a Runtime {
    RUNTIME.get_or_init(build)
}
