//! HTTP/1.1 requests on a connection that is kept.

use super::{Protocol, end_of_head};

pub struct Http {
    request: Vec<u8>,
    size: usize,
}

impl Http {
    /// Expects bodies of `size` bytes.
    pub fn new(size: usize) -> Self {
        let request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n".to_vec();
        Self { request, size }
    }

    fn length(&self, head: &[u8]) -> Result<usize, String> {
        if !head.starts_with(b"HTTP/1.1 200 ") {
            let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
            return Err(format!("the server answered {}", String::from_utf8_lossy(line)));
        }
        let length = head.split(|&byte| byte == b'\n').find_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            if !name.eq_ignore_ascii_case(b"content-length") {
                return None;
            }
            std::str::from_utf8(value).ok()?.trim().parse::<usize>().ok()
        });
        match length {
            Some(length) if length == self.size => Ok(length),
            Some(length) => Err(format!("a body of {length} bytes, not {}", self.size)),
            None => Err("an answer without its length".into()),
        }
    }
}

#[derive(Default)]
pub struct Answer {
    /// The head, as long as it has not come to its end.
    head: Vec<u8>,
    /// Bytes of the body that are still to come, when the head is over.
    left: Option<usize>,
}

impl Protocol for Http {
    type Answer = Answer;

    fn request(&self) -> &[u8] {
        &self.request
    }

    fn take(
        &self,
        answer: &mut Answer,
        bytes: &[u8],
        _sent: usize,
        _compare: bool,
    ) -> Result<bool, String> {
        let (left, body) = match answer.left {
            Some(left) => (left, bytes.len()),
            None if answer.head.is_empty() => match end_of_head(bytes) {
                Some(end) => (self.length(&bytes[..end])?, bytes.len() - end),
                None => {
                    answer.head.extend_from_slice(bytes);
                    return Ok(false);
                }
            },
            None => {
                answer.head.extend_from_slice(bytes);
                let Some(end) = end_of_head(&answer.head) else { return Ok(false) };
                (self.length(&answer.head[..end])?, answer.head.len() - end)
            }
        };
        let left = left.checked_sub(body).ok_or("the server sent more than its answer")?;
        answer.left = Some(left);
        Ok(left == 0)
    }
}
