//! The bytes between an `SSL` and the transport below: both ways of one `BIO`.
//!
//! `_ssl` gives up the GIL while OpenSSL calls the `BIO`, so a lock guards them. It is held for a copy,
//! and never while anything else is called.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr::{NonNull, null_mut};
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::library::{Bio, BioMethod, Library};

/// Memory that a connection keeps for the next bytes; larger pieces are given back.
const MOST_KEPT: usize = 32 * 1024;

/// `BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY`.
const RETRY_READ: c_int = 0x01 | 0x08;
/// `BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY`.
const RETRY_FLAGS: c_int = 0x07 | 0x08;
/// `BIO_TYPE_SOURCE_SINK`.
const SOURCE_AND_SINK: c_int = 0x0400;

const CTRL_PENDING: c_int = 10;
const CTRL_FLUSH: c_int = 11;
const CTRL_WPENDING: c_int = 13;

/// Both ways of one connection.
#[derive(Default)]
pub(super) struct Wire(Mutex<Bytes>);

#[derive(Default)]
struct Bytes {
    /// Ciphertext of the peer in the buffer that it was received into, in front of `incoming`.
    adopted: Option<Adopted>,
    /// Ciphertext of the peer, the first `consumed` bytes of which OpenSSL has.
    incoming: Vec<u8>,
    consumed: usize,
    /// Ciphertext for the peer.
    outgoing: Vec<u8>,
}

/// A buffer, and which of its bytes OpenSSL has not taken.
struct Adopted {
    buffer: Vec<u8>,
    consumed: usize,
    end: usize,
}

impl Wire {
    fn bytes(&self) -> MutexGuard<'_, Bytes> {
        // Nothing panics while it is held, and the bytes are whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ciphertext that OpenSSL has not taken yet, in bytes.
    pub(super) fn waiting(&self) -> usize {
        self.bytes().waiting()
    }

    /// Ciphertext that the transport below has not taken yet, in bytes.
    pub(super) fn unsent(&self) -> usize {
        self.bytes().outgoing.len()
    }

    /// Takes ciphertext of the peer. `false` where there is no memory for it.
    pub(super) fn feed(&self, data: &[u8]) -> bool {
        let mut bytes = self.bytes();
        bytes.forget_consumed();
        append(&mut bytes.incoming, data)
    }

    /// Takes the first `count` bytes of a buffer and the buffer with them, and leaves an empty one.
    /// `false` where bytes are waiting already: then nothing was taken.
    pub(super) fn adopt(&self, buffer: &mut Vec<u8>, count: usize) -> bool {
        let mut bytes = self.bytes();
        if bytes.waiting() > 0 || bytes.adopted.is_some() || count > buffer.len() {
            return false;
        }
        bytes.adopted = Some(Adopted { buffer: std::mem::take(buffer), consumed: 0, end: count });
        true
    }

    /// The buffer that was adopted. Stays until the next time if there is no memory for what waits in it.
    pub(super) fn adopted(&self) -> Option<Vec<u8>> {
        let mut bytes = self.bytes();
        let adopted = bytes.adopted.take()?;
        let left = &adopted.buffer[adopted.consumed..adopted.end];
        if !left.is_empty() {
            if bytes.incoming.try_reserve(left.len()).is_err() {
                bytes.adopted = Some(adopted);
                return None;
            }
            let at = bytes.consumed;
            bytes.incoming.splice(at..at, left.iter().copied());
        }
        Some(adopted.buffer)
    }

    /// Room for so many bytes more that `SSL_write` will want to send. `false` where there is no memory.
    pub(super) fn reserve(&self, more: usize) -> bool {
        self.bytes().outgoing.try_reserve(more).is_ok()
    }

    /// Forgets the bytes of both ways, and their memory.
    pub(super) fn clear(&self) {
        *self.bytes() = Bytes::default();
    }

    /// Passes the ciphertext for the peer to `send`, which may run any code, and forgets it.
    pub(super) fn take<R>(&self, send: impl FnOnce(&[u8]) -> R) -> R {
        let mut taken = std::mem::take(&mut self.bytes().outgoing);
        let result = send(&taken);
        taken.clear();
        let mut bytes = self.bytes();
        // What was written meanwhile has memory of its own.
        if bytes.outgoing.capacity() == 0 && taken.capacity() <= MOST_KEPT {
            bytes.outgoing = taken;
        }
        result
    }
}

impl Bytes {
    fn waiting(&self) -> usize {
        let adopted = self.adopted.as_ref().map_or(0, |adopted| adopted.end - adopted.consumed);
        adopted + self.incoming.len() - self.consumed
    }

