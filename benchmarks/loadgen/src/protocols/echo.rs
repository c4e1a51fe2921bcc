//! A message that comes back as it is.

use super::Protocol;

pub struct Echo {
    message: Vec<u8>,
}

impl Echo {
    /// One line, so that servers that read lines can echo it too.
    pub fn new(size: usize) -> Self {
        Self { message: message(size) }
    }
}

pub fn message(size: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (b'a'..=b'z').cycle().take(size - 1).collect();
    bytes.push(b'\n');
    bytes
}

impl Protocol for Echo {
    /// How many bytes have come back.
    type Answer = usize;

    fn request(&self) -> &[u8] {
        &self.message
    }

    fn take(
        &self,
        answer: &mut usize,
        bytes: &[u8],
        sent: usize,
        compare: bool,
    ) -> Result<bool, String> {
        let end = *answer + bytes.len();
        if end > sent {
            return Err(format!(
                "the server returned {end} bytes of a message of which {sent} were sent"
            ));
        }
        if compare && bytes != &self.message[*answer..end] {
            return Err("the server returned other bytes than were sent".into());
        }
        *answer = end;
        Ok(end == self.message.len())
    }
}
