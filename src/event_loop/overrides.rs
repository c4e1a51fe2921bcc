//! What a program put in the place of the loop's own methods: then the core calls them as methods.

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{ffi, intern};

use super::NativeLoop;
use crate::ffi::gil::{GilFlag, PySlot};

/// Which methods are replaced, on the class or on the instance.
pub(super) struct Overrides {
    /// The version of the class that `clock` was read from; 0 before the first time.
    type_version: GilFlag<u32>,
    clock: GilFlag<Clock>,
    /// The descriptors that `time` and `call_at` are when no subclass overrides them.
    native_time: PySlot,
    native_call_at: PySlot,
    /// A method that the primitives would go past was replaced on the instance.
    on_instance: GilFlag<bool>,
    task_factory: GilFlag<bool>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Clock {
    class_time: bool,
    own_time: bool,
    class_call_at: bool,
    own_call_at: bool,
}

impl Overrides {
    pub(super) fn new(py: Python<'_>) -> PyResult<Self> {
        let native = |name: &Bound<'_, PyString>| {
            py.get_type::<NativeLoop>().getattr(name).map(|it| PySlot::new(it.unbind()))
        };
        Ok(Self {
            type_version: GilFlag::new(0),
            clock: GilFlag::new(Clock::default()),
            native_time: native(intern!(py, "time"))?,
            native_call_at: native(intern!(py, "call_at"))?,
            on_instance: GilFlag::new(false),
            task_factory: GilFlag::new(false),
        })
    }

    #[inline]
    fn clock(&self, py: Python<'_>, event_loop: &NativeLoop) -> Clock {
        // SAFETY: the type of a live object.
        let version = unsafe { (*ffi::Py_TYPE(event_loop.object())).tp_version_tag } as u32;
        if version == 0 || version != self.type_version.get(py) {
            self.look_up_clock(py, event_loop, version);
        }
        self.clock.get(py)
    }

    #[cold]
    fn look_up_clock(&self, py: Python<'_>, event_loop: &NativeLoop, version: u32) {
        let class = event_loop.bind(py).get_type();
        let overridden = |name: &Bound<'_, PyString>, native: &PySlot| {
            class.getattr(name).is_ok_and(|found| !native.holds(&found))
        };
        let class_time = overridden(intern!(py, "time"), &self.native_time);
        let class_call_at = overridden(intern!(py, "call_at"), &self.native_call_at);
        let clock = self.clock.get(py);
        self.clock.set(py, Clock { class_time, class_call_at, ..clock });
        self.type_version.set(py, version);
    }

    /// An attribute of the instance was set, or deleted if there is no value.
    fn attribute_changed(&self, name: &Bound<'_, PyAny>, value: Option<&Bound<'_, PyAny>>) {
        let py = name.py();
        // A name that is no text to Rust (with lone surrogates) is none of these.
        let name = name.cast::<PyString>().ok().and_then(|name| name.to_str().ok());
        match name.unwrap_or_default() {
            "time" => {
                let clock = self.clock.get(py);
                self.clock.set(py, Clock { own_time: value.is_some(), ..clock });
            }
            "_task_factory" => {
                self.task_factory.set(py, value.is_some_and(|factory| !factory.is_none()));
            }
            // For good: a program that replaced a method may have kept the old one, to put it back.
            "call_at" => {
                let clock = self.clock.get(py);
                self.clock.set(py, Clock { own_call_at: value.is_some(), ..clock });
                self.on_instance.set(py, true);
            }
            "call_later" | "call_soon" | "create_future" | "create_task" => {
                self.on_instance.set(py, true);
            }
            _ => {}
        }
    }
}

impl NativeLoop {
    #[inline]
    pub fn has_custom_time(&self, py: Python<'_>) -> bool {
        let clock = self.overrides.clock(py, self);
        clock.own_time || clock.class_time
    }

    /// Whether `call_later` must call `time()` or `call_at()` as a method.
    #[inline]
    pub fn has_custom_timers(&self, py: Python<'_>) -> bool {
        self.overrides.clock(py, self) != Clock::default()
    }

    /// Whether `call_later` must call `call_at()` as a method.
    pub fn has_custom_call_at(&self, py: Python<'_>) -> bool {
        let clock = self.overrides.clock(py, self);
        clock.own_call_at || clock.class_call_at
    }

    /// Whether a scheduling method, `create_future` or `create_task` was replaced on the instance.
    #[inline]
    pub fn has_own_methods(&self, py: Python<'_>) -> bool {
        self.overrides.on_instance.get(py)
    }

    #[inline]
    pub fn has_task_factory(&self, py: Python<'_>) -> bool {
        self.overrides.task_factory.get(py)
    }

    /// What `__setattr__` and `__delattr__` of the loop do: CPython's own, and a note of the name.
    pub(super) fn set_attribute(
        &self,
        name: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = name.py();
        let object = value.map_or(std::ptr::null_mut(), Bound::as_ptr);
        // SAFETY: generic attribute setting on a live object; a null value deletes.
        if unsafe { ffi::PyObject_GenericSetAttr(self.object(), name.as_ptr(), object) } != 0 {
            return Err(PyErr::fetch(py));
        }
        self.overrides.attribute_changed(name, value);
        Ok(())
    }
}
