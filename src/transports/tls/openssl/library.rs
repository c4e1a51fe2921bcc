//! The functions of the OpenSSL that `_ssl` has loaded, and of no other that may be in the process.

use std::ffi::{CString, c_char, c_int, c_long, c_ulong, c_void};
use std::mem::transmute_copy;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyModule;

use crate::driver::sys::shared_library::{SharedLibrary, base};

/// OpenSSL's own types, of which nothing but pointers is used.
#[repr(C)]
pub(super) struct Ssl {
    _opaque: [u8; 0],
}
#[repr(C)]
pub(super) struct SslContext {
    _opaque: [u8; 0],
}
#[repr(C)]
pub(super) struct Bio {
    _opaque: [u8; 0],
}
#[repr(C)]
pub(super) struct BioMethod {
    _opaque: [u8; 0],
}

type ReadBio = unsafe extern "C" fn(*mut Bio, *mut c_char, c_int) -> c_int;
type WriteBio = unsafe extern "C" fn(*mut Bio, *const c_char, c_int) -> c_int;
type ControlBio = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;
type DestroyBio = unsafe extern "C" fn(*mut Bio) -> c_int;

macro_rules! library {
    ($($field:ident = $name:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions that are used, by OpenSSL's names in lower case.
        pub(super) struct Library {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            method: AtomicPtr<BioMethod>,
        }

        impl Library {
            /// All of them, or nothing.
            fn look_up(library: &SharedLibrary) -> Option<Self> {
                Some(Self {
                    $($field: {
                        let found = library.symbol($name)?;
                        // SAFETY: OpenSSL's function of this name has this signature, from 3.0 on.
                        unsafe { transmute_copy(&found) }
                    },)*
                    method: AtomicPtr::default(),
                })
            }
        }
    };
}

library! {
    openssl_version_num = c"OpenSSL_version_num": fn() -> c_ulong;
    ssl_read_ex = c"SSL_read_ex": fn(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int;
    ssl_write_ex = c"SSL_write_ex": fn(*mut Ssl, *const c_void, usize, *mut usize) -> c_int;
    ssl_want = c"SSL_want": fn(*const Ssl) -> c_int;
    ssl_get_rbio = c"SSL_get_rbio": fn(*const Ssl) -> *mut Bio;
    ssl_get_wbio = c"SSL_get_wbio": fn(*const Ssl) -> *mut Bio;
    ssl_set_bio = c"SSL_set_bio": fn(*mut Ssl, *mut Bio, *mut Bio);
    ssl_get_options = c"SSL_get_options": fn(*const Ssl) -> u64;
    ssl_get_ssl_ctx = c"SSL_get_SSL_CTX": fn(*const Ssl) -> *mut SslContext;
    ssl_ctx_get_keylog_callback = c"SSL_CTX_get_keylog_callback": fn(*const SslContext) -> *const c_void;
    bio_new = c"BIO_new": fn(*const BioMethod) -> *mut Bio;
    bio_set_data = c"BIO_set_data": fn(*mut Bio, *mut c_void);
    bio_get_data = c"BIO_get_data": fn(*mut Bio) -> *mut c_void;
    bio_set_init = c"BIO_set_init": fn(*mut Bio, c_int);
    bio_set_flags = c"BIO_set_flags": fn(*mut Bio, c_int);
    bio_clear_flags = c"BIO_clear_flags": fn(*mut Bio, c_int);
    bio_get_new_index = c"BIO_get_new_index": fn() -> c_int;
    bio_meth_new = c"BIO_meth_new": fn(c_int, *const c_char) -> *mut BioMethod;
    bio_meth_set_read = c"BIO_meth_set_read": fn(*mut BioMethod, ReadBio) -> c_int;
    bio_meth_set_write = c"BIO_meth_set_write": fn(*mut BioMethod, WriteBio) -> c_int;
    bio_meth_set_ctrl = c"BIO_meth_set_ctrl": fn(*mut BioMethod, ControlBio) -> c_int;
    bio_meth_set_destroy = c"BIO_meth_set_destroy": fn(*mut BioMethod, DestroyBio) -> c_int;
}

static LOADED: OnceLock<Option<Library>> = OnceLock::new();

impl Library {
    /// The library, if `open` has found it.
    #[inline]
    pub(super) fn loaded() -> Option<&'static Self> {
        LOADED.get()?.as_ref()
    }

    /// Finds the library behind `_ssl`; the answer stays.
    pub(super) fn open(module: &Bound<'_, PyModule>) -> Option<&'static Self> {
        LOADED.get_or_init(|| Self::look_up(&behind(module)?)?.if_known()).as_ref()
    }

    /// OpenSSL 3 and later: before, any client could renegotiate, which calls the program's callbacks in
    /// the middle of `SSL_read`. (LibreSSL and its kin lack a function above or say 2.)
    fn if_known(self) -> Option<Self> {
        // SAFETY: takes nothing, returns a constant.
        let version = unsafe { (self.openssl_version_num)() };
        (version >= 0x3000_0000).then_some(self)
    }

    /// The method table of the wires, made when it is first wanted; `None` if that fails.
    pub(super) fn method(&self, make: impl FnOnce() -> *mut BioMethod) -> Option<*const BioMethod> {
        let mut method = self.method.load(Ordering::Acquire);
        if method.is_null() {
            // Only asked for with the GIL held, so nobody else makes one.
            method = make();
            self.method.store(method, Ordering::Release);
        }
        (!method.is_null()).then_some(method.cast_const())
    }

    /// Whether an address lies in the library that has `SSL_read_ex`.
    pub(super) fn has(&self, address: *const c_void) -> bool {
        together(self.ssl_read_ex as *const c_void, address)
    }

    /// Whether an address lies in the library that has `BIO_new`. Where another one was loaded first,
    /// for all to see, `_ssl` and this look-up may have different ones.
    pub(super) fn makes_bios_with(&self, address: *const c_void) -> bool {
        together(self.bio_new as *const c_void, address)
    }
}

/// Whether two addresses lie in the same library.
fn together(one: *const c_void, other: *const c_void) -> bool {
    base(one).is_some_and(|library| base(other) == Some(library))
}

/// The shared library of `_ssl`, or the program itself where that is built in. A look-up goes through
/// what it was linked with, and through nothing that was loaded otherwise.
fn behind(module: &Bound<'_, PyModule>) -> Option<SharedLibrary> {
    let file = module.filename().ok();
    let path = file.and_then(|file| CString::new(file.to_str().ok()?).ok());
    SharedLibrary::loaded(path.as_deref())
}
