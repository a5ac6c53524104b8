//! `lab bench`: how fast, how much memory, how many writes. The programs under test run bare in the namespaces, with the
//! token of their own service account, so that another implementation of the same API can be put in their place.

mod admission;
mod answers;
mod audit;
mod decisions;
pub mod failover;
mod flood;
mod gobgp;
mod load;
mod processors;
mod restart;
mod routes;
mod rows;
mod subject;
mod table;
mod unrelated;
mod watch;
mod wire;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::cluster::{SYSTEM, Site};
use crate::plan::NODES;
use crate::run::Run;
use crate::{host, scenarios, site};
use restart::End;
pub use rows::Rows;
use rows::at_most;
use subject::Subjects;
pub use subject::{Options, account_kubeconfig};

/// The Services that stay, beside those that are created one after the other.
const MANY: &str = "many";

/// A part of the measurement, on a site that was prepared for it.
pub type Part = fn(&Run, &Options, &mut Rows) -> Result<()>;

/// Measures answers on a busy segment, and a speaker that announces everything, on a control plane without kubelets.
pub fn answers(run: &Run, options: &Options, rows: &mut Rows) -> Result<()> {
    site::start_control_plane(run)?;
    let site = Site::connect(run.clone())?;
    set_up(&site, options)?;
    answers::measure(&site, options, rows)
}

/// Measures routes by the thousand, on a control plane without kubelets.
pub fn routes(run: &Run, options: &Options, rows: &mut Rows) -> Result<()> {
    site::start_control_plane(run)?;
    let site = Site::connect(run.clone())?;
    set_up(&site, options)?;
    routes::measure(&site, options, rows)
}

/// Measures what needs kubelets: FerroLB as it is installed, on three real nodes.
pub fn on_nodes(run: &Run, options: &Options, rows: &mut Rows) -> Result<()> {
    site::start(run)?;
    let site = Site::connect(run.clone())?;
    scenarios::set_up(&site, crate::install::WITHOUT_WEBHOOK)?;
    failover::measure(&site, options.runs, rows)
}

/// Measures everything else on a site that has a control plane but no kubelets: nothing else shall use the processors.
pub fn run(run: &Run, options: &Options, rows: &mut Rows) -> Result<()> {
    let decisions = options.decisions.as_deref().map(decisions::read);
    let decisions = decisions.transpose()?.unwrap_or_default();
    site::start_control_plane(run)?;
    let site = Site::connect(run.clone())?;
    set_up(&site, options)?;
    if options.admission {
        return admission::measure(&site, rows);
    }
    let mut subjects = Subjects::new(&site, options)?;
    let wire = wire::Wire::watch(run)?;
    let statuses = watch::Statuses::start(&site)?;

    subjects.start_speakers()?;
    subjects.start_controller()?;
    wire.wait_for_sessions(NODES.len())?;
    let first = load::one_by_one(&site, &statuses, &wire, "warm", 20)?;
    ensure!(!first.is_empty(), "no Service got an address");
    load::delete_all(&site)?;
    // A late gratuitous frame for an address that is given again would count as no time at all.
    wire.wait_quiet()?;

    let few = load::one_by_one(&site, &statuses, &wire, "few", options.samples)?;
    load::delete_all(&site)?;
    let writes_few = at_rest(&site, options, "0 Services")?;
    let idle = subjects.resident()?;

    let present = options.present;
    grow(&site, &statuses, &wire, 0, present)?;
    // They are present, and not any more being made: the control plane works on after the last of them has its address.
    processors::at_rest()?;
    let more = load::one_by_one(&site, &statuses, &wire, "more", options.samples)?;
    load::delete_prefix(&site, "more")?;
    wire.wait_quiet()?;
    let writes_many = at_rest(&site, options, &format!("{present} Services"))?;
    let at_present = subjects.resident()?;
    rows.latencies(&few, &more, present);

    let services = options.services;
    grow(&site, &statuses, &wire, present, services)?;
    audit::Log::open(run)?.settle()?;
    let grown = subjects.resident()?;
    println!("restarting the operator with {services} Services");
    let mut restart = |end| restart::measure(&site, options, &mut subjects, &statuses, end);
    let (told, crashed) = (restart(End::Told)?, restart(End::Crashed)?);
    rows.restarts(&told, &crashed, services);
    let restarted = subjects.resident()?;
    // Others do not say in the same place what they announce.
    let alone = options
        .measures_ferrolb()
        .then(|| speaker_alone(&mut subjects, &wire, services));
    let alone = alone.transpose()?;

    backlog(&site, options, &mut subjects, &statuses, &wire, rows)?;
    rows.memory("idle", &idle, Some(15.0), Some(15.0));
    rows.memory(
        &format!("{present} Services"),
        &at_present,
        Some(40.0),
        Some(25.0),
    );
    rows.memory(&format!("{services} Services"), &grown, Some(50.0), None);
    if let Some(alone) = alone {
        rows.add(
            &format!("resident memory of a speaker that announces {services} addresses alone"),
            alone,
            "MB",
            at_most(30.0),
        );
    }
    rows.add(
        &format!("resident memory of the operator, {services} Services, restarted"),
        restarted.operator,
        "MB",
        at_most(50.0),
    );
    rows.writes(&writes_few, &writes_many, present);
    rows.decisions(&decisions);
    if options.measures_ferrolb() {
        subjects.stop_controller()?;
        subjects.stop_speakers()?;
        admission::measure(&site, rows)?;
    }
    Ok(())
}

