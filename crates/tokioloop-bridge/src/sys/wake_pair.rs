//! A socket whose one end any thread writes to, and whose other end a loop watches.

#[cfg(not(unix))]
pub(crate) use elsewhere::WakePair;
#[cfg(unix)]
pub(crate) use unix::WakePair;

#[cfg(unix)]
mod unix {
    use std::io::{self, ErrorKind, Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    /// Both ends. No call blocks.
    pub(crate) struct WakePair {
        reading: UnixStream,
        writing: UnixStream,
    }

    impl WakePair {
        pub(crate) fn new() -> io::Result<Self> {
            // Not inherited by other programs: std opens all descriptors that way.
            let (reading, writing) = UnixStream::pair()?;
            reading.set_nonblocking(true)?;
            writing.set_nonblocking(true)?;
            Ok(Self { reading, writing })
        }

        /// What the loop is to watch.
        pub(crate) fn descriptor(&self) -> i32 {
            self.reading.as_raw_fd()
        }

        /// Makes the descriptor readable; in any thread.
        pub(crate) fn wake(&self) {
            // A full socket is readable as well, and both of its ends are open here.
            while let Err(error) = (&self.writing).write(&[0])
                && error.kind() == ErrorKind::Interrupted
            {}
        }

        /// Takes the wake-ups that have arrived.
        pub(crate) fn clear(&self) {
            let mut bytes = [0; 64];
            loop {
                match (&self.reading).read(&mut bytes) {
                    Ok(count) if count == bytes.len() => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    _ => return,
                }
            }
        }
    }
}

/// Loops of other platforms watch no descriptors, or not all of them do.
#[cfg(not(unix))]
mod elsewhere {
    use std::io::{self, ErrorKind};

    /// There is none.
    pub(crate) enum WakePair {}

    impl WakePair {
        pub(crate) fn new() -> io::Result<Self> {
            Err(ErrorKind::Unsupported.into())
        }

        pub(crate) fn descriptor(&self) -> i32 {
            match *self {}
        }

        pub(crate) fn wake(&self) {
            match *self {}
        }

        pub(crate) fn clear(&self) {
            match *self {}
        }
    }
}
