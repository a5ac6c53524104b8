//! Was this run told to stop? Ctrl-C and SIGTERM must leave nothing behind, so they end the work and not the process.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Must be called before any other thread exists: threads inherit the mask that keeps the signals for the one that waits.
pub fn watch_signals() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    signals.thread_block()?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            while let Ok(signal) = signals.wait() {
                if INTERRUPTED.swap(true, Ordering::SeqCst) {
                    eprintln!("{signal} again: still cleaning up");
                    continue;
                }
                eprintln!("\n{signal}: cleaning up");
            }
        })?;
    Ok(())
}

/// An error once the run was told to stop.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}
