//! Child processes, by their numbers or by descriptors of them (pidfds).

use std::io;

use super::super::Child;
use super::check;

/// The exit status of a dead child as Python's `subprocess` spells it, which the kernel forgets with
/// this; `None` if it is alive.
pub(crate) fn reap(child: Child) -> io::Result<Option<i32>> {
    wait(child, libc::WEXITED | libc::WNOHANG)
}

/// Whether it may be reaped: the error that `reap` would have, if any.
pub(crate) fn can_reap(child: Child) -> io::Result<()> {
    wait(child, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).map(drop)
}

fn wait(child: Child, options: i32) -> io::Result<Option<i32>> {
    let (kind, number) = match child {
        Child::Descriptor(fd) => (libc::P_PIDFD, libc::id_t::try_from(fd)),
        Child::Number(pid) => (libc::P_PID, libc::id_t::try_from(pid)),
    };
    let number = number.map_err(|_negative| io::Error::from_raw_os_error(libc::ECHILD))?;
    // SAFETY: plain numbers, of which all may be zero.
    let mut end: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: room for the kernel's answer. It does not block: signals cannot interrupt it.
    check(unsafe { libc::waitid(kind, number, &raw mut end, options) } as isize)?;
    // SAFETY: what `waitid` filled in, or zeros if no child was dead.
    let (pid, status) = unsafe { (end.si_pid(), end.si_status()) };
    Ok((pid != 0).then_some(if end.si_code == libc::CLD_EXITED { status } else { -status }))
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::process::Command;
    use std::thread;

    use super::*;

    #[expect(clippy::zombie_processes, reason = "the tests reap it")]
    fn child(script: &str) -> libc::pid_t {
        let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        child.id().try_into().unwrap()
    }

    fn end(child: Child) -> i32 {
        loop {
            match reap(child).unwrap() {
                Some(status) => return status,
                None => thread::yield_now(),
            }
        }
    }

    #[test]
    fn a_status_is_read_once() {
        let pid = child("exit 5");
        assert_eq!(end(Child::Number(pid)), 5);
        assert_eq!(reap(Child::Number(pid)).unwrap_err().raw_os_error(), Some(libc::ECHILD));
        assert_eq!(reap(Child::Number(-1)).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }

    #[test]
    fn a_signal_is_a_negative_status() {
        let pid = child("read forever; kill -KILL $$");
        assert_eq!(end(Child::Number(pid)), -9);
    }

    fn descriptor(pid: libc::pid_t) -> OwnedFd {
        // SAFETY: no pointers; a new descriptor, or -1.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        // SAFETY: made just now; nothing else owns it.
        unsafe { OwnedFd::from_raw_fd(pidfd.try_into().unwrap()) }
    }

    #[test]
    fn a_living_child_has_no_status() {
        let pid = child("exec sleep 600");
        let pidfd = descriptor(pid);
        can_reap(Child::Descriptor(pidfd.as_raw_fd())).unwrap();
        assert_eq!(reap(Child::Descriptor(pidfd.as_raw_fd())).unwrap(), None);
        // SAFETY: no pointers; a child that was not reaped.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        assert_eq!(end(Child::Descriptor(pidfd.as_raw_fd())), -9);
    }

    #[test]
    fn a_descriptor_stands_for_its_child() {
        let pid = child("exit 7");
        can_reap(Child::Number(pid)).unwrap();
        let pidfd = descriptor(pid);
        assert_eq!(end(Child::Descriptor(pidfd.as_raw_fd())), 7);
        let again = reap(Child::Descriptor(pidfd.as_raw_fd()));
        assert_eq!(again.unwrap_err().raw_os_error(), Some(libc::ECHILD));
        let could = can_reap(Child::Descriptor(pidfd.as_raw_fd()));
        assert_eq!(could.unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }
}
