//! Handles are made: from the arguments of `call_soon` and its like, in recycled memory.

use pyo3::Borrowed;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::class::types;
use crate::event_loop::NativeLoop;
use crate::event_loop::queue::{FREE, Handle, HandleObject, INLINE, Queued, Run, Shape, State};
use crate::ffi::arguments::Arg;
use crate::ffi::imports;
use crate::ffi::object::{self, Object};
use crate::ffi::tuples::arguments;

/// What a new handle is to call.
pub struct Call<'a, 'py> {
    pub callback: Arg<'a, 'py>,
    pub args: &'a [Arg<'a, 'py>],
    /// `None`: a copy of the current context.
    pub context: Option<Arg<'a, 'py>>,
}

impl Call<'_, '_> {
    /// The context to run in, a new reference, and whether it is a snapshot that others have too.
    #[inline]
    fn take_context(&self, py: Python<'_>, event_loop: &NativeLoop) -> PyResult<(Object, bool)> {
        match self.context {
            None => event_loop.contexts.take(py),
            Some(context) => Ok((context.to_owned().into_ptr(), false)),
        }
    }

    /// Writes the call in its place, which holds nothing, without running Python code.
    #[inline(always)]
    fn write(&self, queued: &mut Queued, context: Bound<'_, PyAny>, shared: bool) {
        queued.callback = self.callback.to_owned().into_ptr();
        queued.context = context.into_ptr();
        for (to, from) in queued.args.iter_mut().zip(self.args) {
            *to = (*from).to_owned().into_ptr();
        }
        queued.shape = Shape::of(self.args.len(), shared);
    }
}

impl Handle {
    pub fn new(py: Python<'_>, event_loop: &NativeLoop, call: &Call<'_, '_>) -> PyResult<Self> {
        Self::build(py, &types(py)?.handle, event_loop, call, None)
    }

    /// For `call_soon_threadsafe`: from CPython 3.14 on a kind of its own.
    pub fn thread_safe(
        py: Python<'_>,
        event_loop: &NativeLoop,
        call: &Call<'_, '_>,
    ) -> PyResult<Self> {
        let Some(class) = &types(py)?.thread_safe else {
            return Self::new(py, event_loop, call);
        };
        let handle = Self::build(py, class, event_loop, call, None)?;
        // SAFETY: just made, of our layout; the GIL is held.
        unsafe { (*handle.object()).thread_safe = true };
        Ok(handle)
    }

    /// `time`: what the deadline was given as, if that is not exactly a `float`.
    pub fn timer(
        py: Python<'_>,
        event_loop: &NativeLoop,
        call: &Call<'_, '_>,
        when: f64,
        time: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let handle = Self::build(py, &types(py)?.timer, event_loop, call, time)?;
        // SAFETY: just made, of our layout; the GIL is held.
        unsafe { (*handle.object()).place = when.to_bits() };
        Ok(handle)
    }

    fn build(
        py: Python<'_>,
        class: &Py<PyType>,
        event_loop: &NativeLoop,
        call: &Call<'_, '_>,
        time: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let many = if call.args.len() > INLINE || time.is_some() {
            Some(arguments(py, call.args)?)
        } else {
            None
        };
        let handle = Self::bare(py, class, event_loop)?;
        let (context, shared) = call.take_context(py, event_loop)?;
        // SAFETY: just made; no other code has seen it, and its fields hold nothing.
        unsafe {
            let made = &mut *handle.object();
            made.callback = call.callback.to_owned().into_ptr();
            made.context = context;
            made.shared = shared;
            if let Some(many) = many {
                made.many = many.into_ptr();
            } else {
                made.count = call.args.len() as u8;
                for (to, from) in made.inline.iter_mut().zip(call.args) {
                    *to = (*from).to_owned().into_ptr();
                }
            }
            if let Some(time) = time {
                made.keeps_time = true;
                made.inline[0] = time.clone().into_ptr();
            }
        }
        Ok(handle)
    }

