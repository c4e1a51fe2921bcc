//! `Handle` and `TimerHandle`: what `call_soon` and `call_later` give out.
//!
//! A handle is the queue entry itself. Up to three arguments lie inside it, behind a scratch slot
//! that lets a bound method put its `self` in front without copying, and freed handles are kept
//! for the next call. `__class__` answers with asyncio's class, so `isinstance` holds.

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr::{NonNull, null_mut};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::cached;
use crate::event_loop::NativeLoop;
use crate::gil::GilCell;
use crate::object::{
    self, GETTERS_END, METHODS_END, Object, Table, enter, getter, plain_method, slot,
};
use crate::visit;

const INLINE: usize = 3;
const MOST_RECYCLED: usize = 512;

#[repr(C)]
pub struct HandleObject {
    head: ffi::PyObject,
    weakrefs: Object,
    event_loop: Object,
    /// Null once cancelled (asyncio: `_callback` is `None`).
    callback: Object,
    context: Object,
    source_traceback: Object,
    /// The text that a handle cancelled in debug mode goes on showing.
    repr: Object,
    /// All arguments, when they are more than `INLINE`.
    many: Object,
    when: f64,
    count: u8,
    cancelled: bool,
    /// The context is a snapshot that other handles have too: copied before it is used.
    shared: bool,
    /// In the timer heap.
    scheduled: bool,
    /// The callback is being called: its arguments must outlive a `cancel()` from inside.
    running: bool,
    /// Owned by whoever is being called; see `PY_VECTORCALL_ARGUMENTS_OFFSET`.
    scratch: Object,
    inline: [Object; INLINE],
}

struct Types {
    handle: Py<PyType>,
    timer: Py<PyType>,
}

static TYPES: PyOnceLock<Types> = PyOnceLock::new();
static RECYCLED: GilCell<Vec<NonNull<HandleObject>>> = GilCell::new(Vec::new());

/// The loop's own reference to a handle.
///
/// A handle in the loop's hands is a part of the loop to the garbage collector: the loop's
/// traversal goes through it (`Handle::traverse`), and a burst of callbacks does not make the
/// collector visit each again and again. It is tracked once the loop lets go of it, or stops
/// running (and so may become garbage), while somebody else holds it.
pub struct Handle(Py<PyAny>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.track_if_shared();
    }
}

/// What a new handle is to call.
pub struct Call<'a> {
    pub callback: Object,
    pub args: &'a [Object],
    /// Null: a copy of the current context.
    pub context: Object,
}

impl Handle {
    pub fn new(py: Python<'_>, event_loop: &NativeLoop, call: &Call<'_>) -> PyResult<Self> {
        Self::build(py, &types(py)?.handle, event_loop, call, 0.0)
    }

    pub fn timer(
        py: Python<'_>,
        event_loop: &NativeLoop,
        call: &Call<'_>,
        when: f64,
    ) -> PyResult<Self> {
        let handle = Self::build(py, &types(py)?.timer, event_loop, call, when)?;
        // SAFETY: just made, of our layout; the GIL is held.
        unsafe { (*handle.object()).scheduled = true };
        Ok(handle)
    }

