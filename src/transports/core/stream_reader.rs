//! Feeding a stream's reader without its three Python frames a packet.
//!
//! Only for readers of ours and exactly asyncio's, whose methods and whose protocol's are their own;
//! anything else gets the bytes through `data_received`.

use pyo3::exceptions::PyNotImplementedError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyInt, PyWeakrefMethods, PyWeakrefReference};

use crate::ffi::futures;
use crate::ffi::imports;
use crate::streams::{self, is_method};

/// The functions that this module replaces, as asyncio has them.
struct Originals {
    data_received: Py<PyAny>,
    feed_data: Py<PyAny>,
    /// What `StreamReaderProtocol` finds its reader by: a property.
    stream_reader: Py<PyAny>,
    getattribute: Py<PyAny>,
}

fn originals(py: Python<'_>) -> PyResult<&Originals> {
    static CACHE: PyOnceLock<Originals> = PyOnceLock::new();
    CACHE.get_or_try_init(py, || {
        let asyncio = imports::asyncio(py)?;
        Ok(Originals {
            data_received: asyncio.stream_reader_protocol.getattr(py, "data_received")?,
            feed_data: asyncio.stream_reader.getattr(py, "feed_data")?,
            stream_reader: asyncio.stream_reader_protocol.getattr(py, "_stream_reader")?,
            getattribute: asyncio.stream_reader_protocol.getattr(py, "__getattribute__")?,
        })
    })
}

/// Remembers asyncio's functions before a program can patch them.
pub(crate) fn remember(py: Python<'_>) -> PyResult<()> {
    originals(py).map(drop)
}

/// Whether a protocol's stream reader may be fed natively, as far as the protocol decides that: it is
/// asyncio's, or derives from it and leaves alone how data reaches the reader.
pub(crate) fn can_feed(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = protocol.py();
    let (class, asyncios) = (protocol.get_type(), &imports::asyncio(py)?.stream_reader_protocol);
    if !class.is(asyncios) {
        let originals = originals(py)?;
        let plain = class.is_subclass(asyncios.bind(py))?
            && !class.hasattr("__getattr__")?
            && class.getattr("__getattribute__")?.is(&originals.getattribute)
            && class.getattr("_stream_reader")?.is(&originals.stream_reader);
        if !plain {
            return Ok(false);
        }
    }
    // A method that was deleted is missed when there is data, as by asyncio.
    let method = protocol.getattr(pyo3::intern!(py, "data_received"));
    let original = &originals(py)?.data_received;
    Ok(method.is_ok_and(|method| is_method(&method, original)))
}

/// Where received bytes go.
pub(crate) enum Destination<'py> {
    Reader(Reader<'py>),
    /// The reader was collected: asyncio drops what comes in.
    Dropped,
    /// The reader is derived or patched: `data_received` gets the bytes, from here on.
    Protocol,
}

/// A reader that takes bytes.
pub(crate) enum Reader<'py> {
    Native(streams::Reader<'py>),
    Asyncios(AsynciosReader<'py>),
}

/// An `asyncio.StreamReader` and its `_buffer`.
pub(crate) struct AsynciosReader<'py> {
    reader: Bound<'py, PyAny>,
    buffer: Bound<'py, PyAny>,
}

/// Where bytes for a protocol go that [`can_feed`] was true of.
pub(crate) fn destination<'py>(protocol: &Bound<'py, PyAny>) -> PyResult<Destination<'py>> {
    let py = protocol.py();
    let Some(reader) = reader_of(protocol)? else {
        return Ok(Destination::Dropped);
    };
    if let Some(reader) = streams::Reader::plain(&reader)? {
        return Ok(if reader.takes_data() {
            Destination::Reader(Reader::Native(reader))
        } else {
            Destination::Protocol
        });
    }
    if !reader.get_type().is(&imports::asyncio(py)?.stream_reader) {
        return Ok(Destination::Protocol);
    }
    let buffer = reader.getattr(pyo3::intern!(py, "_buffer"))?;
    let feed_data = reader.getattr(pyo3::intern!(py, "feed_data"))?;
    let exact = buffer.is_exact_instance_of::<PyByteArray>()
        && is_method(&feed_data, &originals(py)?.feed_data)
        // It asserts that there was no end before.
        && !reader.getattr(pyo3::intern!(py, "_eof"))?.is_truthy()?;
    Ok(if exact {
        Destination::Reader(Reader::Asyncios(AsynciosReader { reader, buffer }))
    } else {
        Destination::Protocol
    })
}

