//! Functions that libc calls around a fork.

pub(crate) type Hook = extern "C" fn();

/// If libc has no memory to note the functions they are not called.
///
/// # Safety
/// The functions must be fit to run around a fork: take no lock and allocate nothing, and panic
/// never.
pub(crate) unsafe fn at_fork(before: Option<Hook>, after: Option<Hook>, in_child: Option<Hook>) {
    let raw = |hook: Option<Hook>| hook.map(|hook| hook as unsafe extern "C" fn());
    // SAFETY: functions without arguments, which are there for as long as the code is; the rest is
    // the caller's promise.
    unsafe { libc::pthread_atfork(raw(before), raw(after), raw(in_child)) };
}