    fn build(
        py: Python<'_>,
        class: &Py<PyType>,
        event_loop: &NativeLoop,
        call: &Call<'_>,
        when: f64,
    ) -> PyResult<Self> {
        let (context, shared) = if call.context.is_null() {
            event_loop.contexts.take(py)?
        } else {
            // SAFETY: borrowed from the caller, who holds a reference.
            (unsafe { ffi::Py_NewRef(call.context) }, false)
        };
        let class = class.as_ptr().cast::<ffi::PyTypeObject>();
        let recycled = RECYCLED.with(py, Vec::pop);
        // SAFETY: recycled memory was a handle, is untracked and holds nothing; else the allocator
        // gives memory for one. All fields are written before anybody sees the object.
        unsafe {
            let made = match recycled {
                Some(old) => {
                    ffi::PyObject_Init(old.as_ptr().cast(), class);
                    old.as_ptr()
                }
                None => ffi::PyObject_GC_New::<HandleObject>(class),
            };
            if made.is_null() {
                ffi::Py_DECREF(context);
                return Err(object::fetch(py));
            }
            let handle = &mut *made;
            handle.weakrefs = null_mut();
            handle.event_loop = ffi::Py_NewRef(event_loop.object());
            handle.callback = ffi::Py_NewRef(call.callback);
            handle.context = context;
            handle.shared = shared;
            handle.source_traceback = null_mut();
            handle.repr = null_mut();
            handle.many = null_mut();
            handle.when = when;
            handle.count = 0;
            handle.cancelled = false;
            handle.scheduled = false;
            handle.running = false;
            handle.inline = [null_mut(); INLINE];
            let handle = Self(Bound::from_owned_ptr(py, made.cast()).unbind());
            if call.args.len() <= INLINE {
                (*made).count = call.args.len() as u8;
                for (to, from) in (*made).inline.iter_mut().zip(call.args) {
                    *to = ffi::Py_NewRef(*from);
                }
            } else {
                (*made).many = tuple_of(call.args);
                if (*made).many.is_null() {
                    return Err(object::fetch(py));
                }
            }
            Ok(handle)
        }
    }

    /// Makes the handle an object of its own to the collector, unless only the loop has it.
    pub fn track_if_shared(&self) {
        let object = self.0.as_ptr();
        // SAFETY: alive: this is a reference to it. Whoever holds a `Handle` holds the GIL.
        unsafe {
            if ffi::Py_REFCNT(object) > 1 && ffi::PyObject_GC_IsTracked(object) == 0 {
                ffi::PyObject_GC_Track(object.cast());
            }
        }
    }

    /// Visits the handle, or what it refers to while it is a part of the loop.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let object = self.object();
        // SAFETY: our layout; the collector holds the GIL and runs no other code meanwhile. A
        // nullable pointer to an object is what `Option<Py>` is.
        unsafe {
            if ffi::PyObject_GC_IsTracked(object.cast()) != 0 {
                return visit.call(&self.0);
            }
            if ffi::Py_REFCNT(object.cast()) > 1 {
                return Ok(());
            }
            let handle = &*object;
            let one = [
                &handle.event_loop,
                &handle.callback,
                &handle.context,
                &handle.source_traceback,
                &handle.many,
            ];
            for field in one.into_iter().chain(&handle.inline) {
                visit.call(&*std::ptr::from_ref(field).cast::<Option<Py<PyAny>>>())?;
            }
        }
        Ok(())
    }

    fn object(&self) -> *mut HandleObject {
        self.0.as_ptr().cast()
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }

    pub fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.bind(py)
    }

    /// A new reference for Python.
    pub fn to_ptr(&self, py: Python<'_>) -> Object {
        self.0.clone_ref(py).into_ptr()
    }

    pub fn is_cancelled(&self, _py: Python<'_>) -> bool {
        // SAFETY: our layout, GIL held.
        unsafe { (*self.object()).cancelled }
    }

    pub fn when(&self, _py: Python<'_>) -> f64 {
        // SAFETY: our layout, GIL held.
        unsafe { (*self.object()).when }
    }

    /// The heap let go of this timer.
    pub fn unscheduled(&self, _py: Python<'_>) {
        // SAFETY: our layout, GIL held.
        unsafe { (*self.object()).scheduled = false };
    }

    pub fn set_source_traceback(&self, _py: Python<'_>, traceback: Py<PyAny>) {
        // SAFETY: our layout, GIL held; a fresh handle has no traceback yet.
        unsafe { (*self.object()).source_traceback = traceback.into_ptr() };
    }

    pub fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        cancel(py, self.object())
    }

    /// Calls the callback in its context; the error is whatever it raised.
    #[inline]
    pub fn call(&self, py: Python<'_>) -> PyResult<()> {
        let object = self.object();
        // SAFETY: our layout; this reference keeps the handle alive, and `running` keeps a
        // `cancel()` from inside the callback from releasing what the call still uses.
        unsafe {
            own_context(py, object)?;
            let handle = &mut *object;
            if ffi::PyContext_Enter(handle.context) != 0 {
                return Err(object::fetch(py));
            }
            handle.running = true;
            let result = if handle.many.is_null() {
                ffi::PyObject_Vectorcall(
                    handle.callback,
                    handle.inline.as_ptr(),
                    handle.count as usize | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                    null_mut(),
                )
            } else {
                ffi::PyObject_Call(handle.callback, handle.many, null_mut())
            };
            let error = result.is_null().then(|| object::fetch(py));
            (*object).running = false;
            let exited = ffi::PyContext_Exit((*object).context);
            if (*object).cancelled {
                release_call(object);
            }
            if let Some(error) = error {
                return Err(error);
            }
            ffi::Py_DECREF(result);
            if exited != 0 {
                return Err(object::fetch(py));
            }
            Ok(())
        }
    }
}

