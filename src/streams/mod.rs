//! asyncio's streams, native: `StreamReader` and `StreamWriter`.
//!
//! | module | what |
//! |---|---|
//! | `originals` | asyncio's own classes and errors, which do the work wherever something is out of the ordinary |
//! | `buffer` | what a reader has received: one chunk taken whole, or a `bytearray` |
//! | `reader` | the base class of readers: its attributes, and whether it is as asyncio's would be |
//! | `feeding` | from a transport into a reader |
//! | `writer` | the base class of writers |
//! | `calls` | `read()`, `drain()` and the like: coroutines |
//!
//! Each module uses those before it.
//!
//! # What stays asyncio's
//!
//! The Python classes derive from the ones here and from asyncio's. Constructors, destructors,
//! representations and everything rare are asyncio's methods, which find all attributes that they know:
//! the classes here have them as descriptors. The native methods take a shortcut only if nobody can
//! tell: the class overrides nothing that asyncio's method would call, the instance neither, and the
//! attributes hold what asyncio's own would hold. Otherwise they call asyncio's method on the same object.

mod buffer;
mod calls;
mod feeding;
mod originals;
mod reader;
mod writer;

use pyo3::prelude::*;

pub(crate) use originals::is_method;
pub(crate) use reader::Reader;

/// Adds the classes to the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // Before a program can patch them.
    originals::originals(py)?;
    module.add_class::<reader::NativeStreamReader>()?;
    module.add_class::<writer::NativeStreamWriter>()?;
    feeding::add_methods(py)?;
    writer::add_methods(py)?;
    calls::register(module)
}
