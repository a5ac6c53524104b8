//! The sandbox of a pod: holds the namespaces, collects orphans by ignoring them, and ends when told to.

use std::ffi::c_int;

unsafe extern "C" {
    fn pause() -> c_int;
    fn signal(number: c_int, handler: usize) -> usize;
    fn _exit(code: c_int) -> !;
}

const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;
const SIGCHLD: c_int = 17;
const IGNORE: usize = 1;

extern "C" fn end(_: c_int) {
    // SAFETY: _exit may be called from a signal handler (POSIX.1-2017, 2.4.3).
    unsafe { _exit(0) }
}

fn main() {
    // SAFETY: plain libc calls; the handler only calls _exit. With SIGCHLD ignored the kernel collects children itself.
    unsafe {
        signal(SIGCHLD, IGNORE);
        signal(SIGINT, end as *const () as usize);
        signal(SIGTERM, end as *const () as usize);
        loop {
            pause();
        }
    }
}