/// Gives the handle a context of its own.
///
/// # Safety
/// `handle` must be alive, the GIL held.
#[inline]
unsafe fn own_context(py: Python<'_>, handle: *mut HandleObject) -> PyResult<()> {
    // SAFETY: the caller's promise; the snapshot is a context.
    unsafe {
        if (*handle).shared {
            let copy = object::owned(py, ffi::PyContext_Copy((*handle).context))?.into_ptr();
            let snapshot = std::mem::replace(&mut (*handle).context, copy);
            (*handle).shared = false;
            ffi::Py_DECREF(snapshot);
        }
    }
    Ok(())
}

unsafe fn tuple_of(values: &[Object]) -> Object {
    // SAFETY: the GIL is held by the caller, `values` are borrowed live objects.
    unsafe {
        let tuple = ffi::PyTuple_New(values.len() as isize);
        if !tuple.is_null() {
            for (at, value) in values.iter().enumerate() {
                ffi::PyTuple_SET_ITEM(tuple, at as isize, ffi::Py_NewRef(*value));
            }
        }
        tuple
    }
}

fn cancel(py: Python<'_>, handle: *mut HandleObject) -> PyResult<()> {
    // SAFETY: our layout; the caller holds a reference and the GIL. No `&mut` lives across the
    // calls that may run Python code.
    unsafe {
        if (*handle).cancelled {
            return Ok(());
        }
        let event_loop = NativeLoop::of((*handle).event_loop);
        (*handle).cancelled = true;
        if event_loop.debug.get(py) {
            let repr = ffi::PyObject_Repr(handle.cast());
            if repr.is_null() {
                return Err(object::fetch(py));
            }
            (*handle).repr = repr;
        }
        if (*handle).scheduled {
            event_loop.timer_cancelled(py);
        }
        if !(*handle).running {
            release_call(handle);
        }
    }
    Ok(())
}

/// Drops callback and arguments.
///
/// # Safety
/// `handle` must be alive, the GIL held. Runs Python code (destructors).
unsafe fn release_call(handle: *mut HandleObject) {
    // SAFETY: each pointer is taken out before its reference is dropped, so code that comes back
    // here through a destructor finds null.
    unsafe {
        (*handle).count = 0;
        ffi::Py_CLEAR(&raw mut (*handle).callback);
        ffi::Py_CLEAR(&raw mut (*handle).many);
        for at in 0..INLINE {
            ffi::Py_CLEAR(&raw mut (*handle).inline[at]);
        }
    }
}

unsafe extern "C" fn traverse(slf: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    let handle = slf.cast::<HandleObject>();
    // SAFETY: our layout; the collector holds the GIL.
    unsafe {
        visit!(visit, arg, ffi::Py_TYPE(slf).cast());
        visit!(visit, arg, (*handle).event_loop);
        visit!(visit, arg, (*handle).callback);
        visit!(visit, arg, (*handle).context);
        visit!(visit, arg, (*handle).source_traceback);
        visit!(visit, arg, (*handle).many);
        for at in 0..INLINE {
            visit!(visit, arg, (*handle).inline[at]);
        }
    }
    0
}

