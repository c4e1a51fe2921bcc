//! What is said over a channel: requests, and how their answers are recognized.

mod echo;
mod http;
mod websocket;

pub use echo::Echo;
pub use http::Http;
pub use websocket::Websocket;

use crate::channels::Channel;

pub trait Protocol {
    /// How far the answer to one request has come.
    type Answer: Default;

    /// What comes before the first request, over a channel that still blocks.
    fn open(&self, _channel: &mut Channel) -> Result<(), String> {
        Ok(())
    }

    fn request(&self) -> &[u8];

    /// Accounts for `bytes` of the answer to a request of which `sent` bytes are on their way;
    /// true when that was all of it. Contents are looked at where `compare` says so: in the first
    /// answer of a connection.
    fn take(
        &self,
        answer: &mut Self::Answer,
        bytes: &[u8],
        sent: usize,
        compare: bool,
    ) -> Result<bool, String>;
}

/// The position after the empty line that ends a head, if it is there.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|position| position + 4)
}
