//! What both ends of a pipe are: made, watched, closed, lost, in asyncio's order of callbacks.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr::null_mut;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::driver::reactor::Direction;
use crate::driver::sys::{FileKind, descriptor};
use crate::event_loop::handles::{self, Call, Handle};
use crate::event_loop::watching;
use crate::event_loop::{Callback, Entry, LoopRef, LoopSlot, NativeLoop};
use crate::ffi::contexts::Ground;
use crate::ffi::definitions::getter;
use crate::ffi::errors::os_error;
use crate::ffi::gil::PySlot;
use crate::ffi::object::Object;
use crate::ffi::trampoline::enter;
use crate::transports::base::{self, Transport};
use crate::transports::protocol;

/// What a new transport is made of.
pub(crate) struct New<'py> {
    /// The file object, which the transport closes.
    pub pipe: Bound<'py, PyAny>,
    pub protocol: Bound<'py, PyAny>,
    pub waiter: Option<Bound<'py, PyAny>>,
    pub extra: Option<Bound<'py, PyAny>>,
}

/// An end of a pipe: a kind of transport.
pub(crate) trait Pipe: Transport {
    /// Says what of a file of the wrong kind.
    const REFUSAL: &'static str;

    fn new(end: End, protocol: &Bound<'_, PyAny>) -> PyResult<Self>;
    fn end(&self) -> &End;
    /// `connection_made` was called.
    fn start(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()>;
}

/// The state that both ends have. Only reached with the GIL held.
pub(crate) struct End {
    pub fd: RawFd,
    pub kind: FileKind,
    pub closing: Cell<bool>,
    /// `connection_lost` is scheduled, or was called.
    losing: Cell<bool>,
    event_loop: LoopSlot,
    pub protocol: PySlot,
    /// The protocol's `connection_made`, until it is called.
    greeting: PySlot,
    /// The file object, until it is closed.
    pipe: PySlot,
    extra: PySlot,
    waiter: PySlot,
    context: Ground,
    /// The exception for `connection_lost`.
    loss: PySlot,
    /// The file object that `abandon` has closed.
    abandoned: PySlot,
    /// In debug mode the stack of who scheduled what is called next.
    source: PySlot,
}

/// Makes a transport and schedules `connection_made`.
pub(crate) fn new<'py, P: Pipe>(
    py: Python<'py>,
    native: &NativeLoop,
    new: New<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    native.check_closed(py)?;
    let fd = new.pipe.call_method0(pyo3::intern!(py, "fileno"))?.extract::<RawFd>()?;
    let Some(kind) = descriptor::kind(fd).map_err(|error| os_error(py, &error))? else {
        return Err(PyValueError::new_err(P::REFUSAL));
    };
    descriptor::set_non_blocking(fd).map_err(|error| os_error(py, &error))?;
    let extra = match new.extra {
        Some(extra) => extra,
        None => PyDict::new(py).into_any(),
    };
    extra.set_item(pyo3::intern!(py, "pipe"), &new.pipe)?;
    let context = Ground::current(py, native.contexts())?;
    let end = End {
        fd,
        kind,
        closing: false.into(),
        losing: false.into(),
        event_loop: LoopSlot::new(py, native),
        protocol: PySlot::new(new.protocol.clone().unbind()),
        greeting: PySlot::empty(),
        pipe: PySlot::new(new.pipe.unbind()),
        extra: PySlot::new(extra.unbind()),
        waiter: new.waiter.map_or_else(PySlot::empty, |waiter| PySlot::new(waiter.unbind())),
        context,
        loss: PySlot::empty(),
        abandoned: PySlot::empty(),
        source: PySlot::empty(),
    };
    // From here on the transport owns the file. If the rest fails it is dropped, and closes it.
    let made = base::allocate(py, P::new(end, &new.protocol)?)?;
    let greeting = protocol::greeting(native, &new.protocol)?;
    // SAFETY: made just now, of this kind.
    let end = unsafe { base::state::<P>(&made) }.end();
    end.greeting.set(py, Some(greeting.unbind()));
    end.remember_source(py, native)?;
    native.push(py, Entry::Native(made.clone().unbind(), connection_made::<P>));
    Ok(made)
}

/// Calls `connection_made`, then starts, then wakes who waits for the connection. What ends the
/// loop does not keep the rest from happening: in asyncio these are callbacks of their own.
///
/// # Safety
///
/// `slf` is a transport of the kind `P`.
unsafe fn connection_made<P: Pipe>(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    // SAFETY: only `new` queues this step, with a transport of this kind.
    let pipe = unsafe { base::state::<P>(slf) };
    let end = pipe.end();
    let Some(greeting) = end.greeting.take(py) else {
        return Ok(());
    };
    let greeting = greeting.bind(py);
    let greeted = match end.native(py) {
        Some(native) => end.context.run_apart(py, native.contexts(), || greeting.call1((slf,))),
        None => greeting.call1((slf,)),
    };
    let mut result = match (greeted, end.native(py)) {
        (Ok(_), _) => Ok(()),
        (Err(error), Some(native)) => {
            protocol::callback_failed(&native, greeting, &[slf], error, end.source(py))
        }
        (Err(error), None) => Err(error),
    };
    if !end.closing.get()
        && let Err(error) = pipe.start(py, slf)
    {
        result = result.and(end.report(py, slf, "_read_ready", &[], error));
    }
    match end.waiter.take(py) {
        Some(waiter) => result.and(protocol::wake_waiter(waiter.bind(py))),
        None => result,
    }
}

/// Calls `connection_lost` and closes the file.
///
/// # Safety
///
/// `slf` is a transport of the kind `P`.
pub(super) unsafe fn connection_lost<P: Pipe>(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    // SAFETY: only `lose` queues this step, or the one that calls it, with the transport whose end
    // it is called for.
    let end = unsafe { base::state::<P>(slf.bind(py)) }.end();
    let loss = end.loss.take(py).unwrap_or_else(|| py.None());
    let told = end.tell(py, "connection_lost", &[loss.bind(py)]);
    let closed = end.close_pipe(py);
    // The loop outlives its own references to it, which go with the last of these.
    let event_loop = end.event_loop.take(py);
    end.protocol.set(py, None);
    end.context.forget(py);
    drop(event_loop);
    told.and(closed)
}

impl End {
    /// The loop, while the transport has one.
    pub(crate) fn native<'py>(&self, py: Python<'py>) -> Option<LoopRef<'py>> {
        self.event_loop.get(py)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &PySlot> {
        [
            self.event_loop.slot(),
            &self.protocol,
            &self.greeting,
            &self.pipe,
            &self.extra,
            &self.waiter,
            self.context.slot(),
            &self.loss,
            &self.abandoned,
            &self.source,
        ]
        .into_iter()
    }

