//! Feeding an `asyncio.StreamReader` without its three Python frames a packet.
//!
//! Only for exactly asyncio's `StreamReaderProtocol` and `StreamReader` with their own methods;
//! anything derived or patched takes the ordinary road through `data_received`.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyWeakrefMethods, PyWeakrefReference};

use super::reading::Received;
use super::{Delivery, Stream};
use crate::cached;
use crate::event_loop::NativeLoop;

/// The functions that this file stands in for, as asyncio has them.
struct Originals {
    data_received: Py<PyAny>,
    feed_data: Py<PyAny>,
}

fn originals(py: Python<'_>) -> PyResult<&Originals> {
    static CACHE: PyOnceLock<Originals> = PyOnceLock::new();
    CACHE.get_or_try_init(py, || {
        let asyncio = cached::asyncio(py)?;
        Ok(Originals {
            data_received: asyncio.stream_reader_protocol.getattr(py, "data_received")?,
            feed_data: asyncio.stream_reader.getattr(py, "feed_data")?,
        })
    })
}

/// Remembers asyncio's functions before anyone can patch them.
pub fn remember(py: Python<'_>) -> PyResult<()> {
    originals(py).map(drop)
}

/// Whether this protocol may be fed natively, as long as nobody patches its reader.
pub fn suits(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = protocol.py();
    Ok(protocol.get_type().is(&cached::asyncio(py)?.stream_reader_protocol)
        && is_method(
            &protocol.getattr(pyo3::intern!(py, "data_received"))?,
            &originals(py)?.data_received,
        ))
}

/// Whether `method` is `function`, bound.
fn is_method(method: &Bound<'_, PyAny>, function: &Py<PyAny>) -> bool {
    method.getattr(pyo3::intern!(method.py(), "__func__")).is_ok_and(|bound| bound.is(function))
}

pub fn read(
    py: Python<'_>,
    stream: &Stream,
    slf: &Bound<'_, PyAny>,
    native: &NativeLoop,
    protocol: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let reader = match reader_of(protocol)? {
        Some(reader) => reader,
        // Nobody holds the reader any more: asyncio drops what comes in.
        None => {
            return match stream.receive_scratch(py, native, |_| ()) {
                Ok(Received::Nothing | Received::Data(())) => Ok(()),
                Ok(Received::End) => stream.received_end(py, slf, native, protocol),
                Err(error) => stream.read_failed(py, slf, &error),
            };
        }
    };
    let buffer = reader.getattr(pyo3::intern!(py, "_buffer"))?;
    let feed_data = reader.getattr(pyo3::intern!(py, "feed_data"))?;
    let exact = reader.get_type().is(&cached::asyncio(py)?.stream_reader)
        && buffer.is_exact_instance_of::<PyByteArray>()
        && is_method(&feed_data, &originals(py)?.feed_data);
    if !exact {
        // A reader that somebody derived or patched: the ordinary road, from here on.
        stream.delivery.set(Delivery::Data);
        return stream.read_bytes(py, slf, native, protocol);
    }
    let received = stream.receive_scratch(py, native, |data| append(&buffer, data));
    match received {
        Ok(Received::Nothing) => Ok(()),
        Ok(Received::End) => stream.received_end(py, slf, native, protocol),
        Ok(Received::Data(appended)) => {
            let fed = appended.and_then(|length| after_feed(py, stream, slf, &reader, length));
            match fed {
                Ok(()) => Ok(()),
                Err(error) => stream.fatal(
                    py,
                    slf,
                    error,
                    "Fatal error: protocol.data_received() call failed.",
                ),
            }
        }
        Err(error) => stream.read_failed(py, slf, &error),
    }
}

/// The protocol's reader, through its weak reference.
fn reader_of<'py>(protocol: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let reference = protocol.getattr(pyo3::intern!(protocol.py(), "_stream_reader_wr"))?;
    match reference.cast::<PyWeakrefReference>() {
        Ok(reference) => Ok(reference.upgrade()),
        Err(_) => Ok(None),
    }
}

/// `buffer.extend(data)`; the new length.
fn append(buffer: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<usize> {
    // SAFETY: exactly a bytearray, the GIL is held; after the resize it has room for `data` behind
    // what it held.
    unsafe {
        let before = ffi::PyByteArray_Size(buffer.as_ptr()) as usize;
        let after = before + data.len();
        if ffi::PyByteArray_Resize(buffer.as_ptr(), after as ffi::Py_ssize_t) != 0 {
            return Err(PyErr::fetch(buffer.py()));
        }
        let start = ffi::PyByteArray_AsString(buffer.as_ptr()).cast::<u8>();
        std::ptr::copy_nonoverlapping(data.as_ptr(), start.add(before), data.len());
        Ok(after)
    }
}

/// What `feed_data` does behind `extend`: wakes the reader, and pauses a flood.
fn after_feed(
    py: Python<'_>,
    stream: &Stream,
    slf: &Bound<'_, PyAny>,
    reader: &Bound<'_, PyAny>,
    length: usize,
) -> PyResult<()> {
    let waiter_name = pyo3::intern!(py, "_waiter");
    let waiter = reader.getattr(waiter_name)?;
    if !waiter.is_none() {
        reader.setattr(waiter_name, py.None())?;
        if !waiter.call_method0(pyo3::intern!(py, "cancelled"))?.is_truthy()? {
            waiter.call_method1(pyo3::intern!(py, "set_result"), (py.None(),))?;
        }
    }
    let limit = reader.getattr(pyo3::intern!(py, "_limit"))?.extract::<usize>()?;
    if length <= limit.saturating_mul(2) {
        return Ok(());
    }
    let paused_name = pyo3::intern!(py, "_paused");
    if reader.getattr(paused_name)?.is_truthy()? {
        return Ok(());
    }
    let transport = reader.getattr(pyo3::intern!(py, "_transport"))?;
    if transport.is(slf) {
        stream.pause(py, slf)?;
        reader.setattr(paused_name, true)?;
    } else if !transport.is_none() {
        // Another layer between us and the reader: asked as asyncio asks it.
        transport.call_method0("pause_reading")?;
        reader.setattr(paused_name, true)?;
    }
    Ok(())
}
