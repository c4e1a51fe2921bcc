//! A Rust stream as an asyncio transport.
//!
//! The transport is asyncio's socket transport in all that Python sees: its methods, their errors, the order of
//! a protocol's calls, and what is reported. Behind it is a [`Pipe`] to the task that has the stream.
//!
//! The loop's port keeps the transport until its connection is lost, as a selector keeps others. A protocol is called in
//! the context that the transport was made in.

use std::ffi::CString;
use std::sync::Arc;

use pyo3::exceptions::{PyMemoryError, PyOSError, PyResourceWarning, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyMemoryView, PySlice};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::bytes::{bytes_of, new_bytes};
use super::errors::py_error;
use super::pipe::Pipe;
use super::tether::{Shared, Tether};
use crate::errors::{ends_loop, tell_of};
use crate::python::finalizing;
use crate::python::gil::{GilFlag, PySlot};
use crate::python::imports::copy_context;
use crate::python::trampoline::destroy;

/// asyncio's own limit, in bytes.
const HIGH_WATER: usize = 64 * 1024;

#[pyclass(frozen, name = "RustTransport", module = "tokioloop_bridge", weakref)]
pub(super) struct Transport {
    pipe: Arc<Pipe>,
    event_loop: PySlot,
    protocol: PySlot,
    context: PySlot,
    /// The type of the stream, for `repr`.
    stream: &'static str,
    marks: GilFlag<Marks>,
}

#[derive(Clone, Copy)]
struct Marks {
    /// `close` or `abort` was called, or the stream has failed.
    closing: bool,
    /// `connection_lost` is scheduled, or was called.
    lost: bool,
    /// `write_eof` was called.
    eof: bool,
    reading_paused: bool,
    /// `connection_lost` was called, or never will be.
    done: bool,
    protocol_paused: bool,
    /// The protocol has buffers of its own.
    buffered: bool,
    high: usize,
    low: usize,
}

/// What the pipe has for the protocol.
enum Event {
    Resume,
    Data(Vec<u8>),
    End(std::io::Result<()>),
    Finished(std::io::Result<()>),
}

