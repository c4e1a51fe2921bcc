//! What both ends of a pipe share: made, watched, closed, lost, in asyncio's order of callbacks.

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::RawFd;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::driver::reactor::Direction;
use crate::driver::sys::{FileKind, descriptor};
use crate::event_loop::NativeLoop;
use crate::event_loop::handles::{Call, Handle};
use crate::event_loop::watching;
use crate::ffi::contexts::{Ground, Scope};
use crate::ffi::definitions::getter;
use crate::ffi::errors::os_error;
use crate::ffi::gil::PySlot;
use crate::ffi::object::Object;
use crate::ffi::trampoline::enter;
use crate::transports::core::Lifecycle;
use crate::transports::core::class;
use crate::transports::core::lifecycle::{self, Endpoint, lose};
use crate::transports::core::trampolines::transport_field;
use crate::transports::core::{Core, CoreConfig, report};

/// What the maker of a pipe transport passes.
pub(crate) struct PipeConfig<'py> {
    /// The file object, which the transport closes.
    pub pipe: Bound<'py, PyAny>,
    pub core: CoreConfig<'py>,
}

/// An end of a pipe: a kind of transport.
pub(crate) trait Pipe: Endpoint + Deref<Target = End> {
    /// The error for a file of another kind.
    const REFUSAL: &'static str;

    fn new(end: End, protocol: &Bound<'_, PyAny>) -> PyResult<Self>;
    /// Bytes that are left to write after `close()`.
    fn left_to_write(&self) -> usize {
        0
    }
}

/// The state that both ends have. Only reached with the GIL held.
pub(crate) struct End {
    core: Core,
    pub fd: RawFd,
    pub kind: FileKind,
    /// The file object, until it is closed.
    pipe: PySlot,
    /// The file object that `abandon` has closed.
    abandoned: PySlot,
}

impl Deref for End {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

/// Makes a transport and schedules `connection_made`.
pub(crate) fn new<'py, P: Pipe>(
    py: Python<'py>,
    native: &NativeLoop,
    config: PipeConfig<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    native.check_closed(py)?;
    let PipeConfig { pipe, core } = config;
    let fd = pipe.call_method0(pyo3::intern!(py, "fileno"))?.extract::<RawFd>()?;
    let Some(kind) = descriptor::kind(fd).map_err(|error| os_error(py, &error))? else {
        return Err(PyValueError::new_err(P::REFUSAL));
    };
    descriptor::set_non_blocking(fd).map_err(|error| os_error(py, &error))?;
    let extra = match core.extra {
        Some(extra) => extra,
        None => PyDict::new(py).into_any(),
    };
    extra.set_item(pyo3::intern!(py, "pipe"), &pipe)?;
    let context = Ground::current(py, native.contexts(), Scope::Cause)?;
    let protocol = core.protocol.clone();
    let end = End {
        core: Core::new(py, native, context, CoreConfig { extra: Some(extra), ..core }),
        fd,
        kind,
        pipe: PySlot::new(pipe.unbind()),
        abandoned: PySlot::empty(),
    };
    // From here on the transport owns the file. If the rest fails it is dropped, and closes it.
    let made = class::allocate(py, P::new(end, &protocol)?)?;
    // SAFETY: made just now, of this kind.
    unsafe { lifecycle::begin::<P>(native, &made)? };
    Ok(made)
}

/// `close()`: ends once everything is written.
pub(crate) fn close<P: Pipe>(pipe: &P, slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    if pipe.is_closing() || pipe.close_without_loop(py)? {
        return Ok(());
    }
    pipe.advance(Lifecycle::Closing);
    if pipe.left_to_write() == 0 {
        pipe.unwatch(py, Direction::Read)?;
        lose(pipe, slf, None);
    }
    Ok(())
}

impl End {
    /// Every reference, for the garbage collector.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &PySlot> {
        self.core.slots().chain([&self.pipe, &self.abandoned])
    }

