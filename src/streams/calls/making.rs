//! The methods that make calls: coroutine functions, which look at their arguments and no more.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyTuple};

use super::class;
use super::state::Kind;
use crate::ffi::arguments::{Arg, Args, Matching};
use crate::ffi::coroutine_function;
use crate::ffi::memory;
use crate::ffi::trampoline::vectorcall;
use crate::primitives::ctypes;
use crate::streams::originals::originals;
use crate::streams::reader::{NativeStreamReader, Reader};
use crate::streams::writer::{NativeStreamWriter, Writer};

/// What a call is made with, besides its target.
struct Asked<'py> {
    kind: Kind,
    size: usize,
    separator: Option<Bound<'py, PyAny>>,
}

impl Asked<'_> {
    const fn plain(kind: Kind) -> Self {
        Self { kind, size: 0, separator: None }
    }
}

vectorcall!(read, |py, _slf, args| of_reader(py, "read", &args, |rest| {
    let Some(size) = rest.only_value("n")? else {
        return Ok(rest.is_empty().then_some(Asked::plain(Kind::ReadAll)));
    };
    Ok(match whole(size) {
        Some(size) if size < 0 => Some(Asked::plain(Kind::ReadAll)),
        Some(size) => Some(Asked { kind: Kind::Read, size: size as usize, separator: None }),
        None => None,
    })
}));

vectorcall!(readexactly, |py, _slf, args| of_reader(py, "readexactly", &args, |rest| {
    let size = rest.only_value("n")?.and_then(whole);
    Ok(match size {
        Some(size) if size >= 0 => {
            Some(Asked { kind: Kind::ReadExactly, size: size as usize, separator: None })
        }
        _ => None,
    })
}));

vectorcall!(readuntil, |py, _slf, args| of_reader(py, "readuntil", &args, |rest| {
    let separator = match rest.only_value("separator")? {
        Some(separator) => separator.to_owned(),
        None if rest.is_empty() => PyBytes::new(py, b"\n").into_any(),
        None => return Ok(None),
    };
    let known = is_separator(&separator)
        || (cfg!(Py_3_13)
            && separator
                .cast_exact::<PyTuple>()
                .is_ok_and(|all| !all.is_empty() && all.iter().all(|it| is_separator(&it))));
    Ok(known.then_some(Asked { kind: Kind::ReadUntil, size: 0, separator: Some(separator) }))
}));

vectorcall!(readline, |py, _slf, args| of_reader(py, "readline", &args, |rest| {
    Ok(rest.is_empty().then_some(Asked::plain(Kind::ReadLine)))
}));

vectorcall!(anext, |py, _slf, args| of_reader(py, "__anext__", &args, |rest| {
    Ok(rest.is_empty().then_some(Asked::plain(Kind::Next)))
}));

vectorcall!(drain, |py, _slf, args| of_writer(py, "drain", &args, Kind::Drain));

vectorcall!(wait_closed, |py, _slf, args| of_writer(py, "wait_closed", &args, Kind::WaitClosed));

/// The arguments behind the object of a method.
struct Rest<'a, 'py> {
    args: &'a Args<'a, 'py>,
}

impl<'a, 'py> Rest<'a, 'py> {
    fn is_empty(&self) -> bool {
        self.args.positional.len() == 1 && !self.args.has_keywords()
    }

    /// The value of a parameter, if there is one argument in all.
    #[inline]
    fn only_value(&self, name: &str) -> PyResult<Option<Arg<'a, 'py>>> {
        Ok(match self.args.positional {
            [_, value] if !self.args.has_keywords() => Some(*value),
            [_] if self.args.has_keywords() => self.args.only(&memory::string(self.args.py, name)?),
            _ => None,
        })
    }
}

/// Exactly an `int` that fits.
#[inline]
fn whole(value: Arg<'_, '_>) -> Option<isize> {
    if value.is_exact_instance_of::<PyInt>() { value.extract().ok() } else { None }
}

fn is_separator(object: &Bound<'_, PyAny>) -> bool {
    object.cast_exact::<PyBytes>().is_ok_and(|bytes| !bytes.as_bytes().is_empty())
}

