//! WebSocket messages that come back (RFC 6455): one masked binary frame there, one frame back.

use std::io::{Read, Write};

use super::echo::message;
use super::{Protocol, end_of_head};
use crate::channels::Channel;

/// The key and the answer of the RFC's example. A server computes the answer; nobody else must.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The last frame of a binary message.
const BINARY: u8 = 0x82;

pub struct Websocket {
    message: Vec<u8>,
    frame: Vec<u8>,
    header: Vec<u8>,
}

impl Websocket {
    pub fn new(size: usize) -> Self {
        let message = message(size);
        let mut frame = header(size, 0x80);
        frame.extend_from_slice(&MASK);
        frame.extend(message.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        Self { message, frame, header: header(size, 0) }
    }
}

/// A frame's first bytes; `masked` is 0x80 in those of a client.
fn header(size: usize, masked: u8) -> Vec<u8> {
    let mut bytes = vec![BINARY];
    match u16::try_from(size) {
        Ok(size) if size < 126 => bytes.push(masked | size as u8),
        Ok(size) => {
            bytes.push(masked | 126);
            bytes.extend_from_slice(&size.to_be_bytes());
        }
        Err(_) => {
            bytes.push(masked | 127);
            bytes.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    bytes
}

impl Protocol for Websocket {
    /// How many bytes of the frame have come.
    type Answer = usize;

    fn open(&self, channel: &mut Channel) -> Result<(), String> {
        let Channel::Tcp(stream) = channel else {
            return Err("WebSocket is spoken over TCP only".into());
        };
        let failed = |error: std::io::Error| format!("handshake: {error}");
        let request = format!(
            "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        let mut byte = [0];
        // A byte at a time: nothing after the head may be lost.
        while end_of_head(&answer).is_none() {
            stream.read_exact(&mut byte).map_err(failed)?;
            answer.push(byte[0]);
        }
        let accepted = answer.windows(ACCEPT.len()).any(|window| window == ACCEPT);
        if !answer.starts_with(b"HTTP/1.1 101 ") || !accepted {
            return Err(format!("handshake: {}", String::from_utf8_lossy(&answer)));
        }
        Ok(())
    }

    fn request(&self) -> &[u8] {
        &self.frame
    }

    fn take(
        &self,
        answer: &mut usize,
        bytes: &[u8],
        _sent: usize,
        compare: bool,
    ) -> Result<bool, String> {
        let (start, end) = (*answer, *answer + bytes.len());
        let whole = self.header.len() + self.message.len();
        if end > whole {
            return Err("the server sent more than its answer".into());
        }
        if compare {
            let expected = self.header.iter().chain(&self.message).skip(start);
            if !bytes.iter().zip(expected).all(|(byte, expected)| byte == expected) {
                return Err("the server returned another frame than was sent".into());
            }
        }
        *answer = end;
        Ok(end == whole)
    }
}
