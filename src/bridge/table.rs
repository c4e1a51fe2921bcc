//! The functions that a loop offers to Rust code, also to code that was compiled apart from it.
//!
//! Two extension modules share no Rust types, not even when both were built from this crate. What
//! they share is this table: C functions in a C layout, found in a capsule on the loop's class. A
//! loop of this very crate is used through the same functions, without the capsule.
//!
//! # The contract
//!
//! - A handle that is passed in is a target that the same table's `new_target` made, and the caller has
//!   a reference to it for the call: its own, or a waker's. `drop` gives that up.
//! - A loop that is passed in is a live object, the one that the target was made on. Only `new_target`
//!   and `runs_here` ask for its class: attributes can be copied, so any class may have the table.
//! - The functions marked `GIL` are called with it held. The others may be called without, in any
//!   thread: they take no lock that a thread holds while it waits for the GIL.
//! - None of them unwinds: the caller may have been compiled by another rustc.
//! - The object between `park` and `release` is borrowed. The caller keeps it alive, and releases it
//!   before it goes; a loop of tokioloop that closes calls it once, having let go of it.
//! - The table is a static of an extension module, and modules are never unloaded.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr::null;
use std::sync::Arc;

use pyo3::exceptions::{PyImportError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::event_loop::NativeLoop;
use crate::event_loop::targets::{TableAddress, Target};
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::enter;

/// Raised with each change of `Table` or of what its functions promise.
pub(crate) const ABI: u32 = 1;

/// The class attribute that holds the capsule.
pub(crate) const ATTRIBUTE: &str = "_bridge";
const CAPSULE: &CStr = c"tokioloop.bridge";
const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no null byte"),
    };

/// A target, seen from outside: all that is known is that its table comes first.
#[repr(C)]
pub(crate) struct Handle {
    pub table: &'static Table,
}

/// What a loop offers. The first three fields are the same in every version.
///
/// `GIL`: to be called with it held. Others may be called from any thread, at any time.
#[repr(C)]
pub(crate) struct Table {
    pub abi: u32,
    pub size: u32,
    pub version: *const c_char,
    /// GIL. A target on this loop, with one reference; null with an exception set.
    pub new_target: unsafe extern "C" fn(event_loop: Object) -> *const Handle,
    /// One more reference.
    pub keep: unsafe extern "C" fn(*const Handle),
    /// One reference less.
    pub drop: unsafe extern "C" fn(*const Handle),
    /// Has the loop call the parked object, without arguments, unless a poll is on or due.
    pub wake: unsafe extern "C" fn(*const Handle),
    /// A poll begins.
    pub begin: unsafe extern "C" fn(*const Handle),
    /// A poll ended. Not 0: woken meanwhile, and the next poll is the caller's to see to.
    pub finish: unsafe extern "C" fn(*const Handle) -> c_int,
    /// GIL. The object that wakes call; borrowed until `release`. Called with the loop as its
    /// argument when the loop closes, which releases it, too.
    pub park: unsafe extern "C" fn(event_loop: Object, *const Handle, object: Object),
    /// GIL. Wakes call nobody from now on.
    pub release: unsafe extern "C" fn(event_loop: Object, *const Handle),
    /// How many references others have, besides the owner's and the loop's own.
    pub wakers: unsafe extern "C" fn(*const Handle) -> usize,
    /// GIL. Whether this thread runs the loop.
    pub runs_here: unsafe extern "C" fn(event_loop: Object) -> c_int,
}

// SAFETY: written once, at compile time; what it points to is static.
unsafe impl Sync for Table {}
// SAFETY: function pointers, numbers and the address of a static text: nothing belongs to a thread.
unsafe impl Send for Table {}

impl Table {
    pub(crate) const fn address(&'static self) -> TableAddress {
        TableAddress(std::ptr::from_ref(self).cast::<c_void>())
    }

    /// The functions on targets, which are the same whoever carries them to their loop.
    pub(crate) const fn with(
        new_target: unsafe extern "C" fn(Object) -> *const Handle,
        park: unsafe extern "C" fn(Object, *const Handle, Object),
        release: unsafe extern "C" fn(Object, *const Handle),
        runs_here: unsafe extern "C" fn(Object) -> c_int,
    ) -> Self {
        Self {
            abi: ABI,
            size: size_of::<Self>() as u32,
            version: VERSION.as_ptr(),
            new_target,
            keep,
            drop: drop_target,
            wake,
            begin,
            finish,
            park,
            release,
            wakers,
            runs_here,
        }
    }
}

/// The table of this crate's own loops.
pub(crate) static OWN: Table = Table::with(new_target, park, release, runs_here);

/// A reference to a target, given away.
pub(crate) fn into_handle(target: Arc<Target>) -> *const Handle {
    // The table's address comes first in both.
    Arc::into_raw(target).cast()
}

/// Borrows the target behind a handle.
///
/// # Safety
/// `handle` must come from `into_handle` of this crate, and its reference must outlive the use.
pub(crate) unsafe fn borrow(handle: *const Handle) -> ManuallyDrop<Arc<Target>> {
    // SAFETY: the caller's promise; the reference is not given up, for it is not ours.
    ManuallyDrop::new(unsafe { Arc::from_raw(handle.cast::<Target>()) })
}

