//! One trace shows a Service from the decision to the first packet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Scenario, layer2};
use crate::cluster::{SYSTEM, Site};
use crate::install;
use crate::otlp::Receiver;
use crate::plan::CONTROL_PLANE;

pub const SCENARIOS: &[Scenario] = &[Scenario {
    group: "traces",
    name: "one-trace-per-change",
    doc: "operator and speaker export decision, status write and first packet of a Service as one trace over OTLP",
    run: one_trace,
}];

/// Words in the names of the spans that one trace must hold.
const STEPS: [&str; 3] = ["allocate", "write status", "first packet"];

fn one_trace(site: &Site) -> Result<String> {
    let receiver = Receiver::start(
        site.runtime(),
        format!("{}:4317", CONTROL_PLANE.v4).parse()?,
    )?;
    let endpoint = format!(
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://{}:4317",
        CONTROL_PLANE.v4
    );
    let workloads = ["deployment/ferrolb-operator", "daemonset/ferrolb-speaker"];
    for workload in workloads {
        site.kubectl(&["-n", SYSTEM, "set", "env", workload, &endpoint])?;
    }
    install::rolled_out(site)?;
    let result = layer2::announced(site, "traced").and_then(|_| complete_trace(site, &receiver));
    for workload in workloads {
        site.kubectl(&[
            "-n",
            SYSTEM,
            "set",
            "env",
            workload,
            "OTEL_EXPORTER_OTLP_ENDPOINT-",
        ])?;
    }
    install::rolled_out(site)?;
    result
}

fn complete_trace(site: &Site, receiver: &Receiver) -> Result<String> {
    let complete = site.wait("one trace holds all steps", Duration::from_secs(20), || {
        Ok(by_trace(receiver).into_values().find(|names| {
            STEPS
                .iter()
                .all(|step| names.iter().any(|(_, name)| name.contains(step)))
        }))
    });
    match complete {
        Ok(names) => Ok(names
            .iter()
            .map(|(_, name)| name.as_str())
            .collect::<Vec<_>>()
            .join(", ")),
        Err(error) => bail!(
            "{error:#}; received: {:?}",
            by_trace(receiver).into_values().collect::<Vec<_>>()
        ),
    }
}

fn by_trace(receiver: &Receiver) -> BTreeMap<Vec<u8>, BTreeSet<(String, String)>> {
    let mut traces: BTreeMap<Vec<u8>, BTreeSet<(String, String)>> = BTreeMap::new();
    for span in receiver.spans() {
        traces
            .entry(span.trace)
            .or_default()
            .insert((span.service, span.name));
    }
    traces
}