impl Transport {
    /// A transport whose protocol hears of it from the loop's next iteration on. The driver is not started.
    pub(super) fn open<'py>(
        event_loop: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        pipe: &Arc<Pipe>,
        stream: &'static str,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let marks = Marks {
            closing: false,
            lost: false,
            eof: false,
            reading_paused: false,
            done: false,
            protocol_paused: false,
            buffered: is_buffered(protocol)?,
            high: HIGH_WATER,
            low: HIGH_WATER / 4,
        };
        let transport = Self {
            pipe: Arc::clone(pipe),
            event_loop: PySlot::new(event_loop.clone().unbind()),
            protocol: PySlot::new(protocol.clone().unbind()),
            context: PySlot::new(copy_context(py)?.unbind()),
            stream,
            marks: GilFlag::new(marks),
        };
        let transport = Bound::new(py, transport)?;
        let shared = Arc::clone(pipe) as Arc<dyn Shared>;
        let tether = Tether::new(event_loop, transport.as_any(), serve, shared)?;
        let _ = pipe.tether.set(tether);
        Ok(transport)
    }

    /// Has the loop begin.
    pub(super) fn schedule(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let made = slf.get().protocol(py)?.getattr(intern!(py, "connection_made"))?;
        slf.get().call_soon(py, (made, slf))?;
        slf.get().call_soon(py, (slf.getattr(intern!(py, "_start_reading"))?,))
    }

    /// Undoes what `open` did, where there is no driver.
    pub(super) fn discard(&self, py: Python<'_>) {
        self.set(py, |marks| {
            marks.closing = true;
            marks.lost = true;
        });
        self.release(py);
    }

    fn set(&self, py: Python<'_>, change: impl FnOnce(&mut Marks)) {
        let mut marks = self.marks.get(py);
        change(&mut marks);
        self.marks.set(py, marks);
    }

    fn protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.protocol.get(py).unwrap_or_else(|| py.None().into_bound(py)))
    }

    fn call_soon<'py>(
        &self,
        py: Python<'py>,
        call: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<()> {
        let event_loop = self.event_loop.get(py);
        let Some(event_loop) = event_loop else { return Ok(()) };
        event_loop.call_method1(intern!(py, "call_soon"), call).map(drop)
    }

    /// Takes what the pipe has next for the protocol.
    fn next(&self, py: Python<'_>) -> Option<Event> {
        let marks = self.marks.get(py);
        let mut state = self.pipe.state.lock();
        state.asked = false;
        if marks.lost {
            return None;
        }
        if marks.protocol_paused && state.size() <= marks.low {
            return Some(Event::Resume);
        }
        if !marks.closing && !marks.reading_paused {
            if !state.arrived.is_empty() {
                drop(state);
                return Some(Event::Data(
                    self.pipe.change(|state| std::mem::take(&mut state.arrived)),
                ));
            }
            if let Some(end) = state.read_end.take() {
                return Some(Event::End(end));
            }
        }
        // An end before all has been delivered waits for that, a failure does not.
        let waits = !marks.closing && !state.arrived.is_empty();
        if waits && !matches!(state.finished, Some(Err(_))) {
            return None;
        }
        state.finished.take().map(Event::Finished)
    }

    fn deliver(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        while let Some(event) = this.next(py) {
            match event {
                Event::Resume => this.resume_protocol(slf)?,
                Event::Data(data) => {
                    this.receive(slf, &data)?;
                    // One chunk an iteration: the next comes with a letter of its own.
                    this.look_again();
                    return Ok(());
                }
                Event::End(Ok(())) => this.end(slf)?,
                Event::End(Err(error)) => {
                    let error = py_error(py, error);
                    this.fatal(slf, error, "Fatal read error on Rust stream transport")?;
                }
                Event::Finished(Ok(())) => this.lose(slf, None)?,
                Event::Finished(Err(error)) => {
                    let error = py_error(py, error);
                    this.fatal(slf, error, "Fatal write error on Rust stream transport")?;
                }
            }
        }
        Ok(())
    }

    fn receive(&self, slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let py = slf.py();
        let protocol = self.protocol(py)?;
        if !self.marks.get(py).buffered {
            let data = match new_bytes(py, data) {
                Ok(data) => data,
                Err(error) => {
                    return self.fatal(slf, error, "Fatal read error on Rust stream transport");
                }
            };
            let received = protocol.call_method1(intern!(py, "data_received"), (data,));
            return self.check(slf, received, "Fatal error: protocol.data_received() call failed.");
        }
        let mut rest = data;
        while !rest.is_empty() {
            let size = rest.len();
            let buffer = protocol.call_method1(intern!(py, "get_buffer"), (size,));
            let filled = buffer.and_then(|buffer| fill(&buffer, rest));
            let filled = match filled {
                Ok(filled) => filled,
                Err(error) => {
                    let message = "Fatal error: protocol.get_buffer() call failed.";
                    return self.check(slf, Err(error), message);
                }
            };
            rest = &rest[filled..];
            let updated = protocol.call_method1(intern!(py, "buffer_updated"), (filled,));
            let message = "Fatal error: protocol.buffer_updated() call failed.";
            self.check(slf, updated, message)?;
            if self.marks.get(py).closing {
                break;
            }
        }
        Ok(())
    }

    fn end(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let kept = self.protocol(py)?.call_method0(intern!(py, "eof_received"));
        match kept.and_then(|it| it.is_truthy()) {
            Ok(true) => Ok(()),
            Ok(false) => self.shut(slf),
            Err(error) => {
                self.fatal(slf, error, "Fatal error: protocol.eof_received() call failed.")
            }
        }
    }

    fn check(
        &self,
        slf: &Bound<'_, Self>,
        called: PyResult<Bound<'_, PyAny>>,
        message: &str,
    ) -> PyResult<()> {
        called.map_or_else(|error| self.fatal(slf, error, message), |_| Ok(()))
    }

    /// As asyncio's `_fatal_error`.
    fn fatal(&self, slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        if ends_loop(py, &error) {
            return Err(error);
        }
        // The usual ends of connections are the protocol's alone, unless someone looks for bugs.
        if !error.is_instance_of::<PyOSError>(py) {
            self.tell(slf, &error, message)?;
        }
        self.lose(slf, Some(error))
    }

    fn tell(&self, slf: &Bound<'_, Self>, error: &PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        let Some(event_loop) = self.event_loop.get(py) else { return Ok(()) };
        let protocol = self.protocol(py)?;
        tell_of(
            &event_loop,
            message,
            error,
            &[("transport", slf.as_any()), ("protocol", &protocol)],
        )
    }

    fn shut(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if self.marks.get(py).closing {
            return Ok(());
        }
        self.set(py, |marks| marks.closing = true);
        self.pipe.change(|state| state.closing = true);
        Ok(())
    }

    /// As asyncio's `_force_close`.
    fn lose(&self, slf: &Bound<'_, Self>, error: Option<PyErr>) -> PyResult<()> {
        let py = slf.py();
        if self.marks.get(py).lost {
            return Ok(());
        }
        self.set(py, |marks| {
            marks.closing = true;
            marks.lost = true;
        });
        let unsent = self.pipe.change(|state| {
            state.aborted = true;
            std::mem::take(&mut state.unsent)
        });
        drop(unsent);
        let error = error.map(|error| error.into_value(py));
        self.call_soon(py, (slf.getattr(intern!(py, "_call_connection_lost"))?, error))
    }

    fn resume_protocol(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        self.set(py, |marks| marks.protocol_paused = false);
        let resumed = self.protocol(py)?.call_method0(intern!(py, "resume_writing"));
        self.tell_unless_fatal(slf, resumed, "protocol.resume_writing() failed")
    }

    fn pause_protocol_if_due(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let marks = self.marks.get(py);
        let size = self.pipe.state.lock().size();
        if marks.protocol_paused || size <= marks.high {
            return Ok(());
        }
        self.set(py, |marks| marks.protocol_paused = true);
        let paused = self.protocol(py)?.call_method0(intern!(py, "pause_writing"));
        let told = self.tell_unless_fatal(slf, paused, "protocol.pause_writing() failed");
        // From now on the driver says when there is room, which there may be already.
        let low = self.marks.get(py).low;
        self.pipe.change(|state| state.wanted_below = Some(low));
        if self.pipe.state.lock().size() <= low
            && let Some(tether) = self.pipe.tether.get()
        {
            tether.ask();
        }
        told
    }

    fn tell_unless_fatal(
        &self,
        slf: &Bound<'_, Self>,
        called: PyResult<Bound<'_, PyAny>>,
        message: &str,
    ) -> PyResult<()> {
        match called {
            Ok(_) => Ok(()),
            Err(error) if ends_loop(slf.py(), &error) => Err(error),
            Err(error) => self.tell(slf, &error, message),
        }
    }

    fn push(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        if self.marks.get(py).lost {
            return Ok(());
        }
        self.pipe.change(|state| {
            state.unsent.try_reserve(data.len()).map_err(|_| PyMemoryError::new_err(()))?;
            state.unsent.extend_from_slice(data);
            Ok(())
        })
    }

    /// Forgets the Python objects, in the loop's thread.
    fn release(&self, py: Python<'_>) {
        self.set(py, |marks| marks.done = true);
        if let Some(tether) = self.pipe.tether.get() {
            tether.release(py);
        }
        for slot in [&self.protocol, &self.event_loop, &self.context] {
            slot.set(py, None);
        }
    }

    /// Asks for another delivery if the stream has ended, which was reported already.
    fn look_again(&self) {
        let mut state = self.pipe.state.lock();
        let ended = state.read_end.is_some() || state.finished.is_some();
        let ask = ended && !state.asked;
        state.asked |= ask;
        drop(state);
        if ask {
            self.deliver_later();
        }
    }

    fn deliver_later(&self) {
        if let Some(tether) = self.pipe.tether.get() {
            tether.ask();
        }
    }
}