    pub(crate) fn loop_object(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.event_loop.get(py).map(|event_loop| event_loop.into_any().unbind())
    }

    pub(crate) fn extra_dict(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.extra.get(py).map(Bound::unbind)
    }

    pub(crate) fn is_closed(&self, py: Python<'_>) -> bool {
        !self.pipe.is_set(py)
    }

    /// Calls a method of the protocol in the transport's context; what it raises is reported.
    pub(crate) fn tell(
        &self,
        py: Python<'_>,
        method: &str,
        arguments: &[&Bound<'_, PyAny>],
    ) -> PyResult<()> {
        let Some(protocol) = self.protocol.get(py) else {
            return Ok(());
        };
        let name = PyString::intern(py, method);
        match self.in_context(py, || protocol::call(py, &protocol, &name, arguments)) {
            Ok(_) => Ok(()),
            Err(error) => self.report(py, &protocol, method, arguments, error),
        }
    }

    /// Calls `f` in the transport's context.
    fn in_context<R>(&self, py: Python<'_>, f: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        match self.native(py) {
            Some(native) => self.context.run(py, native.contexts(), f),
            None => f(),
        }
    }

    /// asyncio's report of a callback that raised.
    #[cold]
    pub(crate) fn report(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        method: &str,
        arguments: &[&Bound<'_, PyAny>],
        error: PyErr,
    ) -> PyResult<()> {
        match self.native(py) {
            Some(native) => {
                let name = PyString::intern(py, method);
                protocol::method_failed(&native, object, &name, arguments, error, self.source(py))
            }
            None => Err(error),
        }
    }

    fn remember_source(&self, py: Python<'_>, native: &NativeLoop) -> PyResult<()> {
        if native.is_debug(py) {
            self.source.set(py, Some(handles::source(py)?));
        }
        Ok(())
    }

    #[cold]
    fn source(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.source.get(py).map(Bound::unbind)
    }

    /// From here on the protocol is called in the current context, as it is now.
    pub(crate) fn follow_caller(&self, py: Python<'_>) -> PyResult<()> {
        match self.native(py) {
            Some(native) => self.context.follow_caller(py, native.contexts()),
            None => Ok(()),
        }
    }

    /// [`End::watch`] for a caller, in whose context the method is then called.
    pub(crate) fn watch_for_caller(
        &self,
        slf: &Bound<'_, PyAny>,
        direction: Direction,
        method: &str,
    ) -> PyResult<()> {
        if cfg!(Py_3_15) {
            return self.watch(slf, direction, method);
        }
        self.watch_in(slf, direction, method, None)
    }

    /// Has the loop call a method of the transport, in its context, while the descriptor is ready.
    pub(crate) fn watch(
        &self,
        slf: &Bound<'_, PyAny>,
        direction: Direction,
        method: &str,
    ) -> PyResult<()> {
        let context = self.context.own(slf.py())?;
        self.watch_in(slf, direction, method, context)
    }

    fn watch_in(
        &self,
        slf: &Bound<'_, PyAny>,
        direction: Direction,
        method: &str,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let Some(native) = self.native(py) else {
            return Ok(());
        };
        native.check_closed(py)?;
        let callback = slf.getattr(method)?;
        let context = context.as_ref().map(Bound::as_borrowed);
        let call = Call { callback: callback.as_borrowed(), args: &[], context };
        watching::add(py, &native, self.fd, direction, Handle::with_source(py, &native, &call)?)
    }

    pub(crate) fn unwatch(&self, py: Python<'_>, direction: Direction) -> PyResult<()> {
        match self.native(py) {
            Some(native) if !native.is_closed(py) => {
                watching::remove(py, &native, self.fd, direction).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Schedules `connection_lost`, to be called in the current context.
    pub(crate) fn lose<P: Pipe>(&self, slf: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) {
        self.lose_after(slf, error, connection_lost::<P>);
    }

    /// Calls `connection_lost` at once, in the current context: what was left to send has left.
    pub(crate) fn lose_now<P: Pipe>(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.losing.replace(true) {
            return Ok(());
        }
        self.follow_caller(slf.py())?;
        // SAFETY: `slf` is the transport whose end this is, and of its kind.
        unsafe { connection_lost::<P>(slf.py(), &slf.clone().unbind()) }
    }

    /// Schedules `step`, which ends with `connection_lost`.
    pub(crate) fn lose_after(
        &self,
        slf: &Bound<'_, PyAny>,
        error: Option<Py<PyAny>>,
        step: Callback,
    ) {
        let py = slf.py();
        self.closing.set(true);
        if let Some(native) = self.native(py)
            && !self.losing.replace(true)
        {
            self.loss.set(py, error);
            // Where there is no memory for the context the transport's own has to do.
            let _ = self.context.follow_caller(py, native.contexts());
            let _ = self.remember_source(py, &native);
            native.push(py, Entry::Native(slf.clone().unbind(), step));
        }
    }

    /// Where the loop is closed nothing can be scheduled: closes the file at once. Whether it is.
    pub(crate) fn close_without_loop(&self, py: Python<'_>) -> PyResult<bool> {
        if self.native(py).is_some_and(|native| !native.is_closed(py)) {
            return Ok(false);
        }
        self.closing.set(true);
        self.close_pipe(py)?;
        Ok(true)
    }

    /// Nobody holds the transport any more: closes the file. The object goes with the other fields,
    /// which are dropped in turn: it may be anything, a whole chain of transports too.
    pub(crate) fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(pipe) = self.pipe.get(py) {
            self.abandoned.set(py, Some(pipe.unbind()));
        }
        self.close_pipe(py)
    }

    pub(crate) fn close_pipe(&self, py: Python<'_>) -> PyResult<()> {
        self.closing.set(true);
        self.losing.set(true);
        match self.pipe.take(py) {
            Some(pipe) => pipe.call_method0(py, pyo3::intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }

    /// Tells asyncio's logger, in debug mode.
    pub(crate) fn log_in_debug(
        &self,
        slf: &Bound<'_, PyAny>,
        level: &str,
        text: &str,
    ) -> PyResult<()> {
        let py = slf.py();
        if self.native(py).is_some_and(|native| native.is_debug(py)) {
            py.import("asyncio.log")?.getattr("logger")?.call_method1(level, (text, slf))?;
        }
        Ok(())
    }

    /// What `repr` begins with: the class, its state and the descriptor.
    pub(crate) fn describe(&self, py: Python<'_>, class: &str) -> String {
        let state = match (self.is_closed(py), self.closing.get()) {
            (true, _) => " closed",
            (false, true) => " closing",
            (false, false) => "",
        };
        format!("<{class}{state} fd={}", self.fd)
    }

    /// What `repr` says of the loop's interest in the descriptor.
    pub(crate) fn describe_watch(&self, py: Python<'_>, direction: Direction) -> &'static str {
        if self.is_closed(py) {
            return "closed";
        }
        let Some(native) = self.native(py).filter(|native| !native.is_closed(py)) else {
            return "open";
        };
        let bit = match direction {
            Direction::Read => 1,
            Direction::Write => 2,
        };
        if watching::mask(py, &native, self.fd) & bit != 0 { "polling" } else { "idle" }
    }
}

unsafe extern "C" fn get_pipe<P: Pipe>(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython checked the type; alive for the call.
        let slf = unsafe { Bound::from_borrowed_ptr(py, slf) };
        // SAFETY: a getter of this kind's class, of which CPython checked the type.
        let pipe = unsafe { base::state::<P>(&slf) };
        pipe.end().pipe.get(py).into_py_any(py).map(Py::into_ptr)
    })
}

/// `transport._pipe = None`: who has closed the file says so.
unsafe extern "C" fn set_pipe<P: Pipe>(slf: Object, value: Object, _closure: *mut c_void) -> c_int {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, -1, |py| {
        // SAFETY: both alive for the call; no value means that the attribute is deleted.
        let (slf, value) = unsafe {
            (Bound::from_borrowed_ptr(py, slf), Bound::from_borrowed_ptr_or_opt(py, value))
        };
        let value = value.filter(|value| !value.is_none()).map(Bound::unbind);
        // SAFETY: a setter of this kind's class, of which CPython checked the type.
        unsafe { base::state::<P>(&slf) }.end().pipe.set(py, value);
        Ok(0)
    })
}

/// asyncio's `_pipe`, which may be assigned.
pub(super) const fn pipe_field<P: Pipe>() -> ffi::PyGetSetDef {
    ffi::PyGetSetDef { set: Some(set_pipe::<P>), ..getter(c"_pipe", get_pipe::<P>) }
}
