//! Ways to have a session other than to call a router at its address: routers that call, and a bound on hops.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::handles;
use super::scenario;
use super::table::{FAR, Laying, PLAIN, SIGNED, Style, Table, Want, in_styles, peer_name};
use crate::cluster::{SYSTEM, Site};
use crate::network::{OneWayCut, Way};
use crate::objects;
use crate::plan::{Machine, NODES};
use crate::routers::{BOTH, Bird, Frr, GoBgp, Router, Setup};
use crate::scenarios::Scenario;
use crate::scenarios::l2::handles::Metrics;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "routers-that-call",
        "passive peers: the nodes listen, FRR, BIRD and GoBGP open the connections, with and without MD5",
        |site| {
            let _listening = Listening::on(site)?;
            in_styles(site, &[PLAIN, SIGNED], called)
        },
    ),
    scenario(
        "both-sides-call",
        "nodes and routers have each opened a connection to the other: one stays, and all routes come (RFC 4271 section 6.8)",
        |site| {
            let _listening = Listening::on(site)?;
            in_styles(site, &[PLAIN], both_call)
        },
    ),
    scenario(
        "ttl-security",
        "ferrolb.io/ttl-security: a router on the link has its sessions, one behind another router has none (RFC 5082)",
        bounded,
    ),
];

const WORKLOAD: &str = "ferrolb-speaker";

/// Speakers that listen on port 179, until this is dropped.
struct Listening<'a>(&'a Site);

impl<'a> Listening<'a> {
    fn on(site: &'a Site) -> Result<Self> {
        let this = Self(site);
        this.set(
            &json!([{"name": "FERROLB_BGP_LISTEN_PORT", "value": "179"}]),
            &json!(["NET_RAW", "NET_BIND_SERVICE"]),
        )?;
        Ok(this)
    }

    fn set(&self, environment: &Value, capabilities: &Value) -> Result<()> {
        let path = format!("/apis/apps/v1/namespaces/{SYSTEM}/daemonsets/{WORKLOAD}");
        let object = self.0.get(&path)?.context("the speakers are installed")?;
        let mut containers = object["spec"]["template"]["spec"]["containers"].clone();
        let container = containers.get_mut(0).context("a speaker has a container")?;
        let variables = container["env"].as_array().cloned().unwrap_or_default();
        let kept = variables
            .into_iter()
            .filter(|variable| variable["name"] != "FERROLB_BGP_LISTEN_PORT");
        let added = environment.as_array().cloned().unwrap_or_default();
        container["env"] = kept.chain(added).collect();
        container["securityContext"]["capabilities"]["add"] = capabilities.clone();
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        self.0.patch(&path, &patch)?;
        self.0.wait_for(
            "the speakers are rolled out",
            Duration::from_secs(120),
            || self.0.is_rolled_out("daemonsets", WORKLOAD),
        )
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.set(&json!([]), &json!(["NET_RAW"])) {
            println!("the speakers go on listening: {error:#}");
        }
    }
}

fn annotate(site: &Site, peer: &str, annotations: &Value) -> Result<()> {
    let patch = json!({"metadata": {"annotations": annotations}});
    site.patch(&handles::peers_path(peer), &patch).map(drop)
}

/// Makes BGPPeers of a table's routers that have the annotations from the first: a router that was called without them may hold
/// on to that connection.
fn annotated_peers(table: &Table<'_>, more: &Value, annotations: &Value) -> Result<()> {
    for router in &table.routers {
        for family in BOTH {
            let mut spec = table.peer_spec(router, family);
            json_patch::merge(&mut spec, more);
            let object = json!({
                "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer",
                "metadata": {
                    "name": peer_name(router, family), "namespace": SYSTEM,
                    "labels": {objects::LABEL: "yes"}, "annotations": annotations,
                },
                "spec": spec,
            });
            table.site.create(&handles::peers_path(""), &object)?;
        }
    }
    Ok(())
}

/// What a router must hear before a scenario is content.
fn served(site: &Site, table: &Table<'_>, name: &str) -> Result<Vec<String>> {
    handles::advertised_pool(site, name, &json!({}))?;
    let addresses = handles::dual_service(site, name, name)?;
    table.hear_all(&addresses, &Want::all())?;
    Ok(addresses)
}

fn called(site: &Site, style: Style) -> Result<String> {
    let laying = Laying {
        who: vec![&Frr, &Bird, &GoBgp],
        ..Laying::of(style)
    };
    let table = Table::routers_alone(site, &laying)?;
    // Nobody can be called on this port, so that a session is one that the router opened.
    annotated_peers(
        &table,
        &json!({"peerPort": 1}),
        &json!({"ferrolb.io/passive": "true"}),
    )?;
    table.established()?;
    served(site, &table, "called")?;
    Ok("every router has its sessions".to_owned())
}

