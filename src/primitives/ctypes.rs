//! asyncio's tasks and futures in C, made and called without the detour through their Python methods.
//!
//! A shortcut is taken for exact instances of CPython's own C types, whose methods no program can
//! replace, and on loops whose methods no program has replaced. asyncio's own code does the rest.

use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::originals::originals;
use super::running;
use crate::event_loop::NativeLoop;
use crate::ffi::arguments::Arg;
use crate::ffi::class_cache::ClassCache;
use crate::ffi::coroutine;
use crate::ffi::function_state::FunctionState;
use crate::ffi::gil::GilCell;
use crate::ffi::imports;
use crate::ffi::object::{self, Object};
use crate::ffi::tuples::OneArgument;

/// The types of `_asyncio` and their methods, as they are when first needed.
pub(crate) struct CTypes {
    pub task: Py<PyType>,
    pub future: Py<PyType>,
    /// asyncio's outer future of `gather`, derived from `future`.
    pub gathering_future: Py<PyType>,
    /// `_asyncio.Future`'s methods, which a task has too.
    pub result: Method,
    pub exception: Method,
    pub cancelled: Method,
    pub done: Method,
    pub get_loop: Method,
    pub set_result: Method,
    pub add_done_callback: Method,
    running_loop: Py<PyAny>,
    /// The name space of `asyncio.tasks`: a program may put another `Task` there.
    tasks: Py<PyDict>,
    no_arguments: Py<PyTuple>,
    /// `BaseEventLoop.create_task`, which the core's method replaces; `None` if a tool had wrapped
    /// it before.
    create_task: Option<FunctionState>,
}

/// A method of a C type, as the type has it.
pub(crate) struct Method {
    descriptor: Py<PyAny>,
    name: Py<PyAny>,
}

impl Method {
    fn of(class: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let py = class.py();
        Ok(Self {
            descriptor: class.getattr(name)?.unbind(),
            name: pyo3::types::PyString::intern(py, name).into_any().unbind(),
        })
    }

    /// Calls it on `object`; without a look-up if that is exactly a task or a future in C.
    #[inline]
    pub(crate) fn call<'py>(
        &self,
        object: &Bound<'py, PyAny>,
        args: &[&Bound<'py, PyAny>],
        names: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        let mut stack = [null_mut(); 4];
        stack[1] = object.as_ptr();
        for (slot, arg) in stack[2..2 + args.len()].iter_mut().zip(args) {
            *slot = arg.as_ptr();
        }
        let keywords = names.map_or(0, |names| names.len());
        let names = names.map_or(null_mut(), |names| names.as_ptr());
        // SAFETY: a slot in front that the callee may use, then the object and its arguments,
        // borrowed from the caller, of which the last belong to `names`.
        unsafe {
            let count = (1 + args.len() - keywords) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
            let stack = stack.as_ptr().add(1);
            let result = if is_exact(object)? {
                ffi::PyObject_Vectorcall(self.descriptor.as_ptr(), stack, count, names)
            } else {
                ffi::PyObject_VectorcallMethod(self.name.as_ptr(), stack, count, names)
            };
            object::owned(py, result)
        }
    }

    #[inline]
    pub(crate) fn ask(&self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.call(object, &[], None)?.is_truthy()
    }
}

/// Whether these are CPython's C types; else (an interpreter without `_asyncio`) no shortcuts.
pub(crate) fn types(py: Python<'_>) -> PyResult<Option<&CTypes>> {
    static TYPES: PyOnceLock<Option<CTypes>> = PyOnceLock::new();
    Ok(TYPES.get_or_try_init(py, || CTypes::find(py))?.as_ref())
}

impl CTypes {
    fn find(py: Python<'_>) -> PyResult<Option<Self>> {
        let Ok(native) = py.import("_asyncio") else { return Ok(None) };
        let future = native.getattr("Future")?.cast_into::<PyType>()?;
        let task = native.getattr("Task")?.cast_into::<PyType>()?;
        // SAFETY: type objects; both slots stay as they are, because these types are immutable.
        let complete = [&future, &task].iter().all(|class| unsafe {
            let class = &*class.as_type_ptr();
            class.tp_new.is_some() && class.tp_init.is_some()
        });
        let gathering_future = originals(py)?.gathering_future.bind(py).clone();
        // SAFETY: type objects. (`issubclass` would ask the class itself.)
        let derived = unsafe {
            ffi::PyType_IsSubtype(gathering_future.as_type_ptr(), future.as_type_ptr()) != 0
        };
        // If a program hid `_asyncio` while asyncio was imported, asyncio has none of them.
        if !complete || !derived {
            return Ok(None);
        }
        let method = |name| Method::of(&future, name);
        Ok(Some(Self {
            result: method("result")?,
            exception: method("exception")?,
            cancelled: method("cancelled")?,
            done: method("done")?,
            get_loop: method("get_loop")?,
            set_result: method("set_result")?,
            add_done_callback: method("add_done_callback")?,
            running_loop: native.getattr("_get_running_loop")?.unbind(),
            tasks: py.import("asyncio.tasks")?.dict().unbind(),
            no_arguments: PyTuple::empty(py).unbind(),
            create_task: Self::asyncios_create_task(py)?,
            task: task.unbind(),
            future: future.unbind(),
            gathering_future: gathering_future.unbind(),
        }))
    }

