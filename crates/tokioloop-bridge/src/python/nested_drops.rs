//! Drops that nest, but never too deep.
//!
//! An object that can hold one of its kind can be the first of a chain of any length. When it is
//! freed all of them are, each from inside the destructor of the one before, and too long a chain
//! overflows the C stack. CPython's own answer, the trashcan, is no part of the stable ABI. So each
//! value that may lead to another object of ours goes through [`drop_nested`]: while one is being dropped
//! the others of the same thread wait in a list.

use std::cell::RefCell;
use std::thread::LocalKey;

/// A thread's values that wait to be dropped; `None` while no such value is being dropped.
pub struct NestedDrops<T>(RefCell<Option<Vec<T>>>);

impl<T> Default for NestedDrops<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> NestedDrops<T> {
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Deposits `value` if another one is being dropped; else returns it, to be dropped.
    fn deposit(&self, value: T) -> Option<T> {
        let mut deposited = self.0.borrow_mut();
        let Some(deposited) = &mut *deposited else { return Some(value) };
        // Without memory for the list it is dropped inside of the other one.
        if deposited.try_reserve(1).is_err() {
            return Some(value);
        }
        deposited.push(value);
        None
    }

    /// Begins a drop. Whether it is the outermost, which drops what the others deposit.
    fn begin(&self) -> bool {
        let mut deposited = self.0.borrow_mut();
        let outermost = deposited.is_none();
        deposited.get_or_insert_default();
        outermost
    }

    fn next(&self) -> Option<T> {
        self.0.borrow_mut().as_mut()?.pop()
    }
}

/// Drops a value, or deposits it while another one is being dropped.
pub fn drop_nested<T>(drops: &'static LocalKey<NestedDrops<T>>, value: T) {
    /// The end of the outermost drop, also where a destructor panics.
    struct End<T: 'static>(&'static LocalKey<NestedDrops<T>>);

    impl<T> Drop for End<T> {
        fn drop(&mut self) {
            let left = self.0.with(|drops| drops.0.borrow_mut().take());
            drop(left);
        }
    }

    // In a thread that ends, and has dropped its list already, the value is dropped here and now.
    let mut value = Some(value);
    let _ = drops.try_with(|drops| value = value.take().and_then(|value| drops.deposit(value)));
    let Some(value) = value else { return };
    let outermost = drops.try_with(NestedDrops::begin) == Ok(true);
    let _end = outermost.then(|| End(drops));
    drop(value);
    while outermost && let Some(value) = drops.with(NestedDrops::next) {
        drop(value);
    }
}
