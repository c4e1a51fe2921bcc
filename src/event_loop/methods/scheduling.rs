//! Methods called for every callback, as plain C functions: no argument tuple, no wrapper.

use std::ptr::null_mut;

use pyo3::exceptions::{PyMemoryError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyType};

use crate::event_loop::NativeLoop;
use crate::event_loop::Queued;
use crate::event_loop::handles::{Call, Handle};
use crate::event_loop::timers::Timer;
use crate::event_loop::timers::alarm::monotonic;
use crate::ffi::arguments::{Arg, Args, Matching};
use crate::ffi::definitions::{Definitions, METHODS_END, add_methods, fast_method, plain_method};
use crate::ffi::finalizing;
use crate::ffi::object::Object;
use crate::ffi::trampoline::enter;
use crate::ffi::tuples::arguments;

/// Where a method's own parameters end and the callback's arguments begin.
struct Scheduled<'a, 'py> {
    time: Option<Arg<'a, 'py>>,
    call: Call<'a, 'py>,
}

/// Reads `([time,] callback, *args, context=None)`.
#[inline(always)]
fn parse<'a, 'py>(
    method: &str,
    time: Option<&'static str>,
    args: &Args<'a, 'py>,
) -> PyResult<Scheduled<'a, 'py>> {
    let only_context = args.only_context();
    let (time, callback, rest, context) = match (time, args.positional) {
        _ if args.has_keywords() && only_context.is_none() => {
            return parse_named(method, time, args);
        }
        (None, [callback, rest @ ..]) => (None, *callback, rest, only_context),
        (Some(_), [time, callback, rest @ ..]) => (Some(*time), *callback, rest, only_context),
        _ => return parse_named(method, time, args),
    };
    let context = context.filter(|context| !context.is_none());
    Ok(Scheduled { time, call: Call { callback, args: rest, context } })
}

/// The same where more is named than the context, or something is missing.
#[cold]
fn parse_named<'a, 'py>(
    method: &str,
    time: Option<&'static str>,
    args: &Args<'a, 'py>,
) -> PyResult<Scheduled<'a, 'py>> {
    // As CPython names asyncio's method in the texts of errors.
    let method = format!("BaseEventLoop.{method}");
    let (time, callback, context) = match time {
        Some(time) => {
            let [time, callback, context] =
                args.bind(&method, [time, "callback", "context"], 2, 2)?;
            (time, callback, context)
        }
        None => {
            let [callback, context] = args.bind(&method, ["callback", "context"], 1, 1)?;
            (None, callback, context)
        }
    };
    // `bind` has raised if there is none.
    let Some(callback) = callback else { return Err(PyTypeError::new_err("no callback")) };
    let own = 1 + usize::from(time.is_some());
    let rest = args.positional.get(own..).unwrap_or(&[]);
    let context = context.filter(|context| !context.is_none());
    Ok(Scheduled { time, call: Call { callback, args: rest, context } })
}

/// What asyncio checks in debug mode, and the traceback it keeps.
#[cold]
fn check_in_debug(
    py: Python<'_>,
    event_loop: &NativeLoop,
    method: &str,
    callback: Arg<'_, '_>,
    caller: Caller,
) -> PyResult<()> {
    let event_loop = event_loop.bind(py);
    if caller == Caller::LoopThread {
        event_loop.call_method0("_check_thread")?;
    }
    event_loop.call_method1("_check_callback", (callback, method))?;
    Ok(())
}

/// Which threads may call a method.
#[derive(Clone, Copy, PartialEq)]
enum Caller {
    /// The one that runs the loop.
    LoopThread,
    AnyThread,
}

