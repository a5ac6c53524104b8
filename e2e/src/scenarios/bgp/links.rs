//! A link of its own between a node and a router: without addresses, and with addresses that come and go.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::handles::{self, LIMIT, only};
use super::scenario;
use crate::cluster::Site;
use crate::plan::{Machine, NODES, SPEAKER_ASN};
use crate::routers::{
    BOTH, Bird, Distance, Frr, Implementation, Router, Seat, Setup, configure_bird, configure_frr,
};
use crate::scenarios::Scenario;
use crate::{host, network, prober};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "next-hops-follow-addresses",
        "a session over IPv4 carries IPv6 routes from when its interface has an IPv6 address, and their next hop changes with it; it stays up",
        next_hops,
    ),
    scenario(
        "unnumbered",
        "B47: interface in the place of peerAddress: FRR or BIRD and a node find each other over a link without addresses, routes of both families lead over link-local addresses",
        unnumbered,
    ),
];

/// The link between a node and a router's machine; both ends go when this is dropped.
struct Link {
    namespace: String,
}

const NODE: Machine = NODES[0];

/// The link's name on both sides.
const LINK: &str = "p2p0";

impl Link {
    fn make(site: &Site, node: &str, router: &str) -> Result<Self> {
        let namespace = site.run.namespace(node);
        network::batch(
            &namespace,
            &format!(
                "link add {LINK} type veth peer name {LINK} netns {router}\nlink set {LINK} up\n"
            ),
        )?;
        let link = Self { namespace };
        network::batch(router, &format!("link set {LINK} up\n"))?;
        Ok(link)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Err(error) = network::batch(&self.namespace, &format!("link delete {LINK}\n")) {
            println!("a link stays: {error:#}");
        }
    }
}

/// A router without neighbors, at the other end of a link of the node.
fn beside(site: &Site, who: &'static dyn Implementation) -> Result<(Link, Router)> {
    let place = who.machine(&site.run, Distance::SameLink)?;
    let link = Link::make(site, NODE.name, &place.namespace())?;
    let setup = Setup {
        asn: who.asn(),
        neighbors: Vec::new(),
        originates: 0,
    };
    Ok((link, Router::start(who, &site.run, place, setup)?))
}

