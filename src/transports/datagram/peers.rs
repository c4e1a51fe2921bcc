//! The addresses of recent senders.

use pyo3::prelude::*;

use crate::driver::sys::address::SockAddr;

/// Shelves for addresses that datagrams came from: at first, and at most; and the room on each.
const FEW: usize = 4;
const MANY: usize = 256;
const ROOM: usize = 4;

/// The addresses of recent senders as Python objects: a peer's datagrams share one tuple.
#[derive(Default)]
pub(super) struct Peers {
    shelves: Vec<[Known; ROOM]>,
    /// Where the last address was found or inserted.
    latest: (usize, usize),
}

type Known = Option<(Box<[u8]>, Py<PyAny>)>;

/// Addresses that made room for a new one; to be dropped where that may run other code.
pub(super) type Forgotten = (Known, Vec<[Known; ROOM]>);

impl Peers {
    fn shelf(&self, address: &[u8]) -> usize {
        let mut mixed = 0_u64;
        for chunk in address.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mixed = (mixed.rotate_left(5) ^ u64::from_ne_bytes(word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (mixed >> 32) as usize % self.shelves.len().max(1)
    }

    pub(super) fn find(&mut self, py: Python<'_>, address: &[u8]) -> Option<Py<PyAny>> {
        let at = self.shelf(address);
        for (place, known) in self.shelves.get(at)?.iter().enumerate() {
            if let Some((known, object)) = known
                && **known == *address
            {
                self.latest = (at, place);
                return Some(object.clone_ref(py));
            }
        }
        None
    }

    /// Remembers an address, in the place of the oldest one on its shelf. When the first address would
    /// have to go, all go, and there are more shelves.
    #[must_use]
    pub(super) fn keep(&mut self, address: &[u8], object: Py<PyAny>) -> Forgotten {
        let mut forgotten = Vec::new();
        let full = match self.shelves.get(self.shelf(address)) {
            Some(shelf) => shelf[ROOM - 1].is_some(),
            None => true,
        };
        if full && self.shelves.len() < MANY {
            let more = (self.shelves.len() * 4).max(FEW);
            forgotten = std::mem::take(&mut self.shelves);
            self.shelves.resize_with(more, Default::default);
        }
        let at = self.shelf(address);
        self.latest = (at, 0);
        self.shelves[at].rotate_right(1);
        (self.shelves[at][0].replace((address.into(), object)), forgotten)
    }

    /// The kernel's form of the last sender's address, if this is that object.
    pub(super) fn reply(&self, object: &Bound<'_, PyAny>) -> Option<SockAddr> {
        let (address, known) = self.shelves.get(self.latest.0)?[self.latest.1].as_ref()?;
        known.is(object).then(|| SockAddr::from_bytes(address))
    }
}