    fn asyncios_create_task(py: Python<'_>) -> PyResult<Option<FunctionState>> {
        let base = base_loop(py)?;
        let (method, other) = (base.getattr("create_task")?, base.getattr("get_debug")?);
        let debug_mode = imports::debug_mode(py)?.bind(py);
        let own = debug_mode.call_method1("is_asyncios_own", (&method, other))?.is_truthy()?;
        Ok(own.then(|| FunctionState::of(method)))
    }

    /// Whether no tool has changed asyncio's `create_task` from within.
    #[inline]
    fn has_asyncios_code(&self, py: Python<'_>) -> bool {
        self.create_task.as_ref().is_some_and(|state| state.is_current(py))
    }

    /// Whether no tool has wrapped asyncio's `create_task`, which ours replaces.
    pub(super) fn has_asyncios_create_task(&self, py: Python<'_>) -> PyResult<bool> {
        let method = base_loop(py)?.getattr("create_task")?;
        let same = self.create_task.as_ref().is_some_and(|state| state.is_of(&method));
        Ok(same && self.has_asyncios_code(py))
    }

    /// The loop that runs in this thread, or `None`.
    #[inline]
    pub(crate) fn running_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        running::running_loop(py, &self.running_loop)
    }

    /// `asyncio.tasks.Task` is still the C type.
    #[inline]
    pub(crate) fn task_is_ours(&self, py: Python<'_>) -> bool {
        // SAFETY: a dict and an interned str; a borrowed reference, only compared, or null.
        unsafe {
            let task =
                ffi::PyDict_GetItemWithError(self.tasks.as_ptr(), intern!(py, "Task").as_ptr());
            task == self.task.as_ptr()
        }
    }

    /// `Task(coro, **options)`; without `options` on the loop that runs in this thread.
    #[inline(always)]
    pub(crate) fn new_task<'py>(
        &self,
        coro: Arg<'_, 'py>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static ARGUMENT: OneArgument = OneArgument::new();
        let py = coro.py();
        let options = options.map_or(null_mut(), |options| options.as_ptr());
        // SAFETY: the C type of tasks, a tuple, which it does not keep, and a dict or null.
        ARGUMENT.with(coro, |args| unsafe {
            self.construct(py, self.task.as_ptr(), args.as_ptr(), options)
        })
    }

    /// `Future(**options)`; without `options` on the loop that runs in this thread.
    #[inline]
    pub(crate) fn new_future<'py>(
        &self,
        py: Python<'py>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = options.map_or(null_mut(), |options| options.as_ptr());
        // SAFETY: the C type of futures.
        unsafe { self.construct(py, self.future.as_ptr(), self.no_arguments.as_ptr(), options) }
    }

    /// A `_GatheringFuture`, without running its own constructor.
    #[inline]
    pub(crate) fn new_gathering_future<'py>(
        &self,
        py: Python<'py>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = options.map_or(null_mut(), |options| options.as_ptr());
        // SAFETY: derived from the C type of futures, as `find` saw.
        unsafe {
            self.construct(py, self.gathering_future.as_ptr(), self.no_arguments.as_ptr(), options)
        }
    }

    /// Does the same as a call of the type, without making a tuple and a dict for it.
    ///
    /// # Safety
    /// `class` must be `task` or derived from `future`; `args` a tuple; `options` a dict or null.
    #[inline(always)]
    unsafe fn construct<'py>(
        &self,
        py: Python<'py>,
        class: Object,
        args: Object,
        options: Object,
    ) -> PyResult<Bound<'py, PyAny>> {
        let class = class.cast::<ffi::PyTypeObject>();
        let base = if class == self.task.as_ptr().cast() { &self.task } else { &self.future };
        // SAFETY: the caller's promise; `find` checked that both slots are filled.
        unsafe {
            let (Some(new), Some(init)) =
                ((*class).tp_new, (*base.as_ptr().cast::<ffi::PyTypeObject>()).tp_init)
            else {
                return Err(object::fetch(py));
            };
            let made = object::owned(py, new(class, self.no_arguments.as_ptr(), null_mut()))?;
            if init(made.as_ptr(), args, options) < 0 {
                return Err(object::fetch(py));
            }
            Ok(made)
        }
    }
}

/// The options that put futures and tasks on a loop.
pub(crate) struct OnLoop<'py>(Option<Bound<'py, PyDict>>);