/// The protocol's reader, through its weak reference.
fn reader_of<'py>(protocol: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let reference = protocol.getattr(pyo3::intern!(protocol.py(), "_stream_reader_wr"))?;
    match reference.cast::<PyWeakrefReference>() {
        Ok(reference) => Ok(reference.upgrade()),
        Err(_) => Ok(None),
    }
}

impl Reader<'_> {
    /// `_buffer.extend(data)`; the new length, as far as `finish_feed` needs it. Runs no Python code.
    #[inline]
    pub(crate) fn append(&self, data: &[u8]) -> PyResult<usize> {
        match self {
            Self::Native(reader) => reader.append(data).map(|()| 0),
            Self::Asyncios(reader) => reader.append(data),
        }
    }

    /// The same, of an object that may be kept as it is.
    pub(crate) fn append_whole(&self, data: Bound<'_, PyBytes>) -> PyResult<usize> {
        match self {
            Self::Native(reader) => reader.append_whole(data).map(|()| 0),
            Self::Asyncios(reader) => reader.append(data.as_bytes()),
        }
    }

    /// Whether the next bytes are best received as an object.
    pub(crate) fn keeps_objects(&self) -> bool {
        match self {
            Self::Native(reader) => reader.is_free(),
            Self::Asyncios(_) => false,
        }
    }

    /// The second half of `feed_data`, behind `extend`.
    #[inline]
    pub(crate) fn finish_feed(&self, length: usize) -> PyResult<()> {
        match self {
            Self::Native(reader) => reader.finish_feed(),
            Self::Asyncios(reader) => reader.finish_feed(length),
        }
    }
}

impl AsynciosReader<'_> {
    fn append(&self, data: &[u8]) -> PyResult<usize> {
        let buffer = self.buffer.as_ptr();
        // SAFETY: exactly a bytearray, the GIL is held; after the resize it has room for `data`
        // behind what it held.
        unsafe {
            let before = ffi::PyByteArray_Size(buffer) as usize;
            let after = before + data.len();
            if ffi::PyByteArray_Resize(buffer, after as ffi::Py_ssize_t) != 0 {
                return Err(PyErr::fetch(self.buffer.py()));
            }
            let start = ffi::PyByteArray_AsString(buffer).cast::<u8>();
            std::ptr::copy_nonoverlapping(data.as_ptr(), start.add(before), data.len());
            Ok(after)
        }
    }

    /// The second half of `feed_data`, behind `extend`: wakes the coroutine that reads, and pauses
    /// the transport if too much was buffered.
    fn finish_feed(&self, length: usize) -> PyResult<()> {
        let (py, reader) = (self.reader.py(), &self.reader);
        let waiter_name = pyo3::intern!(py, "_waiter");
        let waiter = reader.getattr(waiter_name)?;
        if !waiter.is_none() {
            reader.setattr(waiter_name, py.None())?;
            futures::wake(&waiter, None)?;
        }
        let limit = reader.getattr(pyo3::intern!(py, "_limit"))?;
        if limit.is_exact_instance_of::<PyInt>()
            && let Ok(limit) = limit.extract::<usize>()
            && length <= limit.saturating_mul(2)
        {
            return Ok(());
        }
        let paused = pyo3::intern!(py, "_paused");
        let transport_name = pyo3::intern!(py, "_transport");
        let transport = reader.getattr(transport_name)?;
        if transport.is_none() || reader.getattr(paused)?.is_truthy()? {
            return Ok(());
        }
        // asyncio only compares: a limit may be any object that can be doubled.
        if !length.into_pyobject(py)?.gt(2_i32.into_pyobject(py)?.mul(limit)?)? {
            return Ok(());
        }
        match transport.call_method0(pyo3::intern!(py, "pause_reading")) {
            Ok(_) => reader.setattr(paused, true),
            // As asyncio: a transport that cannot pause is not asked again.
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
                reader.setattr(transport_name, py.None())
            }
            Err(error) => Err(error),
        }
    }
}
