//! How hand-made objects are freed: one inside the other, but never too deep.
//!
//! An object that can hold one of its kind can be the first of a chain of any length, and when it
//! is freed all of them are, each from inside the destructor of the one before: too long a chain
//! overflows the C stack. CPython keeps its own containers from that ("trashcan") with macros over
//! private fields that changed with nearly each version. Since 3.14 `Py_DECREF` itself does it for
//! every type with the garbage collector's flag. Before, every `tp_dealloc` of ours goes through
//! [`dismantle`], whatever lies between one of our objects and the next (lists, partials, tasks).
//!
//! An object that waits to be taken apart is dead and untracked: nobody can reach it, and weak
//! references to it give `None`. Its place in the list is the word in front of it that linked it to
//! others while it was tracked, so that nothing is allocated. Each thread has a list of its own,
//! which is empty again before the outermost destructor of that thread returns.

use std::cell::RefCell;
use std::thread::LocalKey;

use pyo3::ffi;

use crate::ffi::object::Object;

/// Values of a thread that wait while one of their kind is being dropped, in which they were: for
/// objects whose class is PyO3's, which free themselves.
pub(crate) struct Turns<T>(RefCell<Option<Vec<T>>>);

impl<T> Turns<T> {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Has `value` wait if another one is being dropped; else it comes back, to be dropped.
    fn wait(&self, value: T) -> Option<T> {
        let mut turns = self.0.borrow_mut();
        let Some(waiting) = &mut *turns else { return Some(value) };
        // Without memory for the list it is dropped inside of the other one.
        if waiting.try_reserve(1).is_err() {
            return Some(value);
        }
        waiting.push(value);
        None
    }

    /// Whether this is the outermost drop, which the others then wait for.
    fn begin(&self) -> bool {
        let mut turns = self.0.borrow_mut();
        let outermost = turns.is_none();
        turns.get_or_insert_default();
        outermost
    }

    fn next(&self) -> Option<T> {
        self.0.borrow_mut().as_mut()?.pop()
    }
}

/// Drops a value, or puts it off while another one is being dropped: the value may own what owns
/// another one, and that too, and dropped one inside the other a long chain overflows the stack.
pub(crate) fn drop_in_turn<T>(turns: &'static LocalKey<Turns<T>>, value: T) {
    /// The end of the outermost drop, also where a destructor panics.
    struct End<T: 'static>(&'static LocalKey<Turns<T>>);

    impl<T> Drop for End<T> {
        fn drop(&mut self) {
            let left = self.0.with(|turns| turns.0.borrow_mut().take());
            drop(left);
        }
    }

    // In a thread that ends, and has dropped the list already, it is dropped here and now.
    let mut value = Some(value);
    let _ = turns.try_with(|turns| value = value.take().and_then(|value| turns.wait(value)));
    let Some(value) = value else { return };
    let outermost = turns.try_with(Turns::begin) == Ok(true);
    let _end = outermost.then(|| End(turns));
    drop(value);
    while outermost && let Some(value) = turns.with(Turns::next) {
        drop(value);
    }
}

/// Takes a dead object apart, now or, if this thread is deep inside of such calls, soon.
///
/// # Safety
/// Called by the object's `tp_dealloc`, with the GIL held, as the last thing it does. The type has
/// the collector's flag and no subclasses, and `take_apart` frees the object: weak references,
/// fields, memory, and the reference to the type. Before a `dismantle` that waits calls the
/// `tp_dealloc` again, which must come here again.
#[cfg(Py_3_14)]
#[inline]
pub(crate) unsafe fn dismantle(dead: Object, take_apart: unsafe fn(Object)) {
    // SAFETY: the caller's promise. To untrack is harmless for one that is not tracked.
    unsafe {
        ffi::PyObject_GC_UnTrack(dead.cast());
        take_apart(dead);
    }
}

#[cfg(not(Py_3_14))]
pub(crate) use before_3_14::dismantle;

#[cfg(not(Py_3_14))]
mod before_3_14 {
    use std::cell::Cell;
    use std::ptr::null_mut;

    use super::*;
    use crate::ffi::finalizing;

    /// As deep as CPython's own containers go. What lies between two of ours counts on its own.
    const DEEPEST: usize = 50;

    /// A thread's destructors that have not returned, and what waits for the outermost of them.
    struct Nested {
        depth: Cell<usize>,
        waiting: Cell<Object>,
    }

    thread_local! {
        static NESTED: Nested =
            const { Nested { depth: Cell::new(0), waiting: Cell::new(null_mut()) } };
    }

    /// The word of the collector's header that links a waiting object to the next. The header is
    /// two words; the first of them is null in an untracked object, and has to be again.
    ///
    /// # Safety
    /// `dead` must be an object with a collector's header.
    unsafe fn link(dead: Object) -> *mut Object {
        // SAFETY: the header lies in front of the object, in every version before 3.14.
        unsafe { dead.cast::<Object>().sub(2) }
    }

    /// Takes a dead object apart, now or, if this thread is deep inside of such calls, soon.
    ///
    /// # Safety
    /// Called by the object's `tp_dealloc`, with the GIL held, as the last thing it does. The type
    /// has the collector's flag and no subclasses, and `take_apart` frees the object: weak
    /// references, fields, memory, and the reference to the type. One that had to wait has its
    /// `tp_dealloc` called again, which must come here again.
    #[inline]
    pub(crate) unsafe fn dismantle(dead: Object, take_apart: unsafe fn(Object)) {
        // What it lets go of may run Python code, in a thread that was never in the core.
        finalizing::guard();
        // SAFETY: the caller's promise. To untrack is harmless for one that is not tracked.
        unsafe { ffi::PyObject_GC_UnTrack(dead.cast()) };
        NESTED.with(|nested| {
            let depth = nested.depth.get();
            if depth == DEEPEST {
                // SAFETY: untracked, so the word is free, and dead, so nobody else touches it.
                unsafe { *link(dead) = nested.waiting.replace(dead) };
                return;
            }
            nested.depth.set(depth + 1);
            // SAFETY: the caller's promise.
            unsafe { take_apart(dead) };
            if depth == 0 {
                drain(nested);
            }
            nested.depth.set(depth);
        });
    }

    /// Frees what waits, and what is put off while that goes on. Never recursive: the depth is 1.
    fn drain(nested: &Nested) {
        loop {
            let dead = nested.waiting.get();
            if dead.is_null() {
                return;
            }
            // SAFETY: what waits is dead, ours, and linked by `dismantle`; its header becomes that
            // of an untracked object again. Its `tp_dealloc` was on its way once.
            unsafe {
                nested.waiting.set(std::mem::replace(&mut *link(dead), null_mut()));
                if let Some(dealloc) = (*ffi::Py_TYPE(dead)).tp_dealloc {
                    dealloc(dead);
                }
            }
        }
    }
}