    /// Whether the file object was closed, or taken out by the program.
    pub(crate) fn has_no_pipe(&self, py: Python<'_>) -> bool {
        !self.pipe.is_set(py)
    }

    /// Has the loop call `_read_ready` from now on. The loop reports a failure, as of that method.
    pub(crate) fn start_watching(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        const METHOD: &str = "_read_ready";
        let Err(error) = self.watch(slf, Direction::Read, METHOD) else {
            return Ok(());
        };
        let Some(native) = self.native(slf.py()) else {
            return Err(error);
        };
        let name = PyString::intern(slf.py(), METHOD);
        report::method_failed(&native, slf, &name, &[], error, self.source(slf.py()))
    }

    /// [`End::watch`] for a caller, in whose context the method is then called.
    pub(crate) fn watch_for_caller(
        &self,
        slf: &Bound<'_, PyAny>,
        direction: Direction,
        method: &str,
    ) -> PyResult<()> {
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
        match self.open_loop(py) {
            Some(native) => watching::remove(py, &native, self.fd, direction).map(drop),
            None => Ok(()),
        }
    }

    /// Where the loop is closed nothing can be scheduled: closes the file at once. Whether it did.
    pub(crate) fn close_without_loop(&self, py: Python<'_>) -> PyResult<bool> {
        if self.open_loop(py).is_some() {
            return Ok(false);
        }
        self.close_pipe(py)?;
        Ok(true)
    }

    /// The transport was dropped without being closed: closes the file. The object goes with the other
    /// fields, which are dropped in turn: it may be anything, a whole chain of transports too.
    pub(crate) fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(pipe) = self.pipe.get(py) {
            self.abandoned.set(py, Some(pipe.unbind()));
        }
        self.close_pipe(py)
    }

    pub(crate) fn close_pipe(&self, py: Python<'_>) -> PyResult<()> {
        self.advance(Lifecycle::Closed);
        match self.pipe.take(py) {
            Some(pipe) => pipe.call_method0(py, pyo3::intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }

    /// What `repr` begins with: the class, its state and the descriptor.
    pub(crate) fn describe(&self, py: Python<'_>, class: &str) -> String {
        let state = match (self.has_no_pipe(py), self.is_closing()) {
            (true, _) => " closed",
            (false, true) => " closing",
            (false, false) => "",
        };
        format!("<{class}{state} fd={}", self.fd)
    }

    /// How `repr` describes the loop's interest in the descriptor.
    pub(crate) fn describe_watch(&self, py: Python<'_>, direction: Direction) -> &'static str {
        if self.has_no_pipe(py) {
            return "closed";
        }
        let Some(native) = self.open_loop(py) else {
            return "open";
        };
        let bit = match direction {
            Direction::Read => 1,
            Direction::Write => 2,
        };
        if watching::mask(py, &native, self.fd) & bit != 0 { "polling" } else { "idle" }
    }
}

transport_field!(get_pipe, P, for [P: Pipe], |py, _slf, this| PyResult::Ok(this.pipe.get(py)));
transport_field!(get_extra, P, for [P: Pipe], |py, _slf, this| PyResult::Ok(this.extra(py)));
transport_field!(get_fileno, P, for [P: Pipe], |_py, _slf, this| PyResult::Ok(this.fd));

/// `transport._pipe = None`: by a program that has closed the file itself.
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
        unsafe { class::state::<P>(&slf) }.pipe.set(py, value);
        Ok(0)
    })
}

/// Of both ends.
pub(super) struct OfPipes<P>(PhantomData<P>);

impl<P: Pipe> OfPipes<P> {
    pub(super) const FIELDS: &'static [ffi::PyGetSetDef] = &[
        // asyncio's `_pipe`, which may be assigned.
        ffi::PyGetSetDef { set: Some(set_pipe::<P>), ..getter(c"_pipe", get_pipe::<P>) },
        getter(c"_extra", get_extra::<P>),
        getter(c"_fileno", get_fileno::<P>),
    ];
}
