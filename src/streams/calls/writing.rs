//! What calls of writers do: asyncio's algorithms.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::reading::Progress;
use super::state::{Call, Kind};
use crate::ffi::coroutine;
use crate::ffi::memory;
use crate::streams::originals::{is_method, originals};
use crate::streams::reader::Reader;
use crate::streams::writer::Writer;

impl<'py> Call<'py> {
    /// Does what the call is for, until it has to wait. The target is plain.
    pub(super) fn write_on(&self, writer: &Writer<'py>) -> PyResult<Progress<'py>> {
        match self.kind() {
            Kind::Drain => self.drain(writer),
            Kind::WaitClosed => self.wait_closed(writer),
            _ => Ok(Progress::Elsewhere),
        }
    }

    fn drain(&self, writer: &Writer<'py>) -> PyResult<Progress<'py>> {
        let (py, state) = (self.py(), writer.state());
        let (Some(reader), Some(transport)) = (state.reader.get(py), state.transport.get(py))
        else {
            return Ok(Progress::Elsewhere);
        };
        if !self.set_begun() {
            if !reader.is_none() {
                let exception = match Reader::plain(&reader)? {
                    Some(reader) => reader.state().exception.get(py),
                    None => Some(reader.call_method0(intern!(py, "exception"))?),
                };
                if let Some(exception) = exception.filter(|exception| !exception.is_none()) {
                    return Err(PyErr::from_value(exception));
                }
            }
            if transport.call_method0(intern!(py, "is_closing"))?.is_truthy()? {
                // The loop may call `connection_lost()` first: a program that writes and drains for
                // ever has to see that.
                return Ok(Progress::Yields);
            }
        }
        let Some(protocol) = state.protocol.get(py) else { return Ok(Progress::Elsewhere) };
        let helper = protocol.getattr(intern!(py, "_drain_helper"))?;
        if is_method(&helper, &originals(py)?.drain_helper)
            && !protocol.getattr(intern!(py, "_connection_lost"))?.is_truthy()?
            && !protocol.getattr(intern!(py, "_paused"))?.is_truthy()?
        {
            return Ok(Progress::Done(py.None().into_bound(py)));
        }
        self.wait(steps_of(helper.call0()?)?);
        Ok(Progress::Waits)
    }

    fn wait_closed(&self, writer: &Writer<'py>) -> PyResult<Progress<'py>> {
        let py = self.py();
        let Some(protocol) = writer.state().protocol.get(py) else {
            return Ok(Progress::Elsewhere);
        };
        let name = intern!(py, "_get_close_waiter");
        let waiter = protocol.call_method1(name, (writer.as_any(),))?;
        self.wait(steps_of(waiter)?);
        Ok(Progress::Waits)
    }
}

/// What `await` steps of an awaitable.
fn steps_of(awaitable: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: a live object, of which only the type is looked at.
    let in_python = unsafe { ffi::PyCoro_CheckExact(awaitable.as_ptr()) != 0 };
    if in_python || coroutine::is_native(&awaitable) {
        return Ok(awaitable);
    }
    let py = awaitable.py();
    match awaitable.get_type().getattr_opt(intern!(py, "__await__"))? {
        Some(method) => method.call1((awaitable,)),
        None => {
            let text = "object {} can't be used in 'await' expression";
            let name = awaitable.get_type().name()?;
            Err(memory::error::<PyTypeError>(py, text, (name,)))
        }
    }
}
