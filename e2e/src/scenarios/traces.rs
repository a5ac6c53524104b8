//! One trace shows a Service from the decision to the first packet.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Scenario, bgp, l2};
use crate::cluster::{SYSTEM, Site};
use crate::otlp::{PORT, Receiver, Span};
use crate::plan::CONTROL_PLANE;
use crate::{install, objects};

pub const SCENARIOS: &[Scenario] = &[Scenario {
    group: "traces",
    name: "one-trace-per-change",
    doc: "one trace over OTLP: the request, its admission, decision, status write and first packet of a Service; or from the decision on",
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
        format!("{}:{PORT}", CONTROL_PLANE.v4).parse()?,
    )?;
    let endpoint = format!(
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://{}:{PORT}",
        CONTROL_PLANE.v4
    );
    let workloads = [
        "deployment/ferrolb-operator",
        "deployment/ferrolb-webhook",
        "daemonset/ferrolb-speaker",
    ];
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
    l2::announced(site, "traced")?;
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
    from_the_request_on(site, receiver)?;
    Ok("allocate, write status, first packet: for layer 2 and for BGP, and one from the request on".to_owned())
}

/// The trace that whoever applies a Service began, as a deployment tool does.
fn from_the_request_on(site: &Site, receiver: &Receiver) -> Result<()> {
    const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    const BEGUN: [Step; 2] = [
        ("apiserver", "Create", None),
        ("ferrolb-webhook", "admission", None),
    ];
    let created = site.create_traced(
        "/api/v1/namespaces/default/services",
        &objects::service("traced-from-the-request", "layer2"),
        &format!("00-{TRACE:032x}-b7ad6b7169203331-01"),
    )?;
    let left = &created["metadata"]["annotations"]["ferrolb.io/traceparent"];
    ensure!(
        left.as_str()
            .is_some_and(|left| left.contains(&format!("{TRACE:032x}"))),
        "the webhook left {left} on the Service"
    );
    let complete = site.wait_for("one trace holds all steps", Duration::from_secs(20), || {
        let traces = by_trace(receiver);
        let spans = traces.get(TRACE.to_be_bytes().as_slice());
        let holds =
            |step: &Step| spans.is_some_and(|spans| spans.iter().any(|span| is(span, step)));
        let [by_layer2, _] = SENT;
        Ok(BEGUN.iter().chain(&DECIDED).chain([&by_layer2]).all(holds))
    });
    complete.with_context(|| {
        format!(
            "of the trace there is {:?}",
            by_trace(receiver).get(TRACE.to_be_bytes().as_slice())
        )
    })
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