fn both_call(site: &Site, style: Style) -> Result<String> {
    if style.far {
        return Ok("is cut on the segment".into());
    }
    let laying = Laying {
        who: vec![&Frr, &Bird, &GoBgp],
        ..Laying::of(style)
    };
    let mut table = Table::lay_with(site, &laying)?;
    let addresses = served(site, &table, "both")?;
    // After a session that was shorter a node rests, and refuses who calls meanwhile (IdleHoldTime of RFC 4271).
    let stable = Duration::from_secs(11);
    let began = Instant::now();
    site.wait_for("the sessions have lasted for a while", stable * 2, || {
        Ok(began.elapsed() > stable)
    })?;
    let mut notes = Vec::new();
    for index in 0..table.routers.len() {
        let collided = meet(site, &mut table.routers[index])?;
        table.all_up(&table.routers[index])?;
        let lives = table.lives()?;
        table.hear_all(&addresses, &Want::all())?;
        ensure!(
            lives == table.lives()?,
            "a session that was there did not stay"
        );
        let name = table.routers[index].name();
        notes.push(format!("{collided} with {name}"));
    }
    Ok(format!("collisions: {}", notes.join(", ")))
}

/// How often both had opened a connection, as the speakers count.
fn collisions(site: &Site, router: &Router) -> Result<f64> {
    let place = &router.seat.place;
    let of_node = |node: &Machine| -> Result<f64> {
        let metrics = Metrics::of(site, node.name)?;
        let of = |label: String| metrics.sum("ferrolb_bgp_collisions_total", &[&label]);
        let v6 = of(format!("peer=\"[{}]:179\"", place.v6));
        Ok(of(format!("peer=\"{}:179\"", place.v4)) + v6)
    };
    NODES.iter().map(of_node).sum()
}

/// Starts a router so that it and the nodes have each opened a connection to the other before it reads from any. Returns how
/// many sessions have two.
fn meet(site: &Site, router: &mut Router) -> Result<f64> {
    const LONG: Duration = Duration::from_secs(20);
    let connections = |router: &Router, state: &str| -> Result<usize> {
        let words = ["-Htn", "state", state, "( sport = :179 or dport = :179 )"];
        Ok(router.seat.ask("ss", &words)?.lines().count())
    };
    let name = router.name();
    let before = collisions(site, router)?;
    router.kill()?;
    // It hears nothing, so that what it opens does not come about yet.
    let cut = OneWayCut::make(&site.run, &router.seat.place.name, Way::ToMachine)?;
    router.start_again()?;
    site.wait_for(&format!("{name} calls the nodes"), LONG, || {
        Ok(connections(router, "syn-sent")? > 0)
    })?;
    router.freeze();
    drop(cut);
    // By the count of the nodes: which of the two connections a router reads from at all is its own affair.
    let mut more = 0.0;
    let met = site.wait_for(
        &format!("{name} and a node have called each other"),
        LONG,
        || {
            more = collisions(site, router)? - before;
            Ok(more > 0.5)
        },
    );
    let seen = router
        .seat
        .ask("ss", &["-Htan", "( sport = :179 or dport = :179 )"]);
    router.thaw();
    met.with_context(|| format!("its connections:\n{}", seen.unwrap_or_default()))?;
    Ok(more)
}

fn bounded(site: &Site) -> Result<String> {
    let guarded = |setup: &mut Setup| {
        for neighbor in &mut setup.neighbors {
            neighbor.ttl_security = true;
        }
    };
    let next = json!({"ferrolb.io/ttl-security": "1"});
    let laying = Laying {
        who: vec![&Frr, &Bird, &GoBgp],
        change: Box::new(guarded),
        ..Laying::of(PLAIN)
    };
    let table = Table::routers_alone(site, &laying)?;
    annotated_peers(&table, &json!({}), &next)?;
    table.established()?;
    served(site, &table, "bounded")?;
    drop(table);
    let laying = Laying {
        who: vec![&Bird],
        change: Box::new(guarded),
        ..Laying::of(FAR)
    };
    let since = handles::now()?;
    let table = Table::routers_alone(site, &laying)?;
    // The number of hops says how far it may be.
    annotated_peers(&table, &json!({"ebgpMultiHop": null}), &next)?;
    handles::speakers_say(site, &since, &["bird-v4", "no answer from the peer"])?;
    let router = table.router("BIRD")?;
    ensure!(
        router.established()? == 0,
        "a router two hops away has a session"
    );
    // It is the bound that keeps it out.
    for family in BOTH {
        let name = peer_name(router, family);
        annotate(site, &name, &json!({"ferrolb.io/ttl-security": "2"}))?;
    }
    table.established()?;
    Ok(
        "1 hop: three routers on the link; not BIRD behind a router, which has sessions with 2"
            .to_owned(),
    )
}
