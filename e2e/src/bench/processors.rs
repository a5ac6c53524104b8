//! What became of the time of this machine's processors.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::host;

/// Time in ticks of a hundredth of a second (proc(5), `/proc/stat`), of all processors together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Processors {
    pub idle: u64,
    /// Given to other machines by the host of this one.
    pub stolen: u64,
    pub all: u64,
}

impl Processors {
    /// Since this machine started.
    pub fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let first = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = first
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let of = |n: usize| {
            let ticks = ticks.get(n).copied();
            ticks.context("/proc/stat does not tell what became of the processors' time")
        };
        Ok(Self {
            idle: of(3)?,
            stolen: of(7)?,
            all: ticks.iter().take(8).sum(),
        })
    }

    pub fn since(&self, before: &Self) -> Self {
        Self {
            idle: self.idle.saturating_sub(before.idle),
            stolen: self.stolen.saturating_sub(before.stolen),
            all: self.all.saturating_sub(before.all),
        }
    }

    /// A part of all, in percent.
    pub fn percent(&self, part: u64) -> f64 {
        let number = |n: u64| u32::try_from(n).map_or(f64::NAN, f64::from);
        100.0 * number(part) / number(self.all)
    }
}

/// Waits until the control plane has digested what it was given, and the machine is mostly idle.
pub fn at_rest() -> Result<()> {
    const LOOK: Duration = Duration::from_secs(1);
    host::wait_until("the machine is at rest", Duration::from_secs(60), || {
        let before = Processors::now()?;
        std::thread::sleep(LOOK);
        let spent = Processors::now()?.since(&before);
        Ok(spent.percent(spent.idle) >= 70.0)
    })
}