#[inline]
fn soon<'py>(
    event_loop: &NativeLoop,
    args: &Args<'_, 'py>,
    py: Python<'py>,
    method: &'static str,
    caller: Caller,
) -> PyResult<Object> {
    let call = parse(method, None, args)?.call;
    event_loop.check_closed(py)?;
    let debug = event_loop.is_debug(py);
    if debug {
        check_in_debug(py, event_loop, method, call.callback, caller)?;
    }
    if caller == Caller::AnyThread {
        // The other thread waits for a result, often, and then has more to do.
        event_loop.set_answered(py, true);
    }
    if !debug && call.args.len() <= Queued::MOST_ARGUMENTS {
        let handle = Queued::push(py, event_loop, &call, caller == Caller::AnyThread)?;
        return Ok(handle.into_ptr());
    }
    let handle = match caller {
        Caller::LoopThread => Handle::new(py, event_loop, &call)?,
        Caller::AnyThread => Handle::thread_safe(py, event_loop, &call)?,
    };
    if debug {
        handle.remember_source(py)?;
    }
    let given = handle.give(py, event_loop);
    event_loop.push_handle(py, handle)?;
    Ok(given.into_ptr())
}

/// `call_soon` as most code calls it while the loop runs; `None`, with nothing done, for all other calls.
///
/// It runs no Python code, releases nothing, and neither fails nor panics. So it needs no frame, and
/// takes less time than that would.
#[inline(always)]
fn soon_again(event_loop: &NativeLoop, args: &Args<'_, '_>, py: Python<'_>) -> Option<Object> {
    let context = match args.names {
        Some(_) => Some(args.context_as_before()?),
        None => None,
    };
    let ([callback, rest @ ..], false) =
        (args.positional, event_loop.is_closed(py) || event_loop.is_debug(py))
    else {
        return None;
    };
    let context = context.filter(|context| !context.is_none());
    let call = Call { callback: *callback, args: rest, context };
    Queued::push_again(py, event_loop, &call).map(Handle::into_ptr)
}

/// A deadline: as the heap has it, and as it was given if that was not exactly a `float`.
struct Deadline<'py> {
    when: f64,
    given: Option<Bound<'py, PyAny>>,
}

impl<'py> Deadline<'py> {
    fn of(given: Bound<'py, PyAny>) -> PyResult<Self> {
        let when = given.extract::<f64>()?;
        // SAFETY: any live object may be asked, and `given` is a reference to one.
        let plain = unsafe { ffi::PyFloat_CheckExact(given.as_ptr()) } != 0;
        Ok(Self { when, given: (!plain).then_some(given) })
    }
}

/// `deadline` is asked for after asyncio's own checks.
#[inline]
fn at<'py>(
    py: Python<'py>,
    event_loop: &NativeLoop,
    call: &Call<'_, '_>,
    deadline: impl FnOnce() -> PyResult<Deadline<'py>>,
) -> PyResult<Object> {
    event_loop.check_closed(py)?;
    let debug = event_loop.is_debug(py);
    if debug {
        check_in_debug(py, event_loop, "call_at", call.callback, Caller::LoopThread)?;
    }
    let deadline = deadline()?;
    let when = deadline.when;
    if when.is_nan() {
        return Err(PyValueError::new_err("Invalid delay: NaN (not a number)"));
    }
    let handle = Handle::timer(py, event_loop, call, when, deadline.given.as_ref())?;
    if debug {
        handle.remember_source(py)?;
    }
    let given = handle.give(py, event_loop);
    event_loop.add_timer(py, Timer::Handle(handle), when)?;
    Ok(given.into_ptr())
}

/// Defines a method of the loop that takes its arguments as a slice; the body gives a
/// `PyResult<Object>`.
macro_rules! loop_method {
    ($name:ident, |$py:ident, $event_loop:ident, $args:ident| $body:expr) => {
        unsafe extern "C" fn $name(
            slf: Object,
            args: *const Object,
            count: ffi::Py_ssize_t,
            names: Object,
        ) -> Object {
            // SAFETY: CPython calls this, and holds the GIL, which serialises the queue.
            let held = unsafe { Python::assume_attached() };
            enter(held, null_mut(), |$py| {
                // SAFETY: a method of the loop's class; `slf` is alive for the call.
                let $event_loop = unsafe { NativeLoop::of(slf) };
                // SAFETY: CPython's own arguments, which it keeps for the call.
                let $args = unsafe { Args::new($py, args, count, names) };
                $body
            })
        }
    };
}

unsafe extern "C" fn call_soon(
    slf: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: CPython calls this with its own arguments, which it keeps for the call, for an instance of
    // the loop's class, and holds the GIL.
    unsafe {
        finalizing::guard();
        let py = Python::assume_attached();
        let scheduled = soon_again(NativeLoop::of(slf), &Args::new(py, args, count, names), py);
        scheduled.unwrap_or_else(|| call_soon_in_frame(slf, args, count, names))
    }
}