/// A call of a reader's; asyncio's own coroutine if anything about it is out of the ordinary.
#[inline]
fn of_reader<'py>(
    py: Python<'py>,
    name: &'static str,
    args: &Args<'_, 'py>,
    ask: impl FnOnce(Rest<'_, 'py>) -> PyResult<Option<Asked<'py>>>,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(target) = args.positional.first()
        && let Some(reader) = Reader::plain(target)?
        && let Some(event_loop) = reader.state().event_loop.get(py)
        && ctypes::plain_loop(&event_loop)?.is_some()
        && let Some(asked) = ask(Rest { args })?
    {
        // SAFETY: a native reader, and a kind of call that reads.
        return unsafe { class::new(target, asked.kind, asked.size, asked.separator.as_ref()) };
    }
    asyncios_own(py, &originals(py)?.reader, name, args)
}

/// The same of a writer's, which takes no arguments.
#[inline]
fn of_writer<'py>(
    py: Python<'py>,
    name: &'static str,
    args: &Args<'_, 'py>,
    kind: Kind,
) -> PyResult<Bound<'py, PyAny>> {
    if let [target] = args.positional
        && !args.has_keywords()
        && let Some(writer) = Writer::plain(target)?
        && let Some(event_loop) = writer.state().event_loop.get(py)
        && ctypes::plain_loop(&event_loop)?.is_some()
    {
        // SAFETY: a native writer, and a kind of call that does not read.
        return unsafe { class::new(target, kind, 0, None) };
    }
    asyncios_own(py, &originals(py)?.writer, name, args)
}

#[cold]
fn asyncios_own<'py>(
    py: Python<'py>,
    class: &Py<PyAny>,
    name: &str,
    args: &Args<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    if args.positional.is_empty() {
        let text = format!("unbound method {name}() needs an argument");
        return Err(PyTypeError::new_err(text));
    }
    args.forward(&class.bind(py).getattr(memory::string(py, name)?)?)
}

/// Puts the methods into the classes.
pub(super) fn add_functions(py: Python<'_>) -> PyResult<()> {
    use coroutine_function::make;
    let (reader, writer) =
        (py.get_type::<NativeStreamReader>(), py.get_type::<NativeStreamWriter>());
    // SAFETY: they take any arguments, as all of these.
    unsafe {
        let doc = c"\
            Read up to ``n`` bytes as soon as there is one, or all up to the end. Coroutine.\n\
            \n\
            Return ``bytes``, empty at the end. As ``asyncio.StreamReader.read``.";
        reader.setattr(intern!(py, "read"), make(py, c"read", doc, read)?)?;
        let doc = c"\
            Read exactly ``n`` bytes. Coroutine.\n\
            \n\
            Raises ``asyncio.IncompleteReadError`` if the end comes before. As\n\
            ``asyncio.StreamReader.readexactly``.";
        reader.setattr(intern!(py, "readexactly"), make(py, c"readexactly", doc, readexactly)?)?;
        let doc = c"\
            Read up to a separator, which is the end of what is returned. Coroutine.\n\
            \n\
            Raises ``asyncio.IncompleteReadError`` if the end comes before,\n\
            ``asyncio.LimitOverrunError`` if there is more than the limit before it. As\n\
            ``asyncio.StreamReader.readuntil``, from 3.13 on also with a tuple of separators.";
        reader.setattr(intern!(py, "readuntil"), make(py, c"readuntil", doc, readuntil)?)?;
        let doc = c"\
            Read a line with its end; the last one may have none. Coroutine.\n\
            \n\
            Return empty ``bytes`` at the end. Raises ``ValueError`` if a line is longer than the\n\
            limit, and drops it. As ``asyncio.StreamReader.readline``.";
        reader.setattr(intern!(py, "readline"), make(py, c"readline", doc, readline)?)?;
        let doc = c"Read the next line, or raise ``StopAsyncIteration`` at the end. Coroutine.";
        reader.setattr(intern!(py, "__anext__"), make(py, c"__anext__", doc, anext)?)?;
        let doc = c"\
            Wait until the peer has taken enough of what was written. Coroutine.\n\
            \n\
            Raises the exception that ended the connection. As ``asyncio.StreamWriter.drain``.";
        writer.setattr(intern!(py, "drain"), make(py, c"drain", doc, drain)?)?;
        let doc = c"\
            Wait until the connection is closed. Coroutine.\n\
            \n\
            Raises the exception that ended it. As ``asyncio.StreamWriter.wait_closed``.";
        writer.setattr(intern!(py, "wait_closed"), make(py, c"wait_closed", doc, wait_closed)?)
    }
}
