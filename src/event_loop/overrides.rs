//! What a program put in the place of the loop's own methods: then the core calls them as methods.

use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};
use pyo3::{Borrowed, ffi, intern};

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
    /// Of a loop whose methods are `class`'s when no subclass overrides them.
    pub(super) fn new(class: &Bound<'_, PyType>) -> PyResult<Self> {
        let py = class.py();
        let native =
            |name: &Bound<'_, PyString>| class.getattr(name).map(|it| PySlot::new(it.unbind()));
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
    fn clock(&self, event_loop: Borrowed<'_, '_, PyAny>) -> Clock {
        let py = event_loop.py();
        // SAFETY: the type of a live object.
        let version = unsafe { (*ffi::Py_TYPE(event_loop.as_ptr())).tp_version_tag } as u32;
        if version == 0 || version != self.type_version.get(py) {
            self.look_up_clock(&event_loop.get_type(), version);
        }
        self.clock.get(py)
    }

    #[cold]
    fn look_up_clock(&self, class: &Bound<'_, PyType>, version: u32) {
        let py = class.py();
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
    pub(super) fn attribute_changed(
        &self,
        name: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
    ) {
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

    /// Whether `time()` must be called as a method.
    #[inline]
    pub(super) fn has_time(&self, event_loop: Borrowed<'_, '_, PyAny>) -> bool {
        let clock = self.clock(event_loop);
        clock.own_time || clock.class_time
    }

    /// Whether `call_at()` must be called as a method.
    pub(super) fn has_call_at(&self, event_loop: Borrowed<'_, '_, PyAny>) -> bool {
        let clock = self.clock(event_loop);
        clock.own_call_at || clock.class_call_at
    }

    #[inline]
    pub(super) fn has_any_timers(&self, event_loop: Borrowed<'_, '_, PyAny>) -> bool {
        self.clock(event_loop) != Clock::default()
    }

    #[inline]
    pub(super) fn are_on_instance(&self, py: Python<'_>) -> bool {
        self.on_instance.get(py)
    }

    #[inline]
    pub(super) fn have_task_factory(&self, py: Python<'_>) -> bool {
        self.task_factory.get(py)
    }
}