loop_method!(call_soon_in_frame, |py, event_loop, args| {
    soon(event_loop, &args, py, "call_soon", Caller::LoopThread)
});

loop_method!(call_soon_threadsafe, |py, event_loop, args| {
    let handle = soon(event_loop, &args, py, "call_soon_threadsafe", Caller::AnyThread)?;
    event_loop.apply_backpressure(py);
    Ok(handle)
});

loop_method!(call_later, |py, event_loop, args| {
    let Scheduled { time: delay, call } = parse("call_later", Some("delay"), &args)?;
    let Some(delay) = delay.filter(|delay| !delay.is_none()) else {
        return Err(PyTypeError::new_err("delay must not be None"));
    };
    // SAFETY: an exact type, checked.
    let seconds = unsafe {
        (ffi::PyFloat_CheckExact(delay.as_ptr()) != 0)
            .then(|| ffi::PyFloat_AS_DOUBLE(delay.as_ptr()))
    };
    if let Some(seconds) = seconds
        && !event_loop.has_custom_timers(py)
    {
        let when = monotonic() + seconds;
        return at(py, event_loop, &call, || Ok(Deadline { when, given: None }));
    }
    // `time() + delay`, whatever those two make of it, and asyncio's error if nothing.
    let when = event_loop.time(py)?.add(delay)?;
    if event_loop.has_custom_call_at(py) {
        return at_by_method(event_loop, when, &call);
    }
    at(py, event_loop, &call, || Deadline::of(when))
});

/// `call_at(when, callback, *args, context=context)` as a program wrote it. As in asyncio the
/// timer's traceback ends with who called `call_later`.
#[cold]
fn at_by_method(
    event_loop: &NativeLoop,
    when: Bound<'_, PyAny>,
    call: &Call<'_, '_>,
) -> PyResult<Object> {
    let py = when.py();
    let mut args = Vec::new();
    args.try_reserve_exact(call.args.len() + 2).map_err(|_| PyMemoryError::new_err(()))?;
    args.extend([when.as_borrowed(), call.callback]);
    args.extend(call.args);
    let context = call.context;
    let options = [(pyo3::intern!(py, "context"), context)].into_py_dict(py)?;
    let timer = event_loop.bind(py).call_method(
        pyo3::intern!(py, "call_at"),
        arguments(py, &args)?,
        Some(&options),
    )?;
    let source = timer.getattr(pyo3::intern!(py, "_source_traceback"))?;
    if source.is_truthy()? {
        source.del_item(-1)?;
    }
    Ok(timer.into_ptr())
}

loop_method!(call_at, |py, event_loop, args| {
    let Scheduled { time: when, call } = parse("call_at", Some("when"), &args)?;
    let Some(when) = when.filter(|when| !when.is_none()) else {
        return Err(PyTypeError::new_err("when cannot be None"));
    };
    at(py, event_loop, &call, || Deadline::of(when.to_owned()))
});

unsafe extern "C" fn time(_slf: Object, _: Object) -> Object {
    // SAFETY: called with the GIL held.
    unsafe { ffi::PyFloat_FromDouble(monotonic()) }
}

macro_rules! flag {
    ($name:ident, |$py:ident, $event_loop:ident| $value:expr) => {
        unsafe extern "C" fn $name(slf: Object, _: Object) -> Object {
            // SAFETY: a method of the loop's class, called with the GIL held.
            unsafe {
                let ($py, $event_loop) = (Python::assume_attached(), NativeLoop::of(slf));
                ffi::PyBool_FromLong($value.into())
            }
        }
    };
}

flag!(get_debug, |py, event_loop| event_loop.is_debug(py));
flag!(is_closed, |py, event_loop| event_loop.is_closed(py));
flag!(is_running, |py, event_loop| event_loop.is_running(py));

unsafe extern "C" fn check_closed(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a method of the loop's class.
        unsafe { NativeLoop::of(slf) }.check_closed(py)?;
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn stop(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a method of the loop's class.
        unsafe { NativeLoop::of(slf) }.state.stopping.set(py, true);
        Ok(py.None().into_ptr())
    })
}

