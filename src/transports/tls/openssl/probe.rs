//! Where a `_ssl._SSLSocket` keeps its `SSL`, and a `_ssl.MemoryBIO` its `BIO`.
//!
//! No header of CPython's says so. A guess is proven before anything is called with it: of an object
//! that was made between two `MemoryBIO`s, some word must point to memory in which the words of these two
//! stand side by side, as an `SSL` has its `BIO`s. No other structure of OpenSSL's or Python's has those.
//! The memory behind a guess is read by the kernel, which says if there is none. The layout is the same
//! for all objects of the type, so that is done once; afterwards each object is asked through OpenSSL
//! whether its `BIO`s are those that it was made with.

use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::library::{Bio, Library, Ssl};
use crate::driver::sys::memory;

/// A word of memory.
const WORD: usize = size_of::<usize>();

/// The words of an `SSL` in which its two `BIO`s are looked for.
const WORDS: usize = 32;

/// Offsets in bytes.
pub(super) struct Layout {
    ssl: usize,
    bio: usize,
}

/// The library and the layout, if both are as expected. The answer stays, unless something was missing
/// for the question, such as descriptors: then the next connection asks again.
pub(super) fn probed(py: Python<'_>) -> Option<(&'static Library, &'static Layout)> {
    static CACHE: PyOnceLock<Option<(&'static Library, Layout)>> = PyOnceLock::new();
    let found = CACHE.get_or_try_init(py, || probe(py)).ok()?;
    found.as_ref().map(|(library, layout)| (*library, layout))
}

fn probe(py: Python<'_>) -> PyResult<Option<(&'static Library, Layout)>> {
    let module = py.import("_ssl")?;
    let Some(library) = Library::open(&module) else {
        return Ok(None);
    };
    let memory_bio = module.getattr("MemoryBIO")?;
    let client = module.getattr("PROTOCOL_TLS_CLIENT")?;
    let context = module.getattr("_SSLContext")?.call1((client,))?;
    let (incoming, outgoing) = (memory_bio.call0()?, memory_bio.call0()?);
    let socket = context.call_method1("_wrap_bio", (&incoming, &outgoing, false))?;
    let genuine = is_exactly(&socket, &module.getattr("_SSLSocket")?)
        && is_exactly(&incoming, &memory_bio)
        && is_exactly(&outgoing, &memory_bio);
    if !genuine {
        return Ok(None);
    }
    let bio = head(py);
    // A `MemoryBIO` has a pointer behind the head, and a truth value.
    if size(&incoming) < bio + 2 * WORD {
        return Ok(None);
    }
    // SAFETY: within the objects, as was just seen; they are alive, and not changed meanwhile.
    let pair = unsafe { [word(&incoming, bio), word(&outgoing, bio)] };
    if pair.contains(&0) || pair[0] == pair[1] {
        return Ok(None);
    }
    // A `BIO` begins with pointers, one of them to the table of its kind.
    if !words_at(pair[0], 3)?.iter().any(|&it| library.makes_bios_with(it as *const c_void)) {
        return Ok(None);
    }
    for ssl in (bio..size(&socket).saturating_sub(WORD - 1)).step_by(WORD) {
        // SAFETY: within the object.
        let guess = unsafe { word(&socket, ssl) };
        if guess % WORD != 0 || guess == 0 {
            continue;
        }
        let words = words_at(guess, WORDS)?;
        let in_library = words.iter().any(|&it| library.has(it as *const c_void));
        if words.windows(2).any(|two| two == pair) && in_library {
            let layout = Layout { ssl, bio };
            // SAFETY: all three are of `_ssl`'s own types, and the pointers were just proven.
            let known = unsafe { layout.ssl_of(library, &socket, &incoming, &outgoing) };
            return Ok(known.map(|_| (library, layout)));
        }
    }
    Ok(None)
}

/// Whether an object is exactly of the C type that a name of `_ssl`'s stands for. (Classes written
/// in Python are never immutable, whatever name they are installed under.)
pub(in super::super) fn is_exactly(object: &Bound<'_, PyAny>, class: &Bound<'_, PyAny>) -> bool {
    let kind = object.get_type();
    // SAFETY: the type of a live object; the flag is constant once the type is made.
    let flags = unsafe { ffi::PyType_GetFlags(kind.as_type_ptr()) };
    kind.is(class) && flags & ffi::Py_TPFLAGS_IMMUTABLETYPE != 0
}

/// The size of what each object begins with, in this build of CPython.
fn head(py: Python<'_>) -> usize {
    basic_size(&py.get_type::<PyAny>())
}

/// The size of an object of a type without items.
fn size(object: &Bound<'_, PyAny>) -> usize {
    basic_size(&object.get_type())
}

fn basic_size(class: &Bound<'_, PyType>) -> usize {
    // SAFETY: a live type; the field is constant once the type is made.
    let size = unsafe { (*class.as_type_ptr()).tp_basicsize };
    usize::try_from(size).unwrap_or(0)
}

/// A word of an object.
///
/// # Safety
/// The object must have a whole word at `offset`, a multiple of a word's size.
unsafe fn word(object: &Bound<'_, PyAny>, offset: usize) -> usize {
    // SAFETY: the caller's promise; objects are aligned to more than a word.
    unsafe { object.as_ptr().cast::<u8>().add(offset).cast::<usize>().read() }
}

/// The words at an address, as many as there are up to `most`; none if there is no memory.
fn words_at(address: usize, most: usize) -> io::Result<Vec<usize>> {
    let mut words = vec![0; most];
    let count = memory::words_at(address, &mut words)?;
    words.truncate(count);
    Ok(words)
}

impl Layout {
    /// The `SSL` of an object that was made between the two `MemoryBIO`s; `None` unless it has them.
    ///
    /// # Safety
    /// `socket` must be exactly a `_ssl._SSLSocket`, and the others exactly `_ssl.MemoryBIO`s.
    pub(super) unsafe fn ssl_of(
        &self,
        library: &Library,
        socket: &Bound<'_, PyAny>,
        incoming: &Bound<'_, PyAny>,
        outgoing: &Bound<'_, PyAny>,
    ) -> Option<NonNull<Ssl>> {
        // SAFETY: the types that the layout was proven for, by the caller's promise: each has its
        // pointer there from the moment that it can be seen, and as long as it lives.
        unsafe {
            let ssl = NonNull::new(word(socket, self.ssl) as *mut Ssl)?;
            let is = |bio: *mut Bio, object| bio as usize == word(object, self.bio);
            let between = is((library.ssl_get_rbio)(ssl.as_ptr()), incoming)
                && is((library.ssl_get_wbio)(ssl.as_ptr()), outgoing);
            between.then_some(ssl)
        }
    }
}