    /// Moves what is left to the front once that is cheap: less of it than was consumed.
    fn forget_consumed(&mut self) {
        if self.consumed == self.incoming.len() {
            self.incoming.clear();
        } else if self.incoming.len() - self.consumed <= self.consumed {
            self.incoming.drain(..self.consumed);
        } else {
            return;
        }
        self.consumed = 0;
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        if let Some(adopted) = &mut self.adopted
            && adopted.consumed < adopted.end
        {
            let left = &adopted.buffer[adopted.consumed..adopted.end];
            let count = left.len().min(into.len());
            into[..count].copy_from_slice(&left[..count]);
            adopted.consumed += count;
            return count;
        }
        let left = &self.incoming[self.consumed..];
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        self.consumed += count;
        if self.consumed == self.incoming.len() && self.incoming.capacity() > MOST_KEPT {
            self.incoming = Vec::new();
            self.consumed = 0;
        }
        count
    }
}

fn append(to: &mut Vec<u8>, data: &[u8]) -> bool {
    let fits = to.try_reserve(data.len()).is_ok();
    if fits {
        to.extend_from_slice(data);
    }
    fits
}

/// A new `BIO` over the wire, which keeps it alive; `None` where OpenSSL has no memory.
pub(super) fn new_bio(library: &'static Library, wire: &Arc<Wire>) -> Option<NonNull<Bio>> {
    // SAFETY: functions of the library, called as it documents them. The method is complete, and is
    // never freed. The data of the new `BIO` is a count of the wire's references, which `destroy` gives
    // back; it is set before anybody else sees the `BIO`.
    unsafe {
        let bio = NonNull::new((library.bio_new)(method(library)?))?;
        (library.bio_set_data)(bio.as_ptr(), Arc::into_raw(wire.clone()).cast_mut().cast());
        (library.bio_set_init)(bio.as_ptr(), 1);
        Some(bio)
    }
}

/// The one method table of these `BIO`s.
fn method(library: &'static Library) -> Option<*const BioMethod> {
    library.method(|| {
        // SAFETY: functions of the library, called as it documents them; those passed have the
        // signatures that it wants.
        unsafe {
            let index = (library.bio_get_new_index)();
            let method = (library.bio_meth_new)(index | SOURCE_AND_SINK, c"tokioloop".as_ptr());
            let complete = !method.is_null()
                && (library.bio_meth_set_read)(method, read_wire) == 1
                && (library.bio_meth_set_write)(method, write_wire) == 1
                && (library.bio_meth_set_ctrl)(method, control_wire) == 1
                && (library.bio_meth_set_destroy)(method, destroy_wire) == 1;
            if complete { method } else { null_mut() }
        }
    })
}

/// The wire of a `BIO`.
///
/// # Safety
/// `bio` must be of `new_bio`, and not be freed while the wire is used.
unsafe fn of<'a>(bio: *mut Bio) -> Option<(&'static Library, &'a Wire)> {
    let library = Library::loaded()?;
    // SAFETY: the data of a `BIO` of `new_bio`, by the caller's promise: a wire of which it holds a
    // reference until it is freed, or null before it is set and after.
    unsafe {
        let wire = (library.bio_get_data)(bio).cast::<Wire>();
        wire.as_ref().map(|wire| (library, wire))
    }
}

/// OpenSSL wants ciphertext of the peer.
unsafe extern "C" fn read_wire(bio: *mut Bio, into: *mut c_char, size: c_int) -> c_int {
    // SAFETY: OpenSSL calls this with a `BIO` of the method, which is alive during the call.
    let Some((library, wire)) = (unsafe { of(bio) }) else { return -1 };
    // SAFETY: the same `BIO`.
    unsafe { (library.bio_clear_flags)(bio, RETRY_FLAGS) };
    let size = usize::try_from(size).unwrap_or(0);
    if into.is_null() || size == 0 {
        return 0;
    }
    // SAFETY: OpenSSL's own memory, of that size, which nobody else uses meanwhile.
    let into = unsafe { slice::from_raw_parts_mut(into.cast::<u8>(), size) };
    let count = wire.bytes().read(into);
    if count == 0 {
        // SAFETY: the same `BIO`.
        unsafe { (library.bio_set_flags)(bio, RETRY_READ) };
        return -1;
    }
    count as c_int
}

/// OpenSSL has ciphertext for the peer.
unsafe extern "C" fn write_wire(bio: *mut Bio, data: *const c_char, size: c_int) -> c_int {
    // SAFETY: OpenSSL calls this with a `BIO` of the method, which is alive during the call.
    let Some((library, wire)) = (unsafe { of(bio) }) else { return -1 };
    // SAFETY: the same `BIO`.
    unsafe { (library.bio_clear_flags)(bio, RETRY_FLAGS) };
    let Ok(length) = usize::try_from(size) else { return -1 };
    if data.is_null() || length == 0 {
        return 0;
    }
    // SAFETY: OpenSSL's own memory, of that size, which nobody writes to meanwhile.
    let data = unsafe { slice::from_raw_parts(data.cast::<u8>(), length) };
    if append(&mut wire.bytes().outgoing, data) { size } else { -1 }
}

