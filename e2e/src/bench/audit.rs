//! What did the programs under test write? Read from the API server's audit log, which holds nothing else.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::run::Run;
use crate::{control_plane, host};

/// The log, read up to some place.
pub struct Log {
    file: BufReader<File>,
    /// The beginning of a line whose end was not written yet.
    line: String,
}

impl Log {
    pub fn open(run: &Run) -> Result<Self> {
        let path = control_plane::audit_log(run);
        // The API server makes the file with the first write, which may not have happened.
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        Ok(Self {
            file: BufReader::new(file),
            line: String::new(),
        })
    }

    /// The resource of every write since the last call.
    pub fn written(&mut self) -> Result<Vec<String>> {
        let mut resources = Vec::new();
        while self.file.read_line(&mut self.line)? > 0 && self.line.ends_with('\n') {
            let event: serde_json::Value =
                serde_json::from_str(&self.line).context("parse the audit log")?;
            resources.push(
                event["objectRef"]["resource"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            );
            self.line.clear();
        }
        Ok(resources)
    }

    /// Waits until nothing but leases was written for some seconds: what the last change caused is not written at rest.
    pub fn settle(&mut self) -> Result<()> {
        const QUIET: Duration = Duration::from_secs(5);
        let began = Instant::now();
        let mut last = began;
        host::wait_until(
            "the writes of the last change are done",
            Duration::from_secs(300),
            || {
                if self.written()?.iter().any(|resource| resource != "leases") {
                    last = Instant::now();
                }
                Ok(last.elapsed() > QUIET)
            },
        )?;
        println!("  quiet after {:.1} s", began.elapsed().as_secs_f64());
        Ok(())
    }
}