/// Gives FRR, of this AS, a neighbor for both families.
fn let_in(seat: &Seat, asn: u32, neighbor: &str, name: &str) -> Result<()> {
    let mut lines = vec![format!("router bgp {asn}"), neighbor.to_owned()];
    for family in BOTH {
        lines.push(format!("address-family {} unicast", family.ip()));
        lines.push(format!("neighbor {name} activate"));
        lines.push("exit-address-family".to_owned());
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    configure_frr(seat, &lines)
}

fn unnumbered(site: &Site) -> Result<String> {
    let with_frr = unnumbered_with(site, &Frr, |seat, asn| {
        let neighbor = format!("neighbor {LINK} interface remote-as {SPEAKER_ASN}");
        let_in(seat, asn, &neighbor, LINK)
    })?;
    // It lets a neighbor with any link-local address in, and opens no connection itself.
    let with_bird = unnumbered_with(site, &Bird, |seat, asn| {
        let lines = format!(
            "protocol radv {{ interface \"{LINK}\" {{ min ra interval 3; max ra interval 4; }}; }}\n\
             protocol bgp unnumbered {{\n local as {asn};\n neighbor range fe80::/10 as {SPEAKER_ASN};\n \
             interface \"{LINK}\";\n dynamic name \"found\";\n \
             ipv4 {{ import all; export none; extended next hop on; }};\n \
             ipv6 {{ import all; export none; }};\n}}\n"
        );
        configure_bird(seat, &lines)
    })?;
    Ok(format!("{with_frr}; {with_bird}"))
}

/// `configure` makes the router, of this AS, advertise itself on the link and let the node in there.
fn unnumbered_with(
    site: &Site,
    who: &'static dyn Implementation,
    configure: impl Fn(&Seat, u32) -> Result<()>,
) -> Result<String> {
    let (_link, router) = beside(site, who)?;
    let namespace = router.seat.place.namespace();
    let spec = json!({
        "myASN": SPEAKER_ASN, "peerASN": who.asn(), "interface": LINK, "nodeSelectors": [only(NODE.name)],
    });
    let name = format!("unnumbered-{}", who.word());
    let since = handles::now()?;
    handles::peer(site, &name, &spec)?;
    // Until the router speaks there, the reason is told.
    handles::speakers_say(
        site,
        &since,
        &[&name, "no router has advertised itself on p2p0"],
    )?;
    let began = Instant::now();
    configure(&router.seat, who.asn())?;
    handles::advertised_pool(site, &name, &json!({"peers": [name]}))?;
    let addresses = handles::dual_service(site, &name, &name)?;
    for address in &addresses {
        site.wait_for(
            &format!("{}'s kernel leads to {address} over {LINK}", who.name()),
            Duration::from_secs(60),
            || {
                let route = kernel_route(&namespace, address)?;
                Ok(route.contains(&format!("dev {LINK}")) && route.contains("fe80::"))
            },
        )
        .with_context(|| router.log_tail())?;
    }
    let took = began.elapsed();
    for address in &addresses {
        let what = format!("{}'s machine reaches {address}", who.name());
        site.wait(&what, LIMIT, || {
            prober::http(&site.run, &router.seat.place.name, address).map(Some)
        })?;
    }
    handles::remove_peer(site, &name)?;
    for address in &addresses {
        site.wait_for(&format!("the route to {address} is gone"), LIMIT, || {
            Ok(!kernel_route(&namespace, address)?.contains(LINK))
        })?;
    }
    Ok(format!(
        "{}: IPv4 and IPv6 over link-local addresses {:.1} s after the router was configured",
        who.name(),
        took.as_secs_f64()
    ))
}

fn next_hops(site: &Site) -> Result<String> {
    const NAME: &str = "next-hops";
    let (_link, router) = beside(site, &Frr)?;
    let (namespace, asn) = (router.seat.place.namespace(), router.seat.setup.asn);
    network::batch(
        &namespace,
        &format!(
            "address add 10.99.0.2/24 dev {LINK}\naddress add fd00:99::2/64 dev {LINK} nodad\n"
        ),
    )?;
    let address = |verb: &str, address: &str| {
        let nodad = if verb == "add" { " nodad" } else { "" };
        let command = format!("address {verb} {address} dev {LINK}{nodad}\n");
        network::batch(&site.run.namespace(NODE.name), &command)
    };
    address("add", "10.99.0.1/24")?;
    let neighbor = format!("neighbor 10.99.0.1 remote-as {SPEAKER_ASN}");
    let_in(&router.seat, asn, &neighbor, "10.99.0.1")?;
    let spec = json!({
        "myASN": SPEAKER_ASN, "peerASN": asn, "peerAddress": "10.99.0.2", "connectTime": "1s",
        "dualStackAddressFamily": true,
        "nodeSelectors": [only(NODE.name)],
    });
    handles::peer(site, NAME, &spec)?;
    handles::advertised_pool(site, NAME, &json!({"peers": [NAME]}))?;
    let addresses = handles::dual_service(site, NAME, NAME)?;
    let [v4, v6] = addresses.as_slice() else {
        bail!("{addresses:?} is not one of each family");
    };
    let leads = |address: &str, hop: &str| {
        let what = format!("the router's kernel leads to {address} by {hop:?}");
        let told = site.wait_for(&what, LIMIT, || {
            let route = kernel_route(&namespace, address)?;
            Ok(if hop.is_empty() {
                route.trim().is_empty()
            } else {
                route.contains(hop)
            })
        });
        told.with_context(|| router.log_tail())
    };
    leads(v4, "via 10.99.0.1")?;
    leads(v6, "")?;
    let life = router_life(&router)?;
    address("add", "fd00:99::1/64")?;
    leads(v6, "via fd00:99::1 ")?;
    // One more changes nothing, also for what is announced after it.
    address("add", "fd00:99::11/64")?;
    let later = handles::dual_service(site, "after-the-address", NAME)?;
    leads(&later[1], "via fd00:99::1 ")?;
    leads(v6, "via fd00:99::1 ")?;
    address("delete", "fd00:99::1/64")?;
    leads(v6, "via fd00:99::11 ")?;
    address("delete", "fd00:99::11/64")?;
    leads(v6, "")?;
    leads(v4, "via 10.99.0.1")?;
    ensure!(life == router_life(&router)?, "the session did not stay up");
    Ok("none, fd00:99::1, fd00:99::11, none".to_owned())
}

/// What tells the only session of a router from a later one.
fn router_life(router: &Router) -> Result<String> {
    let sessions = router.sessions()?;
    let session = sessions.first().context("the router has a neighbor")?;
    Ok(format!("{} {}", session.established, session.life))
}

fn kernel_route(namespace: &str, address: &str) -> Result<String> {
    let family = if address.contains(':') { "-6" } else { "-4" };
    host::run_in(namespace, "ip", &[family, "route", "show", address])
}
