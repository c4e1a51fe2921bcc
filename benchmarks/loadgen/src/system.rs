//! What has to be asked of the operating system directly.

use std::fs;
use std::io;
use std::mem;

/// Keeps this process on one core.
pub fn pin_to_core(core: usize) -> Result<(), String> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(format!("--core: {core} is more than this system can name"));
    }
    // SAFETY: an all-zero `cpu_set_t` is the empty set, `core` is within it, and the size passed
    // is the size of the set.
    let result = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, mem::size_of_val(&set), &set)
    };
    if result < 0 {
        return Err(format!("cannot use core {core}: {}", io::Error::last_os_error()));
    }
    Ok(())
}

/// Processor time that all threads of the process `pid` have used, user and system.
pub fn cpu_seconds(pid: i32) -> Result<f64, String> {
    // SAFETY: both pointers are to locals that live through the calls.
    let (found, read, time) = unsafe {
        let mut clock: libc::clockid_t = 0;
        let mut time: libc::timespec = mem::zeroed();
        let found = libc::clock_getcpuclockid(pid, &mut clock);
        let read = if found == 0 { libc::clock_gettime(clock, &mut time) } else { 0 };
        (found, read, time)
    };
    if found != 0 || read != 0 {
        return Err(format!("cannot read the processor time of process {pid}"));
    }
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// Resident memory of the process `pid`, in bytes.
pub fn resident_bytes(pid: i32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/statm");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let pages: u64 = text
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| format!("{path}: not understood: {text}"))?;
    // SAFETY: takes no pointers; the page's size is known on every Linux.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages * page.max(0) as u64)
}

/// Allows this process as many open files as it may allow itself.
pub fn raise_file_limit() {
    // SAFETY: the pointers are to a local that lives through the calls. Where the kernel refuses,
    // the limit stays as it was, and opening too many files says so.
    unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Makes this process end with its parent, however that ends.
pub fn tie_to_parent() {
    // SAFETY: takes plain numbers; cannot fail for a signal that exists.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}