/// The dict of the last such options, for the next ones.
static SPARE: GilCell<Option<Py<PyDict>>> = GilCell::new(None);

impl<'py> OnLoop<'py> {
    #[inline]
    pub(crate) fn new(types: &CTypes, event_loop: &Bound<'py, PyAny>) -> PyResult<Self> {
        if cfg!(Py_3_12) && types.running_loop(event_loop.py())?.is(event_loop) {
            return Ok(Self(None));
        }
        Self::naming(event_loop)
    }

    /// On a loop that is known to run in this thread.
    #[inline]
    pub(crate) fn running(event_loop: &Bound<'py, PyAny>) -> PyResult<Self> {
        // From 3.12 on they find it themselves; before that takes a system call.
        if cfg!(Py_3_12) { Ok(Self(None)) } else { Self::naming(event_loop) }
    }

    /// Names the loop, which is needed where another one may run in this thread.
    pub(crate) fn naming(event_loop: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let spare = SPARE.with(py, Option::take);
        let options = spare.map_or_else(|| PyDict::new(py), |spare| spare.into_bound(py));
        options.set_item(intern!(py, "loop"), event_loop)?;
        Ok(Self(Some(options)))
    }

    #[inline]
    pub(crate) fn options(&self) -> Option<&Bound<'py, PyDict>> {
        self.0.as_ref()
    }
}

impl Drop for OnLoop<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(options) = self.0.take() else { return };
        let py = options.py();
        // Drops the reference to the loop. A constructor in Python may have kept the dict: then it is
        // not ours to reuse.
        // SAFETY: the dict is alive: `options` is a reference to it.
        if unsafe { ffi::Py_REFCNT(options.as_ptr()) } == 1
            && options.set_item(intern!(py, "loop"), py.None()).is_ok()
        {
            drop(SPARE.with(py, |spare| spare.replace(options.unbind())));
        }
    }
}

/// Whether an object is exactly a C task or a C future.
#[inline]
pub(crate) fn is_exact(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(types) = types(object.py())? else { return Ok(false) };
    let class = object.get_type_ptr();
    Ok(class == types.task.as_ptr().cast() || class == types.future.as_ptr().cast())
}

/// Whether an object is exactly a coroutine: one in Python, or one of the core's own.
#[inline]
pub(super) fn is_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object, of which only the type is looked at.
    let in_python = unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 };
    in_python || coroutine::is_native(object)
}

/// The methods of a loop that the primitives bypass.
const BYPASSED: [&str; 5] = ["call_at", "call_later", "call_soon", "create_future", "create_task"];

/// Calls `body` with this thread's running loop, if it is one of ours on which shortcuts cannot be
/// observed: not in debug mode, and with its own methods.
#[inline]
pub(crate) fn on_plain_loop<R>(
    py: Python<'_>,
    body: impl FnOnce(&CTypes, &NativeLoop) -> PyResult<R>,
) -> PyResult<Option<R>> {
    let Some(types) = types(py)? else { return Ok(None) };
    let running = types.running_loop(py)?;
    match plain_loop(&running)? {
        Some((types, event_loop)) => body(types, event_loop).map(Some),
        None => Ok(None),
    }
}

/// A loop of ours on which shortcuts cannot be observed: not in debug mode, and with its own methods.
#[inline]
pub(crate) fn plain_loop<'a>(
    event_loop: &'a Bound<'_, PyAny>,
) -> PyResult<Option<(&'a CTypes, &'a NativeLoop)>> {
    let py = event_loop.py();
    let Some(types) = types(py)? else { return Ok(None) };
    if !is_plain_class(types, event_loop)? {
        return Ok(None);
    }
    // SAFETY: a loop of ours, as was just checked, which its reference keeps alive.
    let event_loop = unsafe { NativeLoop::of(event_loop.as_ptr()) };
    let observed = event_loop.is_debug(py) || event_loop.has_own_methods(py);
    Ok((!observed).then_some((types, event_loop)))
}

/// Whether the object's class is one of ours, with our methods.
#[inline(always)]
pub(crate) fn is_plain_class(types: &CTypes, event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    static CHECKED: ClassCache<bool> = ClassCache::new(false);
    if !types.has_asyncios_code(event_loop.py()) {
        return Ok(false);
    }
    CHECKED.get_or_find(event_loop, || has_own_methods(types, event_loop))
}

#[cold]
fn has_own_methods(types: &CTypes, event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event_loop.py();
    if !event_loop.is_instance_of::<NativeLoop>() {
        return Ok(false);
    }
    let (class, ours) = (event_loop.get_type(), py.get_type::<NativeLoop>());
    for name in BYPASSED {
        if !class.getattr(name)?.is(ours.getattr(name)?) {
            return Ok(false);
        }
    }
    // A tool that wraps asyncio's own method means ours as well.
    types.has_asyncios_create_task(py)
}

fn base_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("asyncio.base_events")?.getattr("BaseEventLoop")
}
