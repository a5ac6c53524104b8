//! One trace shows a Service from the decision to the first packet.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Scenario, bgp, layer2};
use crate::cluster::{SYSTEM, Site};
use crate::otlp::{Receiver, Span};
use crate::plan::CONTROL_PLANE;
use crate::{install, objects};

pub const SCENARIOS: &[Scenario] = &[Scenario {
    group: "traces",
    name: "one-trace-per-change",
    doc: "operator and speaker export decision, status write and first packet of a Service as one trace over OTLP",
    run: one_trace,
}];

/// The spans that one trace must hold: who made it, what its name says, and what it says was sent, if anything.
type Step = (&'static str, &'static str, Option<&'static str>);

/// What every trace begins with.
const DECIDED: [Step; 2] = [
    ("ferrolb-operator", "allocate", None),
    ("ferrolb-operator", "write status", None),
];
/// How it ends by layer 2, and how by BGP.
const SENT: [Step; 2] = [
    (
        "ferrolb-speaker",
        "first packet",
        Some("gratuitous frame sent"),
    ),
    ("ferrolb-speaker", "first packet", Some("UPDATE sent")),
];

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
    let result = traced(site, &receiver);
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

/// One Service that is announced by layer 2 and one by BGP.
fn traced(site: &Site, receiver: &Receiver) -> Result<String> {
    layer2::announced(site, "traced")?;
    site.create(
        "/api/v1/namespaces/default/services",
        &objects::service("traced-by-bgp", "bgp"),
    )?;
    bgp::spread_over_all(site, &site.addresses("traced-by-bgp", 1)?.remove(0))?;
    for sent in SENT {
        let complete = site.wait_for("one trace holds all steps", Duration::from_secs(20), || {
            Ok(by_trace(receiver).values().any(|spans| {
                let holds = |step: &Step| spans.iter().any(|span| is(span, step));
                DECIDED.iter().all(holds) && holds(&sent)
            }))
        });
        if let Err(error) = complete {
            bail!(
                "{error:#}; {sent:?} is looked for in {:?}",
                by_trace(receiver)
            );
        }
    }
    Ok("allocate, write status, first packet: for layer 2 and for BGP".to_owned())
}

fn is(span: &Span, (service, name, sent): &Step) -> bool {
    span.service == *service
        && span.name.contains(name)
        && sent.is_none_or(|sent| span.attributes.get("what").is_some_and(|what| what == sent))
}

fn by_trace(receiver: &Receiver) -> BTreeMap<Vec<u8>, Vec<Span>> {
    let mut traces: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
    for span in receiver.spans() {
        traces.entry(span.trace.clone()).or_default().push(span);
    }
    traces
}
