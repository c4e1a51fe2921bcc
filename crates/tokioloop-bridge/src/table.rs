//! The functions that a loop offers to Rust code, also to code that was compiled apart from it.
//!
//! Two extension modules share no Rust types, not even when both were built from this crate. They
//! share this table: C functions in a C layout, found in a capsule on the loop's class. A loop in
//! the same extension is used through the same functions, without the capsule.
//!
//! # The contract
//!
//! - A target that is passed in was made by the `new_target` of the same table, and the caller has a
//!   reference to it for the call: its own, or a waker's. `drop` gives that up.
//! - A loop that is passed in is a live object, the one that the target was made on. Only `new_target`
//!   and `runs_here` check its class: attributes can be copied, so any class may have the table.
//! - The functions marked `GIL` are called with it held. The others may be called without, in any
//!   thread: they take no lock that a thread holds while it waits for the GIL.
//! - None of them unwinds: the caller may have been compiled by another rustc.
//! - A target has a reference to its parked object: from `park` until the loop takes the object to call
//!   it, or `unpark`, or `release`. The caller has a reference of its own until `release`, so that these
//!   drop no last one. A loop of tokioloop that closes takes the object, too, and calls it.
//! - The table is a static of an extension module, and modules are never unloaded.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::sync::Arc;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::python::object::Object;
use crate::python::trampoline::enter;
use crate::wake_target::{TableAddress, WakeTarget};

/// Raised with each change of [`BridgeApi`] or of what its functions promise.
const ABI: u32 = 3;

/// The class attribute that holds the capsule.
pub const ATTRIBUTE: &str = "_bridge";
pub const CAPSULE: &CStr = c"tokioloop.bridge";
const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no null byte"),
    };

/// A target, seen from outside: it starts with its table, and the rest is unknown.
#[repr(C)]
pub struct OpaqueTarget {
    pub api: &'static BridgeApi,
}

/// The functions that a loop offers. The first three fields are the same in every version.
///
/// `GIL`: to be called with it held. Others may be called from any thread, at any time.
#[repr(C)]
pub struct BridgeApi {
    pub abi: u32,
    pub size: u32,
    pub version: *const c_char,
    /// GIL. A target on this loop, with one reference; null with an exception set.
    pub new_target: unsafe extern "C" fn(event_loop: Object) -> *const OpaqueTarget,
    /// One more reference.
    pub keep: unsafe extern "C" fn(*const OpaqueTarget),
    /// One reference less.
    pub drop: unsafe extern "C" fn(*const OpaqueTarget),
    /// Has the loop call the parked object, without arguments, unless a poll runs or is due.
    pub wake: unsafe extern "C" fn(*const OpaqueTarget),
    /// A poll begins.
    pub begin: unsafe extern "C" fn(*const OpaqueTarget),
    /// A poll ended. Not 0 if it was woken meanwhile: then the caller must poll again.
    pub finish: unsafe extern "C" fn(*const OpaqueTarget) -> c_int,
    /// GIL. Sets the object that the next wake calls. It is called with the loop as its argument when
    /// the loop closes, which releases it, too.
    pub park: unsafe extern "C" fn(event_loop: Object, *const OpaqueTarget, object: Object),
    /// GIL. Wakes call no object until it is parked again.
    pub unpark: unsafe extern "C" fn(*const OpaqueTarget),
    /// GIL. As `unpark`, for ever: the target is about to be dropped.
    pub release: unsafe extern "C" fn(event_loop: Object, *const OpaqueTarget),
    /// GIL. Not 0 if an object is parked that nothing will wake any more. The collector may then count
    /// the target's reference as the object's own.
    pub is_forgotten: unsafe extern "C" fn(*const OpaqueTarget) -> c_int,
    /// GIL. Whether this thread runs the loop.
    pub runs_here: unsafe extern "C" fn(event_loop: Object) -> c_int,
    /// GIL. The loop that runs in this thread, whichever kind it is of, or `None`: a new reference, or null
    /// with an exception set. As `asyncio._get_running_loop()`, which is slow before CPython 3.12.
    pub running_loop: unsafe extern "C" fn() -> Object,
    /// GIL. Calls an object with one argument, in a context that is not entered. A new reference, or null
    /// with an exception set. The stable ABI has no function that enters a context.
    pub call_in: unsafe extern "C" fn(context: Object, function: Object, arg: Object) -> Object,
}