unsafe extern "C" fn clear(slf: Object) -> c_int {
    let handle = slf.cast::<HandleObject>();
    // SAFETY: our layout; only called on garbage. The loop reference stays: a destructor may
    // still call `cancel()`, and dropping callback, context and arguments breaks every cycle.
    unsafe {
        release_call(handle);
        ffi::Py_CLEAR(&raw mut (*handle).source_traceback);
    }
    0
}

unsafe extern "C" fn dealloc(slf: Object) {
    let handle = slf.cast::<HandleObject>();
    // SAFETY: the last reference is gone; the object is ours to take apart, in the order CPython
    // asks for: untrack, weak references, fields, memory, type.
    unsafe {
        let class = ffi::Py_TYPE(slf);
        ffi::PyObject_GC_UnTrack(slf.cast());
        if !(*handle).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(slf);
        }
        release_call(handle);
        ffi::Py_CLEAR(&raw mut (*handle).context);
        ffi::Py_CLEAR(&raw mut (*handle).source_traceback);
        ffi::Py_CLEAR(&raw mut (*handle).repr);
        ffi::Py_CLEAR(&raw mut (*handle).event_loop);
        let py = Python::assume_attached();
        let kept = RECYCLED.with(py, |recycled| {
            recycled.len() < MOST_RECYCLED && {
                recycled.push(NonNull::new_unchecked(handle));
                true
            }
        });
        if !kept {
            ffi::PyObject_GC_Del(slf.cast());
        }
        ffi::Py_DECREF(class.cast());
    }
}

fn or_none(object: Object) -> Object {
    // SAFETY: null or a live object; the GIL is held.
    unsafe { ffi::Py_NewRef(if object.is_null() { ffi::Py_None() } else { object }) }
}

fn boolean(value: bool) -> Object {
    // SAFETY: the GIL is held by the C-level caller.
    unsafe { ffi::PyBool_FromLong(value.into()) }
}

macro_rules! field {
    ($name:ident, $handle:ident => $value:expr) => {
        unsafe extern "C" fn $name(slf: Object, _closure: *mut c_void) -> Object {
            // SAFETY: CPython checked the type of `slf`; the GIL is held.
            let $handle = unsafe { &*slf.cast::<HandleObject>() };
            $value
        }
    };
}

field!(get_loop, handle => or_none(handle.event_loop));
field!(get_callback, handle => or_none(handle.callback));

unsafe extern "C" fn get_context_field(slf: Object, _closure: *mut c_void) -> Object {
    enter(null_mut(), |py| {
        let handle = slf.cast::<HandleObject>();
        // SAFETY: CPython checked the type of `slf`; alive for the call.
        unsafe {
            own_context(py, handle)?;
            Ok(or_none((*handle).context))
        }
    })
}

field!(get_traceback, handle => or_none(handle.source_traceback));
field!(get_repr, handle => or_none(handle.repr));
field!(get_cancelled, handle => boolean(handle.cancelled));
field!(get_scheduled, handle => boolean(handle.scheduled));
// SAFETY (both): the GIL is held.
field!(get_when, handle => unsafe { ffi::PyFloat_FromDouble(handle.when) });
field!(get_args, handle => if handle.callback.is_null() {
    or_none(null_mut())
} else if handle.many.is_null() {
    unsafe { tuple_of(&handle.inline[..handle.count as usize]) }
} else {
    or_none(handle.many)
});

unsafe extern "C" fn handle_class(_slf: Object, _closure: *mut c_void) -> Object {
    enter(null_mut(), |py| Ok(cached::asyncio(py)?.handle.clone_ref(py).into_ptr()))
}