/// What one speaker holds that announces every address by layer 2, in megabytes; then there are all of them again.
fn speaker_alone(subjects: &mut Subjects<'_>, wire: &wire::Wire, services: usize) -> Result<f64> {
    println!("leaving everything to one speaker");
    subjects.leave_one_speaker(0)?;
    // The others' addresses are told once it is certain that they are gone.
    host::wait_until("the others are missed", Duration::from_secs(60), || {
        wire.wait_quiet()?;
        subjects
            .announced_by_layer2(0)
            .map(|count| count >= services)
    })?;
    let resident = subjects.resident_speaker(0)?;
    println!("  it holds {resident:.1} MB");
    subjects.stop_speakers()?;
    subjects.start_speakers()?;
    wire.wait_for_sessions(NODES.len())?;
    wire.wait_quiet()?;
    Ok(resident)
}

/// Brings the Services that stay from `present` to `wanted`, with the controller at work.
fn grow(
    site: &Site,
    statuses: &watch::Statuses,
    wire: &wire::Wire,
    present: usize,
    wanted: usize,
) -> Result<()> {
    println!("from {present} to {wanted} Services with the controller at work");
    let began = Instant::now();
    load::bring_to(site, MANY, present, wanted)?;
    statuses.wait_for_all(MANY, wanted, Duration::from_secs(600))?;
    println!(
        "  all have addresses {:.1} s after the first was created",
        began.elapsed().as_secs_f64()
    );
    wire.wait_quiet()
}