// SAFETY: written once, at compile time; all that it points to is static.
unsafe impl Sync for BridgeApi {}
// SAFETY: function pointers, numbers and the address of a static text: nothing belongs to a thread.
unsafe impl Send for BridgeApi {}

impl BridgeApi {
    pub const fn address(&'static self) -> TableAddress {
        TableAddress(std::ptr::from_ref(self).cast::<c_void>())
    }

    /// A table with the functions on targets, which are the same for all kinds of loops.
    pub const fn with(
        new_target: unsafe extern "C" fn(Object) -> *const OpaqueTarget,
        park: unsafe extern "C" fn(Object, *const OpaqueTarget, Object),
        release: unsafe extern "C" fn(Object, *const OpaqueTarget),
        runs_here: unsafe extern "C" fn(Object) -> c_int,
        running_loop: unsafe extern "C" fn() -> Object,
        call_in: unsafe extern "C" fn(Object, Object, Object) -> Object,
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
            unpark,
            release,
            is_forgotten,
            runs_here,
            running_loop,
            call_in,
        }
    }
}

/// Gives a reference to a target away.
pub fn into_opaque(target: Arc<WakeTarget>) -> *const OpaqueTarget {
    // The table's address comes first in both.
    Arc::into_raw(target).cast()
}

/// Borrows the target behind an opaque pointer.
///
/// # Safety
/// `target` must come from `into_opaque` of this crate, and its reference must outlive the use.
pub unsafe fn borrow(target: *const OpaqueTarget) -> ManuallyDrop<Arc<WakeTarget>> {
    // SAFETY: the caller's promise; the reference is not given up, for it is not ours.
    ManuallyDrop::new(unsafe { Arc::from_raw(target.cast::<WakeTarget>()) })
}

unsafe extern "C" fn keep(target: *const OpaqueTarget) {
    // SAFETY: the caller has a reference to a target that this crate made.
    unsafe { Arc::increment_strong_count(target.cast::<WakeTarget>()) };
}

unsafe extern "C" fn drop_target(target: *const OpaqueTarget) {
    // SAFETY: the caller gives up a reference.
    drop(unsafe { Arc::from_raw(target.cast::<WakeTarget>()) });
}

unsafe extern "C" fn wake(target: *const OpaqueTarget) {
    // SAFETY: the caller has a reference to a target that this crate made.
    unsafe { borrow(target) }.wake();
}

unsafe extern "C" fn begin(target: *const OpaqueTarget) {
    // SAFETY: the caller has a reference to a target that this crate made.
    unsafe { borrow(target) }.wake_state.begin();
}

unsafe extern "C" fn finish(target: *const OpaqueTarget) -> c_int {
    // SAFETY: the caller has a reference to a target that this crate made.
    unsafe { borrow(target) }.wake_state.finish() as c_int
}

pub(crate) unsafe extern "C" fn unpark(target: *const OpaqueTarget) {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    // SAFETY: the caller has a reference to a target that this crate made.
    let target = unsafe { borrow(target) };
    if target.is_parked(held) {
        enter(held, (), |py| {
            drop(target.take_object(py));
            Ok(())
        });
    }
}

unsafe extern "C" fn is_forgotten(target: *const OpaqueTarget) -> c_int {
    // SAFETY: the caller has a reference to a target that this crate made, and holds the GIL.
    unsafe { borrow(target).is_forgotten(Python::assume_attached()) }.into()
}

/// The table in the capsule that a loop's class has; `None` if it has none.
pub fn offered(class: &Bound<'_, PyType>) -> PyResult<Option<&'static BridgeApi>> {
    let Some(capsule) = class.getattr_opt(ATTRIBUTE)? else { return Ok(None) };
    // SAFETY: any live object may be checked.
    if unsafe { ffi::PyCapsule_IsValid(capsule.as_ptr(), CAPSULE.as_ptr()) } == 0 {
        return Ok(None);
    }
    // SAFETY: a capsule of this name holds a table that lives as long as the process: extension
    // modules are not unloaded. The first three fields are the same in every version.
    unsafe {
        let table =
            ffi::PyCapsule_GetPointer(capsule.as_ptr(), CAPSULE.as_ptr()).cast::<BridgeApi>();
        let abi = (&raw const (*table).abi).read();
        let size = (&raw const (*table).size).read() as usize;
        if abi == ABI && size >= size_of::<BridgeApi>() {
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