    /// A handle of nothing, for a call without one.
    pub fn blank(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<Self> {
        Self::bare(py, &types(py)?.handle, event_loop)
    }

    #[inline]
    fn bare(py: Python<'_>, class: &Py<PyType>, event_loop: &NativeLoop) -> PyResult<Self> {
        let class = class.as_ptr().cast::<ffi::PyTypeObject>();
        // SAFETY: the class of this layout. Memory in the list holds nothing; else the allocator gives
        // memory for one, whose fields after the head are made so.
        unsafe {
            let made = match FREE.pop(py, class) {
                Some(memory) => memory.as_ptr(),
                None => {
                    let new = ffi::PyObject_GC_New::<HandleObject>(class);
                    if new.is_null() {
                        return Err(object::fetch(py));
                    }
                    let head = size_of::<ffi::PyObject>();
                    new.cast::<u8>().add(head).write_bytes(0, size_of::<HandleObject>() - head);
                    new
                }
            };
            let handle = &mut *made;
            handle.event_loop = ffi::Py_NewRef(event_loop.object());
            handle.place = 0;
            handle.state = State::Whole;
            handle.count = 0;
            handle.cancelled = false;
            handle.shared = false;
            handle.scheduled = false;
            handle.keeps_time = false;
            handle.run = Run::No;
            handle.thread_safe = false;
            Ok(Self::of(Bound::from_owned_ptr(py, made.cast())))
        }
    }

    /// A handle that was just made for Python, while it stays in the loop's hands.
    #[inline]
    pub fn give<'py>(&self, py: Python<'py>, event_loop: &NativeLoop) -> Bound<'py, PyAny> {
        if !event_loop.state.in_run.get(py) {
            self.show(py);
        }
        self.bind(py).clone()
    }

    /// A handle that in debug mode remembers, as asyncio's do, where it was made.
    pub fn with_source(
        py: Python<'_>,
        event_loop: &NativeLoop,
        call: &Call<'_, '_>,
    ) -> PyResult<Self> {
        let handle = Self::new(py, event_loop, call)?;
        if event_loop.is_debug(py) {
            handle.remember_source(py)?;
        }
        Ok(handle)
    }

    /// Notes, in a fresh handle, where it was made.
    #[cold]
    pub fn remember_source(&self, py: Python<'_>) -> PyResult<()> {
        self.set_source_traceback(py, source(py)?);
        Ok(())
    }
}

impl Queued {
    /// Puts a call into the queue; the handle to give out is tied to it.
    #[inline]
    pub fn push(
        py: Python<'_>,
        event_loop: &NativeLoop,
        call: &Call<'_, '_>,
        thread_safe: bool,
    ) -> PyResult<Handle> {
        debug_assert!(call.args.len() <= INLINE);
        let types = types(py)?;
        let (class, thread_safe) = match &types.thread_safe {
            Some(class) if thread_safe => (class, true),
            _ => (&types.handle, false),
        };
        let handle = Handle::bare(py, class, event_loop)?;
        let (context, shared) = call.take_context(py, event_loop)?;
        // SAFETY: a new reference.
        let context = unsafe { Bound::from_owned_ptr(py, context) };
        // SAFETY: the handle was just made, of our layout.
        unsafe { (*handle.object()).thread_safe = thread_safe };
        event_loop.push_call(py, &handle, |queued| call.write(queued, context, shared))?;
        if !thread_safe {
            event_loop.keep_ticket(py, &handle);
        }
        Ok(handle)
    }

    /// The same with the ticket that was given out last, if nobody has that any more; `None`, with
    /// nothing done, if there is none or anything else is not at hand.
    ///
    /// Runs no Python code, and neither fails nor panics.
    #[inline(always)]
    pub fn push_again(
        py: Python<'_>,
        event_loop: &NativeLoop,
        call: &Call<'_, '_>,
    ) -> Option<Handle> {
        if call.args.len() > INLINE {
            return None;
        }
        let (context, shared) = match call.context {
            Some(context) => (context.as_ptr(), false),
            None => (event_loop.contexts.last_if_current(py)?, true),
        };
        // SAFETY: a live object: the caller's, or the loop's.
        let context = unsafe { Borrowed::from_ptr(py, context) };
        event_loop.push_call_again(py, |queued| call.write(queued, context.to_owned(), shared))
    }

    /// The call as a handle. It comes back if there is no memory for a handle. Not for one that is tied.
    pub fn into_handle(mut self, py: Python<'_>, event_loop: &NativeLoop) -> Result<Handle, Self> {
        debug_assert!(self.handle.is_null());
        let Ok(handle) = Handle::blank(py, event_loop) else {
            return Err(self);
        };
        self.fill(&handle);
        Ok(handle)
    }
}

/// The stack of who called into the core, as asyncio's debug mode keeps it.
#[cold]
pub(crate) fn source(py: Python<'_>) -> PyResult<Py<PyAny>> {
    imports::debug_mode(py)?.bind(py).call_method0("extract_stack").map(Bound::unbind)
}
