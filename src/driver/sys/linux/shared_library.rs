//! Shared libraries that the process has loaded.

use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};

/// One of them, which stays loaded for good.
pub(crate) struct SharedLibrary(*mut c_void);

impl SharedLibrary {
    pub(crate) fn loaded(path: Option<&CStr>) -> Option<Self> {
        let path = path.map_or(null(), CStr::as_ptr);
        // SAFETY: null or a path that ends with 0. Nothing new is loaded, so no code runs.
        let handle = unsafe { libc::dlopen(path, libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        (!handle.is_null()).then_some(Self(handle))
    }

    pub(crate) fn symbol(&self, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: a handle of `dlopen`'s, which is never closed, and a name that ends with 0.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    }
}

pub(crate) fn base(address: *const c_void) -> Option<*mut c_void> {
    let mut found = libc::Dl_info {
        dli_fname: null(),
        dli_fbase: null_mut(),
        dli_sname: null(),
        dli_saddr: null_mut(),
    };
    // SAFETY: any address may be asked for; `found` is the function's to fill in.
    let known = unsafe { libc::dladdr(address, &mut found) } != 0;
    (known && !found.dli_fbase.is_null()).then_some(found.dli_fbase)
}
