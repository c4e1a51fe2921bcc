//! Where libc keeps the error number of a thread.

#[inline]
pub(crate) fn get() -> i32 {
    // SAFETY: the address of this thread's `errno`.
    unsafe { *libc::__errno_location() }
}

#[inline]
pub(crate) fn set(value: i32) {
    // SAFETY: the address of this thread's `errno`.
    unsafe { *libc::__errno_location() = value };
}
