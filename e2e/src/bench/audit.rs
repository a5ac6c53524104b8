//! What did the programs under test write? Read from the API server's audit log, which holds nothing else.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::Run;
use crate::{control_plane, host};

/// One request that changed something, or tried to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Who wrote, as the API server names service accounts.
    pub user: String,
    pub verb: String,
    /// The resource, with its part where one was written: `services/status`.
    pub resource: String,
    pub namespace: String,
    pub name: String,
}

impl Write {
    fn of(event: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        let mut resource = text(&object["resource"]);
        if let Some(part) = object["subresource"].as_str() {
            resource = format!("{resource}/{part}");
        }
        Self {
            user: text(&event["user"]["username"]),
            verb: text(&event["verb"]),
            resource,
            namespace: text(&object["namespace"]),
            name: text(&object["name"]),
        }
    }

    /// Leases are renewed on a clock of their own, whatever happens.
    pub fn is_lease(&self) -> bool {
        self.resource == "leases"
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            user,
            verb,
            resource,
            namespace,
            name,
        } = self;
        write!(f, "{verb} {resource} {namespace}/{name} by {user}")
    }
}

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

    /// Every write since the last call.
    pub fn written(&mut self) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        while self.file.read_line(&mut self.line)? > 0 && self.line.ends_with('\n') {
            let event = serde_json::from_str(&self.line).context("parse the audit log")?;
            writes.push(Write::of(&event));
            self.line.clear();
        }
        Ok(writes)
    }

    /// Waits until nothing but leases was written for some seconds: what the last change caused is not written at rest.
    /// Returns what was written since the last call, to the end of the wait.
    pub fn settle(&mut self) -> Result<Vec<Write>> {
        const QUIET: Duration = Duration::from_secs(5);
        let began = Instant::now();
        let mut last = began;
        let mut all = Vec::new();
        host::wait_until(
            "the writes of the last change are done",
            Duration::from_secs(300),
            || {
                let writes = self.written()?;
                if !writes.iter().all(Write::is_lease) {
                    last = Instant::now();
                }
                all.extend(writes);
                Ok(last.elapsed() > QUIET)
            },
        )?;
        println!("  quiet after {:.1} s", began.elapsed().as_secs_f64());
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_write_is_named_by_whom_it_is_from_and_what_it_changed() {
        let write = Write::of(&json!({
            "verb": "patch", "user": {"username": "system:serviceaccount:metallb-system:ferrolb-operator"},
            "objectRef": {"resource": "services", "subresource": "status", "namespace": "default", "name": "web"},
        }));
        assert_eq!(
            write.to_string(),
            "patch services/status default/web by system:serviceaccount:metallb-system:ferrolb-operator"
        );
        assert!(!write.is_lease());
        let renewal = json!({"objectRef": {"resource": "leases", "name": "leader"}});
        assert!(Write::of(&renewal).is_lease());
    }
}
