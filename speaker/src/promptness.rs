//! How soon does the kernel let this process run when there is something to answer?
//!
//! Linux 6.12 and later give each thread a slice of processor time, and let one with a short slice run before one with a long
//! slice that is in the middle of its own. A speaker needs a few microseconds for an answer and no more of the processor
//! than others, so a short slice costs it nothing. No privilege is needed; an older kernel ignores it.
#![allow(unsafe_code)]

use std::io;
use std::time::Duration;

/// The shortest slice that the kernel grants; its own is about 3 ms.
const SLICE: Duration = Duration::from_micros(100);

/// Asks for a short slice, for this thread and for those that it starts later.
///
/// # Errors
///
/// What the kernel says; a profile of forbidden system calls may forbid this one.
pub fn ask_for_a_short_slice() -> io::Result<()> {
    // SAFETY: the call takes two numbers and touches no memory. -1 is a priority as well as an error, and the thread that asks
    // about itself gets no error.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: SLICE.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the pointer is that of a value on the stack, whose first field is its size and which the kernel only reads, and
    // only during the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_it() {
        ask_for_a_short_slice().unwrap();
    }
}