/// Delivers what the pipe has, in the transport's context.
fn serve(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let Ok(transport) = object.cast::<Transport>() else { return Ok(()) };
    let Some(context) = transport.get().context.get(py) else { return Ok(()) };
    let deliver = transport.getattr(intern!(py, "_deliver"))?;
    context.call_method1(intern!(py, "run"), (deliver,)).map(drop)
}

fn is_buffered(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    protocol.is_instance(CLASS.import(protocol.py(), "asyncio", "BufferedProtocol")?)
}

/// Copies what fits into a protocol's buffer; how much that was, in bytes.
fn fill(buffer: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<usize> {
    let py = buffer.py();
    let view = PyMemoryView::from(buffer)?.call_method1(intern!(py, "cast"), ("B",))?;
    let size = view.len()?.min(data.len());
    if size == 0 {
        return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
    }
    view.set_item(PySlice::new(py, 0, size as isize, 1), new_bytes(py, &data[..size])?)?;
    Ok(size)
}

fn limits(high: Option<isize>, low: Option<isize>) -> PyResult<(usize, usize)> {
    let high = high.unwrap_or_else(|| low.map_or(HIGH_WATER as isize, |low| low.saturating_mul(4)));
    let low = low.unwrap_or(high / 4);
    if !(high >= low && low >= 0) {
        return Err(PyValueError::new_err(format!(
            "high ({high}) must be >= low ({low}) must be >= 0"
        )));
    }
    Ok((high as usize, low as usize))
}

#[pymethods]
impl Transport {
    /// `start_tls` works on it.
    #[classattr]
    fn _start_tls_compatible() -> bool {
        finalizing::guard();
        true
    }

    /// Nothing is known of a Rust stream.
    #[pyo3(signature = (name, default = None))]
    #[expect(unused_variables, reason = "the name is the argument's in Python")]
    fn get_extra_info(
        &self,
        name: &Bound<'_, PyAny>,
        default: Option<Py<PyAny>>,
    ) -> Option<Py<PyAny>> {
        finalizing::guard();
        default
    }

    fn is_closing(&self, py: Python<'_>) -> bool {
        finalizing::guard();
        self.marks.get(py).closing
    }

    /// Sends what was written, shuts the stream down, and drops it.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        finalizing::guard();
        slf.get().shut(slf)
    }

    /// Drops the stream, and what was not sent.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        finalizing::guard();
        slf.get().lose(slf, None)
    }

    /// As asyncio's own, which its TLS calls.
    fn _force_close(slf: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        finalizing::guard();
        slf.get().lose(slf, exc.map(PyErr::from_value))
    }

    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        let buffered = is_buffered(protocol)?;
        let py = protocol.py();
        self.set(py, |marks| marks.buffered = buffered);
        self.protocol.set(py, Some(protocol.clone().unbind()));
        Ok(())
    }

    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        finalizing::guard();
        self.protocol.get(py).map(Bound::unbind)
    }

    fn is_reading(&self, py: Python<'_>) -> bool {
        finalizing::guard();
        let marks = self.marks.get(py);
        !marks.closing && !marks.reading_paused
    }

    fn pause_reading(&self, py: Python<'_>) {
        finalizing::guard();
        let marks = self.marks.get(py);
        if marks.closing || marks.reading_paused {
            return;
        }
        self.set(py, |marks| marks.reading_paused = true);
        self.pipe.state.lock().reading = false;
    }

    fn resume_reading(&self, py: Python<'_>) {
        finalizing::guard();
        let marks = self.marks.get(py);
        if marks.closing || !marks.reading_paused {
            return;
        }
        self.set(py, |marks| marks.reading_paused = false);
        self.pipe.change(|state| state.reading = true);
        // For what arrived before the pause.
        self.deliver_later();
    }

    fn _start_reading(&self, py: Python<'_>) {
        finalizing::guard();
        let marks = self.marks.get(py);
        if !marks.closing && !marks.reading_paused {
            self.pipe.change(|state| state.reading = true);
        }
    }

    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        let (py, this) = (slf.py(), slf.get());
        let data = bytes_of(data)?;
        if this.marks.get(py).eof {
            return Err(PyRuntimeError::new_err("Cannot call write() after write_eof()"));
        }
        if data.as_bytes().is_empty() {
            return Ok(());
        }
        this.push(py, data.as_bytes())?;
        this.pause_protocol_if_due(slf)
    }

    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        let py = slf.py();
        let joined = PyBytes::new(py, b"").call_method1(intern!(py, "join"), (list_of_data,))?;
        Self::write(slf, &joined)
    }

    fn write_eof(&self, py: Python<'_>) {
        finalizing::guard();
        let marks = self.marks.get(py);
        if marks.closing || marks.eof {
            return;
        }
        self.set(py, |marks| marks.eof = true);
        self.pipe.change(|state| state.eof = true);
    }

    fn can_write_eof(&self) -> bool {
        finalizing::guard();
        true
    }

    fn get_write_buffer_size(&self) -> usize {
        finalizing::guard();
        self.pipe.state.lock().size()
    }

    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        finalizing::guard();
        let marks = self.marks.get(py);
        (marks.low, marks.high)
    }

    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<isize>,
        low: Option<isize>,
    ) -> PyResult<()> {
        finalizing::guard();
        let (high, low) = limits(high, low)?;
        let this = slf.get();
        this.set(slf.py(), |marks| {
            marks.high = high;
            marks.low = low;
        });
        if this.marks.get(slf.py()).protocol_paused {
            this.pipe.change(|state| state.wanted_below = Some(low));
            this.deliver_later();
        }
        this.pause_protocol_if_due(slf)
    }

    fn _deliver(slf: &Bound<'_, Self>) -> PyResult<()> {
        finalizing::guard();
        Self::deliver(slf)
    }

    fn _call_connection_lost(slf: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        finalizing::guard();
        let (py, this) = (slf.py(), slf.get());
        let called = match this.protocol.get(py) {
            Some(protocol) => {
                protocol.call_method1(intern!(py, "connection_lost"), (exc,)).map(drop)
            }
            None => Ok(()),
        };
        this.release(py);
        called
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        finalizing::guard();
        let marks = self.marks.get(py);
        let state = match (marks.lost, marks.closing) {
            (true, _) => " closed",
            (_, true) => " closing",
            _ => "",
        };
        format!("<RustTransport{state} {} bufsize={}>", self.stream, self.get_write_buffer_size())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.event_loop.traverse(&visit)?;
        self.protocol.traverse(&visit)?;
        self.context.traverse(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        finalizing::guard();
        for slot in [&self.protocol, &self.event_loop, &self.context] {
            slot.set(py, None);
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
        self.pipe.change(|state| state.aborted = true);
        // SAFETY: transports are Python objects, or about to be: they are dropped with the GIL held.
        let py = unsafe { Python::assume_attached() };
        if !self.marks.get(py).done && !finalizing::has_begun() {
            // SAFETY: as above.
            unsafe { destroy(|py| warn_unclosed(py, self.stream)) };
        }
    }
}

/// As the destructor of asyncio's transports.
fn warn_unclosed(py: Python<'_>, stream: &str) {
    let Ok(text) = CString::new(format!("unclosed transport <RustTransport {stream}>")) else {
        return;
    };
    if let Err(error) = PyErr::warn(py, &py.get_type::<PyResourceWarning>(), &text, 1) {
        error.write_unraisable(py, None);
    }
}