unsafe extern "C" fn timer_class(_slf: Object, _closure: *mut c_void) -> Object {
    enter(null_mut(), |py| Ok(cached::asyncio(py)?.timer_handle.clone_ref(py).into_ptr()))
}

unsafe extern "C" fn method_cancel(slf: Object, _: Object) -> Object {
    enter(null_mut(), |py| {
        cancel(py, slf.cast())?;
        Ok(or_none(null_mut()))
    })
}

unsafe extern "C" fn method_cancelled(slf: Object, _: Object) -> Object {
    // SAFETY: CPython checked the type of `slf`.
    boolean(unsafe { (*slf.cast::<HandleObject>()).cancelled })
}

unsafe extern "C" fn method_when(slf: Object, _: Object) -> Object {
    // SAFETY: as above.
    unsafe { get_when(slf, null_mut()) }
}

unsafe extern "C" fn method_get_context(slf: Object, _: Object) -> Object {
    // SAFETY: as above.
    unsafe { get_context_field(slf, null_mut()) }
}

/// `Handle._run()`: asyncio's way of running a handle by hand.
unsafe extern "C" fn method_run(slf: Object, _: Object) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: `slf` is alive for the call.
        let handle = Handle(unsafe { Bound::from_borrowed_ptr(py, slf).unbind() });
        if handle.is_cancelled(py) {
            return Err(PyRuntimeError::new_err("the handle is cancelled"));
        }
        // SAFETY: a handle always has its loop.
        let event_loop = unsafe { NativeLoop::of((*handle.object()).event_loop) };
        event_loop.run_handle(py, &handle)?;
        Ok(or_none(null_mut()))
    })
}

unsafe extern "C" fn repr(slf: Object) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: `slf` is alive for the call.
        let slf = unsafe { Bound::from_borrowed_ptr(py, slf) };
        let text = cached::helpers(py)?.bind(py).call_method1("describe_handle", (slf,))?;
        Ok(text.into_ptr())
    })
}

unsafe extern "C" fn timer_hash(slf: Object) -> ffi::Py_hash_t {
    enter(-1, |py| {
        // SAFETY: CPython checked the type of `slf`.
        let when = unsafe { (*slf.cast::<HandleObject>()).when };
        when.into_pyobject(py)?.hash()
    })
}

unsafe extern "C" fn timer_compare(left: Object, right: Object, op: c_int) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: both are alive for the call.
        let pair =
            unsafe { (Bound::from_borrowed_ptr(py, left), Bound::from_borrowed_ptr(py, right)) };
        let timer = &types(py)?.timer;
        if !pair.0.get_type().is(timer) || !pair.1.get_type().is(timer) {
            return Ok(py.NotImplemented().into_ptr());
        }
        // SAFETY: both are timer handles.
        let (a, b) = unsafe { (&*left.cast::<HandleObject>(), &*right.cast::<HandleObject>()) };
        let equal = || -> PyResult<bool> {
            Ok(a.when == b.when
                && a.cancelled == b.cancelled
                && pair.0.getattr("_callback")?.eq(pair.1.getattr("_callback")?)?
                && pair.0.getattr("_args")?.eq(pair.1.getattr("_args")?)?)
        };
        let result = match op {
            ffi::Py_LT => a.when < b.when,
            ffi::Py_LE => a.when < b.when || equal()?,
            ffi::Py_GT => a.when > b.when,
            ffi::Py_GE => a.when > b.when || equal()?,
            ffi::Py_EQ => equal()?,
            _ => !equal()?,
        };
        Ok(boolean(result))
    })
}

