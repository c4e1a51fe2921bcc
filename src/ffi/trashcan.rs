//! CPython's trashcan for hand-made objects: destructors nest, but never too deep.
//!
//! An object that can hold one of its kind can be the first of a chain of any length. When it is
//! freed all of them are, each from inside the destructor of the one before, and too long a chain
//! overflows the C stack. CPython protects its own containers with the "trashcan": macros over
//! private fields that changed with nearly each version. Since 3.14 `Py_DECREF` itself does it for
//! every type with the garbage collector's flag. Before, every `tp_dealloc` of ours goes through
//! [`dealloc`], whatever lies between one of our objects and the next (lists, partials, tasks).
//!
//! An object deposited in the trashcan is dead and untracked: no code can reach it, and weak
//! references to it give `None`. The word in front of it that linked it to others while it was
//! tracked links it to the next one deposited, so nothing is allocated. Each thread has a trashcan of
//! its own, which is empty again before the outermost destructor of that thread returns.

use pyo3::ffi;
pub(crate) use tokioloop_bridge::python::nested_drops::{NestedDrops, drop_nested};

use crate::ffi::object::Object;

/// Defines `NativeClass::dealloc` for objects that may be the first of a chain.
macro_rules! through_trashcan {
    () => {
        #[inline]
        unsafe fn dealloc(this: *mut Self) {
            // SAFETY: the caller's promise; a class of this kind has the collector's flag and no
            // subclasses.
            unsafe {
                $crate::ffi::trashcan::dealloc(this.cast(), $crate::ffi::class::free::<Self>);
            }
        }
    };
}
pub(crate) use through_trashcan;

/// Deallocates a dead object now or, if this thread is deep inside of such calls, before the outermost
/// of them returns.
///
/// # Safety
/// Called by the object's `tp_dealloc`, with the GIL held, as the last thing it does. The type has
/// the collector's flag and no subclasses, and `free` frees the object: weak references, fields,
/// memory, and the reference to the type. Before CPython 3.14 the `tp_dealloc` of an object that was
/// deposited is called a second time, and must come here again.
#[cfg(Py_3_14)]
#[inline]
pub(crate) unsafe fn dealloc(dead: Object, free: unsafe fn(Object)) {
    // SAFETY: the caller's promise. Untracking has no effect on an object that is not tracked.
    unsafe {
        ffi::PyObject_GC_UnTrack(dead.cast());
        free(dead);
    }
}

#[cfg(not(Py_3_14))]
pub(crate) use before_3_14::dealloc;

#[cfg(not(Py_3_14))]
mod before_3_14 {
    use std::cell::Cell;
    use std::ptr::null_mut;

    use super::*;
    use crate::ffi::finalizing;

    /// The depth of CPython's own containers. Containers between two of our objects count on their
    /// own.
    const DEEPEST: usize = 50;

    /// A thread's destructors that have not returned, and the objects that they deposited.
    struct Trashcan {
        depth: Cell<usize>,
        deposited: Cell<Object>,
    }

    thread_local! {
        static TRASHCAN: Trashcan =
            const { Trashcan { depth: Cell::new(0), deposited: Cell::new(null_mut()) } };
    }

    /// The word of the collector's header that links a deposited object to the next. The header is
    /// two words; the first of them is null in an untracked object, and has to be again.
    ///
    /// # Safety
    /// `dead` must be an object with a collector's header.
    unsafe fn link(dead: Object) -> *mut Object {
        // SAFETY: the header lies in front of the object, in every version before 3.14.
        unsafe { dead.cast::<Object>().sub(2) }
    }

    /// Deallocates a dead object now or, if this thread is deep inside of such calls, before the
    /// outermost of them returns.
    ///
    /// # Safety
    /// Called by the object's `tp_dealloc`, with the GIL held, as the last thing it does. The type
    /// has the collector's flag and no subclasses, and `free` frees the object: weak references,
    /// fields, memory, and the reference to the type. The `tp_dealloc` of an object that was
    /// deposited is called a second time, and must come here again.
    #[inline]
    pub(crate) unsafe fn dealloc(dead: Object, free: unsafe fn(Object)) {
        // The references that it drops may run Python code, in a thread that was never in the core.
        finalizing::guard();
        // SAFETY: the caller's promise. Untracking has no effect on an object that is not tracked.
        unsafe { ffi::PyObject_GC_UnTrack(dead.cast()) };
        TRASHCAN.with(|trashcan| {
            let depth = trashcan.depth.get();
            if depth == DEEPEST {
                // SAFETY: untracked, so the word is free, and dead, so no other code touches it.
                unsafe { *link(dead) = trashcan.deposited.replace(dead) };
                return;
            }
            trashcan.depth.set(depth + 1);
            // SAFETY: the caller's promise.
            unsafe { free(dead) };
            if depth == 0 {
                destroy_chain(trashcan);
            }
            trashcan.depth.set(depth);
        });
    }

    /// Frees the deposited objects, and those deposited meanwhile. Never recursive: the depth is 1.
    fn destroy_chain(trashcan: &Trashcan) {
        loop {
            let dead = trashcan.deposited.get();
            if dead.is_null() {
                return;
            }
            // SAFETY: a deposited object is dead, ours, and linked by `dealloc`; its header becomes
            // that of an untracked object again. Its `tp_dealloc` deposited it, as its last step.
            unsafe {
                trashcan.deposited.set(std::mem::replace(&mut *link(dead), null_mut()));
                if let Some(dealloc) = (*ffi::Py_TYPE(dead)).tp_dealloc {
                    dealloc(dead);
                }
            }
        }
    }
}
