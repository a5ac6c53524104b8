//! The site's own router: every node advertises, it spreads over all of them, and a broken peer harms nobody else.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::bgp_peer::{self, Peer, UPDATE};
use crate::cluster::{SYSTEM, Site, service_path};
use crate::plan::{CLIENT, CLIENT_L2, NODES};
use crate::scenarios::Scenario;
use crate::{objects, prober, router};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        group: "bgp",
        name: "apply-to-route",
        doc: "from kubectl apply to routes over three nodes in the router's kernel, IPv4 and IPv6, and HTTP through them",
        run: route,
    },
    Scenario {
        group: "bgp",
        name: "delete-withdraws",
        doc: "the routes of a deleted Service leave the router",
        run: delete,
    },
    Scenario {
        group: "bgp",
        name: "malformed-messages",
        doc: "each malformed message ends its own session with the right NOTIFICATION and no other",
        run: malformed,
    },
];

const LIMIT: Duration = Duration::from_secs(20);

/// The nodes' addresses of the family, sorted: the next hops of a Service that all nodes advertise.
fn all_nodes(address: &str) -> Vec<String> {
    NODES
        .iter()
        .map(|n| {
            if address.contains(':') {
                n.v6.to_owned()
            } else {
                n.v4.to_owned()
            }
        })
        .collect()
}

/// Waits until the router's kernel spreads over all nodes.
pub fn spread_over_all(site: &Site, address: &str) -> Result<()> {
    site.wait_for(
        &format!("the router has three next hops for {address}"),
        LIMIT,
        || {
            let hops = router::next_hops(&site.run, address)?;
            // IPv6 next hops may be link-local addresses instead, which the session learns beside the global one.
            Ok(hops == all_nodes(address)
                || (hops.len() == NODES.len() && hops.iter().all(|h| h.starts_with("fe80"))))
        },
    )
}

fn route(site: &Site) -> Result<String> {
    let started = Instant::now();
    site.apply(&objects::dual_stack("routed", "bgp").to_string())?;
    let addresses = site.addresses("routed", 2)?;
    for address in &addresses {
        spread_over_all(site, address)?;
    }
    let elapsed = started.elapsed().as_millis();
    for address in &addresses {
        site.wait(
            &format!("the client behind the router reaches {address}"),
            LIMIT,
            || prober::http(&site.run, CLIENT, address).map(Some),
        )?;
    }
    Ok(format!("{} after {elapsed} ms", addresses.join(" ")))
}

fn delete(site: &Site) -> Result<String> {
    site.create(
        "/api/v1/namespaces/default/services",
        &objects::dual_stack("withdrawn", "bgp"),
    )?;
    let addresses = site.addresses("withdrawn", 2)?;
    for address in &addresses {
        spread_over_all(site, address)?;
    }
    let started = Instant::now();
    site.delete(&service_path("withdrawn"))?;
    for address in &addresses {
        site.wait_for(&format!("the route to {address} is gone"), LIMIT, || {
            Ok(router::next_hops(&site.run, address)?.is_empty())
        })?;
    }
    Ok(format!("gone after {} ms", started.elapsed().as_millis()))
}

/// What is wrong, the bytes, and the code and subcode of the right NOTIFICATION.
type Broken = (&'static str, Vec<u8>, (u8, u8));

/// What each broken message must be answered with (RFC 4271 sections 6.1 and 6.3).
fn broken_messages() -> Result<Vec<Broken>> {
    let keepalive = bgp_peer::message(bgp_peer::KEEPALIVE, &[])?;
    let with = |place: usize, byte: u8| {
        let mut bytes = keepalive.clone();
        if let Some(b) = bytes.get_mut(place) {
            *b = byte;
        }
        bytes
    };
    let noise: Vec<u8> = (0..4096).map(|_| rand::random()).collect();
    let request = b"GET / HTTP/1.1\r\nHost: speaker\r\n\r\n".to_vec();
    // An UPDATE whose ORIGIN is none is a withdrawal and no end (RFC 7606 section 7.1): what ends the session is what follows.
    let mut tolerated =
        bgp_peer::message(UPDATE, &[0, 0, 0, 4, 0x40, 1, 1, 9, 32, 203, 0, 113, 1])?;
    tolerated.extend(with(18, 9));
    Ok(vec![
        ("noise", noise, (1, 1)),
        ("a request of HTTP", request, (1, 1)),
        (
            "an ORIGIN that is none, then an unknown type",
            tolerated,
            (1, 3),
        ),
        ("a marker that is not all ones", with(3, 0), (1, 1)),
        ("a length below the header's own", with(17, 18), (1, 2)),
        ("an unknown message type", with(18, 9), (1, 3)),
        (
            "attributes longer than their message",
            bgp_peer::message(UPDATE, &[0, 0, 0, 200])?,
            (3, 1),
        ),
    ])
}

fn malformed(site: &Site) -> Result<String> {
    const ASN: u32 = 64514;
    let before: Vec<_> = router::sessions(&site.run)?
        .into_iter()
        .map(|s| (s.peer, s.times_established))
        .collect();
    let peer = prober::run_in(&site.run, CLIENT_L2.name, || {
        Peer::listen(CLIENT_L2.v4.parse()?, ASN)
    })?;
    site.apply(
        &json!({
            "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer",
            "metadata": {"name": "broken", "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}},
            "spec": {"myASN": 64512, "peerASN": ASN, "peerAddress": CLIENT_L2.v4, "connectTime": "1s", "nodeSelectors": [{"matchLabels": {"kubernetes.io/hostname": "node-1"}}]},
        })
        .to_string(),
    )?;
    let messages = broken_messages()?;
    let count = messages.len();
    for (what, bytes, expected) in messages {
        let mut session = peer
            .accept(Duration::from_secs(90))
            .with_context(|| format!("before {what}"))?;
        session.write(&bytes)?;
        let answer = session.notification().with_context(|| what.to_owned())?;
        ensure!(
            answer == expected,
            "{what}: NOTIFICATION {answer:?}, expected {expected:?}"
        );
    }
    site.delete(&format!(
        "/apis/metallb.io/v1beta2/namespaces/{SYSTEM}/bgppeers/broken"
    ))?;
    for session in router::sessions(&site.run)? {
        ensure!(
            session.established,
            "the session with {} is down",
            session.peer
        );
        let earlier = before
            .iter()
            .find(|(peer, _)| *peer == session.peer)
            .map(|(_, times)| *times);
        ensure!(
            earlier == Some(session.times_established),
            "the session with {} went down meanwhile",
            session.peer
        );
    }
    Ok(format!("{count} messages"))
}