/// CRDs, accounts and roles from the manifests, one pool that is announced both ways, and servers that need no kubelet.
fn set_up(site: &Site, options: &Options) -> Result<()> {
    site.kubectl(&["apply", "-k", &options.manifests.display().to_string()])?;
    // No webhook runs here, and a call that finds nobody would be part of every figure.
    site.kubectl(&[
        "delete",
        "validatingwebhookconfigurations,mutatingwebhookconfigurations",
        "--all",
    ])?;
    site.kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd",
        "--all",
        "--timeout=30s",
    ])?;
    for node in NODES {
        let labels = json!({"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux"});
        site.create(
            "/api/v1/nodes",
            &json!({"metadata": {"name": node.name, "labels": labels}}),
        )?;
        let ready = json!({"type": "Ready", "status": "True", "reason": "Bench", "message": "", "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let addresses = json!([{"type": "InternalIP", "address": node.v4}, {"type": "InternalIP", "address": node.v6}]);
        site.patch(
            &format!("/api/v1/nodes/{}/status", node.name),
            &json!({"status": {"conditions": [ready], "addresses": addresses}}),
        )?;
    }
    site.wait(
        "the default service account exists",
        Duration::from_secs(20),
        || site.get("/api/v1/namespaces/default/serviceaccounts/default"),
    )?;
    for (index, node) in NODES.iter().enumerate() {
        let name = format!("echo-{}", node.name);
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": "echo"}},
            "spec": {"nodeName": node.name, "containers": [{"name": "echo", "image": "ferrolb/echo:lab"}], "automountServiceAccountToken": false},
        });
        site.create("/api/v1/namespaces/default/pods", &pod)?;
        let address = format!("10.244.{}.9", index + 1);
        let status = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [{"type": "Ready", "status": "True"}]});
        site.patch(
            &format!("/api/v1/namespaces/default/pods/{name}/status"),
            &json!({"status": status}),
        )?;
    }
    let object = |kind: &str, version: &str, spec: serde_json::Value| json!({"apiVersion": format!("metallb.io/{version}"), "kind": kind, "metadata": {"name": "bench", "namespace": SYSTEM}, "spec": spec});
    // Frames that are due once a minute would hide when the wire is quiet, and are no part of what is measured.
    let mut by_layer2 = object(
        "L2Advertisement",
        "v1beta1",
        json!({"ipAddressPools": ["bench"]}),
    );
    by_layer2["metadata"]["annotations"] = json!({"ferrolb.io/refresh-interval": "0"});
    let peer = json!({"myASN": crate::plan::SPEAKER_ASN, "peerASN": crate::plan::ROUTER_ASN, "peerAddress": crate::plan::ROUTER.v4});
    for manifest in [
        object(
            "IPAddressPool",
            "v1beta1",
            json!({"addresses": [load::POOL]}),
        ),
        by_layer2,
        object(
            "BGPAdvertisement",
            "v1beta1",
            json!({"ipAddressPools": ["bench"]}),
        ),
        object("BGPPeer", "v1beta2", peer),
    ] {
        site.apply(&manifest.to_string())?;
    }
    Ok(())
}

/// The controller starts and finds many Services that wait; beside it, the same writes from a loop that decides nothing.
fn backlog(
    site: &Site,
    options: &Options,
    subjects: &mut Subjects<'_>,
    statuses: &watch::Statuses,
    wire: &wire::Wire,
    rows: &mut Rows,
) -> Result<()> {
    let count = options.backlog;
    println!("letting {count} Services wait");
    subjects.stop_controller()?;
    load::bring_to(site, MANY, options.services, count)?;
    load::bare_loop(site, MANY, count, false)?;
    wire.wait_quiet()?;
    println!("  writing their statuses from a bare loop");
    let bare = load::bare_loop(site, MANY, count, true)?;
    load::bare_loop(site, MANY, count, false)?;
    // The speakers take back what they announced; that is no part of what follows.
    wire.wait_quiet()?;
    statuses.forget();
    println!("  {:.1} s; now the controller", bare.as_secs_f64());
    let began = Instant::now();
    subjects.start_controller()?;
    statuses.wait_for_all(MANY, count, Duration::from_secs(600))?;
    let elapsed = began.elapsed();
    rows.add(
        &format!("{count} waiting Services, from start of the operator"),
        elapsed.as_secs_f64(),
        "s",
        at_most(1.3 * bare.as_secs_f64()),
    );
    rows.add(
        &format!("{count} status writes from a bare loop"),
        bare.as_secs_f64(),
        "s",
        None,
    );
    Ok(())
}

/// What the programs under test wrote while nothing happened.
pub struct Writes {
    pub per_minute: f64,
    /// Writes to anything that is not a Lease.
    pub others: Vec<audit::Write>,
}

fn at_rest(site: &Site, options: &Options, what: &str) -> Result<Writes> {
    let rest = Duration::from_secs(options.rest);
    let mut log = audit::Log::open(&site.run)?;
    log.settle()?;
    println!(
        "counting API writes at rest with {what} for {} s",
        rest.as_secs()
    );
    let end = Instant::now() + rest;
    host::wait_until("the rest is over", rest + Duration::from_secs(1), || {
        Ok(Instant::now() >= end)
    })?;
    let writes = log.written()?;
    let count = u32::try_from(writes.len()).map_or(f64::MAX, f64::from);
    let others = writes.into_iter().filter(|w| !w.is_lease()).collect();
    Ok(Writes {
        per_minute: count * 60.0 / rest.as_secs_f64(),
        others,
    })
}

/// The folder of manifests that is applied unless another is given.
pub fn default_manifests() -> std::path::PathBuf {
    crate::run::repository().join("config/default-no-webhook")
}