unsafe extern "C" fn control_wire(
    bio: *mut Bio,
    command: c_int,
    _number: c_long,
    _data: *mut c_void,
) -> c_long {
    // SAFETY: OpenSSL calls this with a `BIO` of the method, which is alive during the call.
    let wire = unsafe { of(bio) };
    match (command, wire) {
        // Bytes leave at the end of the batch whatever OpenSSL thinks of it.
        (CTRL_FLUSH, _) => 1,
        (CTRL_PENDING, Some((_, wire))) => wire.waiting() as c_long,
        (CTRL_WPENDING, Some((_, wire))) => wire.unsent() as c_long,
        _ => 0,
    }
}

unsafe extern "C" fn destroy_wire(bio: *mut Bio) -> c_int {
    let Some(library) = Library::loaded() else { return 0 };
    // SAFETY: OpenSSL calls this once, when nobody has the `BIO` any more. Its data is the reference of
    // `new_bio`, or null if that did not come so far.
    unsafe {
        let wire = (library.bio_get_data)(bio).cast::<Wire>().cast_const();
        (library.bio_set_data)(bio, null_mut());
        if !wire.is_null() {
            drop(Arc::from_raw(wire));
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_whatever_the_pieces() {
        let wire = Wire::default();
        let (mut given, mut got) = (Vec::new(), Vec::new());
        for size in [1usize, 5, 300, 70_000, 3, 0, 40_000, 1] {
            let data: Vec<u8> = (0..size).map(|at| (at + given.len()) as u8).collect();
            assert!(wire.feed(&data));
            given.extend_from_slice(&data);
            let mut into = vec![0; size / 2 + 1];
            let count = wire.bytes().read(&mut into);
            got.extend_from_slice(&into[..count]);
            assert_eq!(wire.waiting(), given.len() - got.len());
        }
        let mut into = vec![0; given.len()];
        let count = wire.bytes().read(&mut into);
        got.extend_from_slice(&into[..count]);
        assert_eq!(got, given);
        assert_eq!(wire.waiting(), 0);
    }

    #[test]
    fn what_is_left_of_an_adopted_buffer_comes_before_what_was_fed_since() {
        let wire = Wire::default();
        let mut buffer: Vec<u8> = (0..100).collect();
        assert!(!wire.adopt(&mut buffer, 101));
        assert!(wire.adopt(&mut buffer, 50));
        assert!(buffer.is_empty());
        assert!(!wire.adopt(&mut vec![1; 10], 10));
        assert_eq!(wire.waiting(), 50);
        let mut into = [0; 20];
        assert_eq!(wire.bytes().read(&mut into), 20);
        assert!(wire.feed(&[200, 201]));
        assert_eq!(wire.waiting(), 32);
        let back = wire.adopted();
        assert_eq!(back.map(|back| back.len()), Some(100));
        assert_eq!(wire.adopted(), None);
        assert_eq!(wire.waiting(), 32);
        let mut into = [0; 40];
        assert_eq!(wire.bytes().read(&mut into), 32);
        assert_eq!(into[..30], (20..50).collect::<Vec<u8>>());
        assert_eq!(into[30..32], [200, 201]);
        assert_eq!(wire.waiting(), 0);
    }

    #[test]
    fn what_is_written_while_bytes_are_sent_is_kept() {
        let wire = Wire::default();
        assert!(append(&mut wire.bytes().outgoing, b"first"));
        let sent = wire.take(|data| {
            assert!(append(&mut wire.bytes().outgoing, b"second"));
            data.to_vec()
        });
        assert_eq!(sent, b"first");
        assert_eq!(wire.unsent(), 6);
        assert_eq!(wire.take(<[u8]>::to_vec), b"second");
        assert_eq!(wire.unsent(), 0);
    }

    #[test]
    fn large_memory_is_given_back() {
        let wire = Wire::default();
        assert!(wire.feed(&[0; 1 << 20]));
        assert!(append(&mut wire.bytes().outgoing, &[0; 1 << 20]));
        wire.bytes().read(&mut vec![0; 1 << 20]);
        wire.take(|data| assert_eq!(data.len(), 1 << 20));
        assert!(wire.bytes().incoming.capacity() <= MOST_KEPT);
        assert!(wire.bytes().outgoing.capacity() <= MOST_KEPT);
    }
}