static METHODS: Table<[ffi::PyMethodDef; 6]> = Table([
    plain_method(
        c"cancel",
        method_cancel,
        c"cancel($self, /)\n--\n\nCancel the callback; as asyncio.Handle.cancel.",
    ),
    plain_method(
        c"cancelled",
        method_cancelled,
        c"cancelled($self, /)\n--\n\nWhether the callback was cancelled.",
    ),
    plain_method(
        c"get_context",
        method_get_context,
        c"get_context($self, /)\n--\n\nThe contextvars.Context the callback runs in.",
    ),
    plain_method(
        c"_run",
        method_run,
        c"_run($self, /)\n--\n\nCall the callback; errors go to the loop's exception handler.",
    ),
    plain_method(
        c"when",
        method_when,
        c"when($self, /)\n--\n\nThe scheduled time, in seconds of loop.time().",
    ),
    METHODS_END,
]);

const FIELDS: [ffi::PyGetSetDef; 7] = [
    getter(c"_loop", get_loop),
    getter(c"_callback", get_callback),
    getter(c"_args", get_args),
    getter(c"_context", get_context_field),
    getter(c"_source_traceback", get_traceback),
    getter(c"_repr", get_repr),
    getter(c"_cancelled", get_cancelled),
];

static HANDLE_FIELDS: Table<[ffi::PyGetSetDef; 9]> = {
    let [a, b, c, d, e, f, g] = FIELDS;
    Table([a, b, c, d, e, f, g, getter(c"__class__", handle_class), GETTERS_END])
};

static TIMER_FIELDS: Table<[ffi::PyGetSetDef; 11]> = {
    let [a, b, c, d, e, f, g] = FIELDS;
    Table([
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        getter(c"_when", get_when),
        getter(c"_scheduled", get_scheduled),
        getter(c"__class__", timer_class),
        GETTERS_END,
    ])
};

static MEMBERS: Table<[ffi::PyMemberDef; 2]> = Table([
    object::offset_member(c"__weaklistoffset__", offset_of!(HandleObject, weakrefs)),
    object::MEMBERS_END,
]);

fn types(py: Python<'_>) -> PyResult<&Types> {
    TYPES.get_or_try_init(py, || {
        let object = py.get_type::<PyAny>();
        let make = |name, fields: *mut ffi::PyGetSetDef, timer: bool| -> PyResult<Py<PyType>> {
            // `when` is the last method before the end: a plain handle starts without it.
            let methods = METHODS.0.as_ptr().cast_mut();
            let mut slots = vec![
                slot(ffi::Py_tp_traverse, traverse as *mut c_void),
                slot(ffi::Py_tp_clear, clear as *mut c_void),
                slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
                slot(ffi::Py_tp_repr, repr as *mut c_void),
                slot(ffi::Py_tp_methods, methods.cast()),
                slot(ffi::Py_tp_getset, fields.cast()),
                slot(ffi::Py_tp_members, MEMBERS.0.as_ptr().cast_mut().cast()),
            ];
            if timer {
                slots.push(slot(ffi::Py_tp_hash, timer_hash as *mut c_void));
                slots.push(slot(ffi::Py_tp_richcompare, timer_compare as *mut c_void));
            }
            let class = object::new_type(py, name, size_of::<HandleObject>(), &object, slots)?;
            if !timer {
                class.delattr("when")?;
            }
            Ok(class.unbind())
        };
        Ok(Types {
            handle: make(c"tokioloop._core.Handle", HANDLE_FIELDS.0.as_ptr().cast_mut(), false)?,
            timer: make(c"tokioloop._core.TimerHandle", TIMER_FIELDS.0.as_ptr().cast_mut(), true)?,
        })
    })
}

/// Puts the two classes into the extension module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let types = types(module.py())?;
    module.add("Handle", types.handle.clone_ref(module.py()))?;
    module.add("TimerHandle", types.timer.clone_ref(module.py()))
}

/// `asyncio`'s argument tuple, for messages.
pub fn arguments<'py>(py: Python<'py>, args: &[Object]) -> PyResult<Bound<'py, PyTuple>> {
    // SAFETY: borrowed live objects; a new reference or null with an exception set.
    let tuple = unsafe { object::owned(py, tuple_of(args))? };
    Ok(tuple.cast_into::<PyTuple>()?)
}
