//! Python objects that a port keeps for tasks of tokio's.

use std::mem::take;

use pyo3::prelude::*;

use super::drop_quietly;
use crate::locals::TaskLocals;

/// A Python object in a port's keeping, with the locals of its task, whose last handle is thus dropped
/// with the GIL held.
pub(crate) struct Kept {
    pub(crate) object: Py<PyAny>,
    #[expect(dead_code, reason = "only dropped")]
    pub(crate) locals: Option<TaskLocals>,
}

impl Kept {
    pub(super) fn drop(self, _py: Python<'_>) {
        drop_quietly(self);
    }
}

/// Names a kept object. A key whose object has been taken never names another one.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    index: usize,
    generation: u64,
}

#[derive(Default)]
pub(super) struct Shelf {
    slots: Vec<Slot>,
    free: Vec<usize>,
    closed: bool,
}

#[derive(Default)]
struct Slot {
    generation: u64,
    kept: Option<Kept>,
}

impl Shelf {
    pub(super) fn put(&mut self, kept: Kept) -> Result<Key, Kept> {
        if self.closed {
            return Err(kept);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.kept = Some(kept);
        Ok(Key { index, generation: slot.generation })
    }

    pub(super) fn get(&self, key: Key) -> Option<&Kept> {
        let slot = self.slots.get(key.index).filter(|it| it.generation == key.generation)?;
        slot.kept.as_ref()
    }

    pub(super) fn take(&mut self, key: Key) -> Option<Kept> {
        let slot = self.slots.get_mut(key.index).filter(|it| it.generation == key.generation)?;
        let kept = slot.kept.take()?;
        slot.generation += 1;
        self.free.push(key.index);
        Some(kept)
    }

    pub(super) fn close(&mut self) -> Vec<Kept> {
        self.closed = true;
        self.free.clear();
        take(&mut self.slots).into_iter().filter_map(|slot| slot.kept).collect()
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = &Kept> {
        self.slots.iter().filter_map(|slot| slot.kept.as_ref())
    }
}