static METHODS: Definitions<[ffi::PyMethodDef; 11]> = Definitions([
    fast_method(
        c"call_soon",
        call_soon,
        c"call_soon($self, callback, *args, context=None)\n--\n\n\
        Schedule ``callback(*args)`` to be called in the next iteration of the loop.\n\
        \n\
        Return a :class:`Handle`, which can cancel the callback. Callbacks are called in the\n\
        order in which they were scheduled, each in ``context``, a ``contextvars.Context``;\n\
        ``None`` stands for a copy of the current one. As ``asyncio.loop.call_soon``.\n\
        \n\
        Raises ``RuntimeError`` if the loop is closed. In debug mode it also raises\n\
        ``RuntimeError`` in another thread than the loop's, and ``TypeError`` if\n\
        ``callback`` is a coroutine or is not callable.",
    ),
    fast_method(
        c"call_soon_threadsafe",
        call_soon_threadsafe,
        c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\n\
        Schedule ``callback(*args)`` from any thread or signal handler, and wake the loop.\n\
        \n\
        Otherwise like :meth:`call_soon`. As ``asyncio.loop.call_soon_threadsafe``.\n\
        \n\
        Raises ``RuntimeError`` if the loop is closed, and in debug mode ``TypeError`` if\n\
        ``callback`` is a coroutine or is not callable.",
    ),
    fast_method(
        c"call_later",
        call_later,
        c"call_later($self, delay, callback, *args, context=None)\n--\n\n\
        Schedule ``callback(*args)`` to be called after ``delay`` seconds, and never earlier.\n\
        \n\
        Return a :class:`TimerHandle`, which can cancel the callback. ``delay`` is an\n\
        ``int`` or a ``float``; ``context`` is as in :meth:`call_soon`. As\n\
        ``asyncio.loop.call_later``.\n\
        \n\
        Raises ``TypeError`` if ``delay`` is not a number, ``ValueError`` if it is NaN,\n\
        ``RuntimeError`` if the loop is closed, and in debug mode what :meth:`call_soon`\n\
        raises there.",
    ),
    fast_method(
        c"call_at",
        call_at,
        c"call_at($self, when, callback, *args, context=None)\n--\n\n\
        Schedule ``callback(*args)`` to be called at the time ``when``, and never earlier.\n\
        \n\
        ``when`` is in seconds of :meth:`time`. As ``asyncio.loop.call_at``. Otherwise like\n\
        :meth:`call_later`, and raises what that raises.",
    ),
    plain_method(
        c"time",
        time,
        c"time($self, /)\n--\n\n\
        Return the time of the loop's clock in seconds, a ``float``: ``time.monotonic()``.\n\
        \n\
        As ``asyncio.loop.time``. If a subclass overrides it the timers follow the\n\
        subclass's clock.",
    ),
    plain_method(
        c"get_debug",
        get_debug,
        c"get_debug($self, /)\n--\n\n\
        Return True if the loop is in debug mode. As ``asyncio.loop.get_debug``.",
    ),
    plain_method(
        c"is_closed",
        is_closed,
        c"is_closed($self, /)\n--\n\n\
        Return True if the loop was closed. As ``asyncio.loop.is_closed``.",
    ),
    plain_method(
        c"is_running",
        is_running,
        c"is_running($self, /)\n--\n\n\
        Return True if a thread is running the loop. As ``asyncio.loop.is_running``.",
    ),
    plain_method(c"_check_closed", check_closed, c"_check_closed($self, /)\n--\n\n"),
    plain_method(
        c"stop",
        stop,
        c"stop($self, /)\n--\n\n\
        Stop ``run_forever()`` at the end of the current iteration. As ``asyncio.loop.stop``.\n\
        \n\
        If the loop is not running the next ``run_forever()`` runs one iteration.",
    ),
    METHODS_END,
]);

pub(in crate::event_loop) fn install(class: &Bound<'_, PyType>) -> PyResult<()> {
    // SAFETY: functions of the kinds that the table says, for the class of loops.
    unsafe { add_methods(class, &METHODS.0) }
}
