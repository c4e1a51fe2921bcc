//! Methods called once a descriptor, by the Python side of the loop.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyMemoryError, PyOverflowError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use crate::driver::reactor::Direction;
use crate::event_loop::{NativeLoop, watching};

use crate::event_loop::handles::{Call, Handle};

impl NativeLoop {
    fn watch<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        direction: Direction,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = Self::entered(slf);
        this.check_closed(py)?;
        let number = match descriptor(fd) {
            Ok(None) => {
                let text = "Python int too large to convert to C int";
                return Err(PyOverflowError::new_err(text));
            }
            Ok(Some(number)) => Ok(number),
            Err(error) => Err(error),
        };
        // A closed file is still known by its object, as to asyncio's selector.
        let closed = number.is_err().then(|| watching::find(this, fd)).flatten();
        let mut arguments = Vec::new();
        arguments.try_reserve_exact(args.len()).map_err(|_| PyMemoryError::new_err(()))?;
        arguments.extend(args.iter_borrowed());
        let context = context.map(Bound::as_borrowed);
        let call = Call { callback: callback.as_borrowed(), args: &arguments, context };
        let handle = Handle::with_source(py, this, &call)?;
        let object = handle.give(py, this);
        match (number, closed) {
            (Ok(number), _) if fd.is_instance_of::<PyInt>() => {
                watching::add(py, this, number, direction, handle)?;
            }
            (Ok(number), _) => watching::add_object(this, number, fd, direction, handle)?,
            (Err(_), Some(number)) => watching::replace(py, this, number, direction, handle)?,
            (Err(error), None) => return Err(error),
        }
        Ok(object)
    }

    fn unwatch(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        direction: Direction,
    ) -> PyResult<bool> {
        let py = slf.py();
        let this = Self::entered(slf);
        if this.is_closed(py) {
            return Ok(false);
        }
        match descriptor(fd) {
            Ok(Some(number)) => watching::remove(py, this, number, direction),
            Ok(None) => Ok(false),
            // A closed file is still known by its object, as to asyncio's selector.
            Err(error) => watching::remove_closed(this, fd, direction)?.ok_or(error),
        }
    }
}

/// A descriptor's number, with `selectors`' errors for what is none. `None`: no descriptor has one
/// that large.
fn descriptor(fd: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    match fd.cast::<PyInt>().map(|fd| fd.extract::<RawFd>()) {
        Ok(Ok(number)) if number >= 0 => Ok(Some(number)),
        _ => {
            let selectors = fd.py().import("selectors")?;
            Ok(selectors.call_method1("_fileobj_to_fd", (fd,))?.extract::<RawFd>().ok())
        }
    }
}

#[pymethods]
impl NativeLoop {
    #[pyo3(signature = (fd, callback, *args, context=None))]
    fn _add_reader<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::watch(slf, fd, Direction::Read, callback, args, context)
    }

    #[pyo3(signature = (fd, callback, *args, context=None))]
    fn _add_writer<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::watch(slf, fd, Direction::Write, callback, args, context)
    }

    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Direction::Read)
    }

    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Direction::Write)
    }

    /// Opens the descriptors that the loop itself needs. Not left to first need: a number that the
    /// user has just closed must not come back as one of ours.
    fn _open(slf: &Bound<'_, Self>) -> PyResult<()> {
        watching::open(slf.py(), Self::entered(slf))
    }

    /// `selectors` events that `fd` is watched for, 0 for none.
    fn _watched(slf: &Bound<'_, Self>, fd: RawFd) -> u32 {
        watching::mask(slf.py(), Self::entered(slf), fd)
    }

    /// What `add_reader` and `add_writer` registered: the file, its number, `selectors` events, and
    /// the handles of the reader and the writer.
    #[expect(clippy::type_complexity, reason = "a row of a table, unpacked by its only reader")]
    fn _registered<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<Vec<(Bound<'py, PyAny>, RawFd, u32, [Option<Bound<'py, PyAny>>; 2])>> {
        let py = slf.py();
        let this = Self::entered(slf);
        let object = |handle: Option<Handle>| handle.map(|handle| handle.bind(py).clone());
        watching::registered(py, this)
            .into_iter()
            .map(|it| {
                let events = u32::from(it.reader.is_some()) | u32::from(it.writer.is_some()) << 1;
                let file = match it.object {
                    Some(file) => file.into_bound(py),
                    None => it.fd.into_pyobject(py)?.into_any(),
                };
                Ok((file, it.fd, events, [object(it.reader), object(it.writer)]))
            })
            .collect()
    }

    /// The number that a file was registered by, which may be closed by now.
    fn _registered_fd(slf: &Bound<'_, Self>, file: &Bound<'_, PyAny>) -> Option<RawFd> {
        watching::find(Self::entered(slf), file)
    }

    /// The native transport that uses `fd`.
    fn _fd_owner(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
        let this = Self::entered(slf);
        let fd = fd.extract::<RawFd>().ok()?;
        this.sources.with(slf.py(), |sources| sources.owner_of(slf.py(), fd))
    }

    /// Forgets that a native transport uses `fd`; whether one did.
    fn _disown_fd(slf: &Bound<'_, Self>, fd: RawFd) -> bool {
        Self::entered(slf).sources.with(slf.py(), |sources| sources.disown_fd(fd))
    }
}
