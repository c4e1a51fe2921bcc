//! What has to be asked of the operating system directly.

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