unsafe extern "C" fn new_target(event_loop: Object) -> *const Handle {
    // SAFETY: whoever calls through the table holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null(), |py| {
        // SAFETY: the caller lends a live object.
        let Some(event_loop) = (unsafe { own(py, event_loop) }) else {
            return Err(PyTypeError::new_err("the running loop is no loop of tokioloop's"));
        };
        event_loop.new_target(py, OWN.address()).map(into_handle)
    })
}

/// The loop behind an object whose class has this table. A class may have it without being one of
/// ours: attributes can be copied. Who got a target was asked; the other functions need not.
///
/// # Safety
/// `event_loop` must be a live object that outlives `'a`.
unsafe fn own<'a>(py: Python<'_>, event_loop: Object) -> Option<&'a NativeLoop> {
    // SAFETY: the caller's promise, and its type is asked for first.
    unsafe {
        let ours = Bound::from_borrowed_ptr(py, event_loop).is_instance_of::<NativeLoop>();
        ours.then(|| NativeLoop::of(event_loop))
    }
}

unsafe extern "C" fn keep(handle: *const Handle) {
    // SAFETY: the caller has a reference to a target that this crate made.
    unsafe { Arc::increment_strong_count(handle.cast::<Target>()) };
}

unsafe extern "C" fn drop_target(handle: *const Handle) {
    // SAFETY: the caller gives up a reference.
    drop(unsafe { Arc::from_raw(handle.cast::<Target>()) });
}

unsafe extern "C" fn wake(handle: *const Handle) {
    // SAFETY: the caller has a reference to a target that this crate made.
    unsafe { borrow(handle) }.wake();
}

unsafe extern "C" fn begin(handle: *const Handle) {
    // SAFETY: the caller has a reference to a target that this crate made.
    unsafe { borrow(handle) }.marks.begin();
}

unsafe extern "C" fn finish(handle: *const Handle) -> c_int {
    // SAFETY: the caller has a reference to a target that this crate made.
    unsafe { borrow(handle) }.marks.finish() as c_int
}

unsafe extern "C" fn park(event_loop: Object, handle: *const Handle, object: Object) {
    // SAFETY: whoever calls through the table holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, (), |py| {
        // SAFETY: the loop that `new_target` made the target on, so it is one of ours, and a target to
        // which the caller has a reference. The object stays until the caller's `release`.
        unsafe { NativeLoop::of(event_loop).park_target(py, &borrow(handle), object) };
        Ok(())
    });
}

unsafe extern "C" fn release(event_loop: Object, handle: *const Handle) {
    // SAFETY: whoever calls through the table holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, (), |py| {
        // SAFETY: the loop that `new_target` made the target on, and a target to which the caller has
        // a reference.
        unsafe { NativeLoop::of(event_loop).release_target(py, &borrow(handle)) };
        Ok(())
    });
}

unsafe extern "C" fn wakers(handle: *const Handle) -> usize {
    // SAFETY: the caller has a reference to a target that this crate made.
    let target = unsafe { borrow(handle) };
    // SAFETY: the collector asks, which holds the GIL.
    let listed = target.is_listed(unsafe { Python::assume_attached() });
    Arc::strong_count(&target) - 1 - usize::from(listed)
}

unsafe extern "C" fn runs_here(event_loop: Object) -> c_int {
    // SAFETY: whoever calls through the table holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, 0, |py| {
        // SAFETY: the caller lends a live object.
        let event_loop = unsafe { own(py, event_loop) };
        Ok(event_loop.is_some_and(|it| it.runs_in_this_thread(py)).into())
    })
}

/// Puts the capsule on the class of loops.
pub(crate) fn offer(py: Python<'_>) -> PyResult<()> {
    let table = std::ptr::from_ref(&OWN).cast_mut().cast::<c_void>();
    // SAFETY: a static, and a static name; a new reference or null with an exception set.
    let capsule = unsafe { object::owned(py, ffi::PyCapsule_New(table, CAPSULE.as_ptr(), None))? };
    py.get_type::<NativeLoop>().setattr(ATTRIBUTE, capsule)
}

/// The table in the capsule that a loop's class has; `None` if it has none.
pub(crate) fn offered(class: &Bound<'_, PyType>) -> PyResult<Option<&'static Table>> {
    let Some(capsule) = class.getattr_opt(ATTRIBUTE)? else { return Ok(None) };
    // SAFETY: any object; the answer says whether it is a capsule of this name.
    if unsafe { ffi::PyCapsule_IsValid(capsule.as_ptr(), CAPSULE.as_ptr()) } == 0 {
        return Ok(None);
    }
    // SAFETY: a capsule of this name holds a table that lives as long as the process: extension
    // modules are not unloaded. The first three fields are the same in every version.
    unsafe {
        let table = ffi::PyCapsule_GetPointer(capsule.as_ptr(), CAPSULE.as_ptr()).cast::<Table>();
        let abi = (&raw const (*table).abi).read();
        let size = (&raw const (*table).size).read() as usize;
        if abi == ABI && size >= size_of::<Table>() {
            return Ok(Some(&*table));
        }
        let theirs = CStr::from_ptr((&raw const (*table).version).read()).to_string_lossy();
        Err(PyImportError::new_err(format!(
            "the running event loop is of tokioloop {theirs} (bridge version {abi}), and this \
             extension was built with tokioloop {} (bridge version {ABI}): \
             install matching versions",
            env!("CARGO_PKG_VERSION"),
        )))
    }
}
