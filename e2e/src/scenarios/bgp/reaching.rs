//! Ways to have a session other than to call a router at its address: routers that call, a bound on hops, a link without
//! addresses.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::handles::{self, LIMIT};
use super::scenario;
use super::table::{FAR, Laying, PLAIN, SIGNED, Style, Table, Want, in_styles, peer_name};
use crate::cluster::{SYSTEM, Site};
use crate::network::{OneWayCut, Way};
use crate::plan::{Machine, NODES, SPEAKER_ASN};
use crate::routers::{
    BOTH, Bird, Distance, Frr, GoBgp, Implementation, Router, Seat, Setup, configure_bird,
    configure_frr,
};
use crate::scenarios::Scenario;
use crate::scenarios::l2::handles::Metrics;
use crate::{host, network, objects, prober};

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

/// The link between a node and a router's machine; both ends go when this is dropped.
struct Link {
    namespace: String,
}

/// Its name on both sides.
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

fn unnumbered(site: &Site) -> Result<String> {
    let with_frr = unnumbered_with(site, &Frr, |seat, asn| {
        let lines = [
            &format!("router bgp {asn}"),
            &format!("neighbor {LINK} interface remote-as {SPEAKER_ASN}"),
            "address-family ipv4 unicast",
            &format!("neighbor {LINK} activate"),
            "exit-address-family",
            "address-family ipv6 unicast",
            &format!("neighbor {LINK} activate"),
            "exit-address-family",
        ];
        configure_frr(seat, &lines)
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
    let place = who.machine(&site.run, Distance::SameLink)?;
    let namespace = place.namespace();
    let node = NODES.first().context("there is a node")?;
    let _link = Link::make(site, node.name, &namespace)?;
    let setup = Setup {
        asn: who.asn(),
        neighbors: Vec::new(),
        originates: 0,
    };
    let router = Router::start(who, &site.run, place, setup)?;
    let spec = json!({
        "myASN": SPEAKER_ASN, "peerASN": who.asn(), "interface": LINK,
        "nodeSelectors": [{"matchLabels": {"kubernetes.io/hostname": node.name}}],
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
    let who: &'static dyn Implementation = &Frr;
    let place = who.machine(&site.run, Distance::SameLink)?;
    let namespace = place.namespace();
    let node = NODES.first().context("there is a node")?;
    let _link = Link::make(site, node.name, &namespace)?;
    let setup = Setup {
        asn: who.asn(),
        neighbors: Vec::new(),
        originates: 0,
    };
    network::batch(
        &namespace,
        &format!(
            "address add 10.99.0.2/24 dev {LINK}\naddress add fd00:99::2/64 dev {LINK} nodad\n"
        ),
    )?;
    let address = |verb: &str, address: &str| {
        let nodad = if verb == "add" { " nodad" } else { "" };
        let command = format!("address {verb} {address} dev {LINK}{nodad}\n");
        network::batch(&site.run.namespace(node.name), &command)
    };
    address("add", "10.99.0.1/24")?;
    let router = Router::start(who, &site.run, place, setup)?;
    let asn = who.asn();
    configure_frr(
        &router.seat,
        &[
            &format!("router bgp {asn}"),
            &format!("neighbor 10.99.0.1 remote-as {SPEAKER_ASN}"),
            "address-family ipv4 unicast",
            "neighbor 10.99.0.1 activate",
            "exit-address-family",
            "address-family ipv6 unicast",
            "neighbor 10.99.0.1 activate",
            "exit-address-family",
        ],
    )?;
    let spec = json!({
        "myASN": SPEAKER_ASN, "peerASN": asn, "peerAddress": "10.99.0.2", "connectTime": "1s",
        "dualStackAddressFamily": true,
        "nodeSelectors": [{"matchLabels": {"kubernetes.io/hostname": node.name}}],
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
