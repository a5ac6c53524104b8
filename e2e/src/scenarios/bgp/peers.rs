//! Which sessions a BGPPeer makes: from which nodes, in whose name, with which keys, and none of them disturbs another.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::handles::{self, Label, labelled, only};
use super::scenario;
use super::table::{
    INTERNAL, Laying, PASSWORD, PLAIN, SECRET, SIGNED, Style, Table, Want, in_styles, peer_name,
};
use crate::cluster::{SYSTEM, Site, condition};
use crate::network;
use crate::plan::NODES;
use crate::routers::{BOTH, Family, Router, Setup};
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "router-ids",
        "B9: each router knows each node by the routerID of its BGPPeer",
        |site| in_styles(site, &[PLAIN, INTERNAL], router_ids),
    ),
    scenario(
        "router-id-without-being-told",
        "the router id is the node's IPv4 address, also over IPv6 (reference 4.7)",
        |site| in_styles(site, &[INTERNAL], default_router_ids),
    ),
    scenario(
        "passwords-from-secrets",
        "B12: sessions with TCP-MD5, the key from a Secret; the Secret deleted and made again resets none; a new key in the Secret and at the routers brings them back",
        |site| in_styles(site, &[SIGNED], passwords),
    ),
    scenario(
        "peers-one-at-a-time",
        "B16: peers are added and removed one at a time; all others keep their sessions",
        |site| in_styles(site, &[PLAIN], one_at_a_time),
    ),
    scenario(
        "peers-of-selected-nodes",
        "B38: sessions run from the nodes that a BGPPeer selects, in three layouts, and follow labels",
        |site| in_styles(site, &[PLAIN], selected_nodes),
    ),
    scenario(
        "source-address",
        "with sourceAddress sessions come from that address of the node, which the router knows alone",
        |site| in_styles(site, &[PLAIN], source_address),
    ),
    scenario(
        "routers-that-wait",
        "routers that open no connection themselves, and offer to take several paths of a prefix (RFC 7911), hear all the same",
        |site| in_styles(site, &[INTERNAL], waiting),
    ),
];

fn router_ids(site: &Site, style: Style) -> Result<String> {
    let table = Table::routers_alone(site, &Laying::of(style))?;
    let id = |index: usize| Ipv4Addr::new(192, 0, 2, 100 + u8::try_from(index).unwrap_or(99));
    for router in &table.routers {
        for family in BOTH {
            for (index, node) in NODES.iter().enumerate() {
                let name = format!("{}-{}", peer_name(router, family), node.name);
                let more = json!({"routerID": id(index), "nodeSelectors": [only(node.name)]});
                table.peer(&name, router, family, &more)?;
            }
        }
    }
    table.established()?;
    are_known_as(&table, id)?;
    Ok("each node by its own".into())
}

/// Every router knows the node with this index by this router id.
fn are_known_as(table: &Table<'_>, id: impl Fn(usize) -> Ipv4Addr) -> Result<()> {
    for router in &table.routers {
        for session in router.sessions()? {
            let peer = session.peer.to_string();
            let index = NODES.iter().position(|n| n.v4 == peer || n.v6 == peer);
            let index = index.with_context(|| format!("{peer} is no node"))?;
            let (seen, wanted) = (session.peer_id, id(index));
            ensure!(
                seen == Some(wanted),
                "{} knows {peer} as {seen:?}, not {wanted}",
                router.name()
            );
        }
    }
    Ok(())
}

fn default_router_ids(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    let address = |index: usize| NODES.get(index).and_then(|node| node.v4.parse().ok());
    are_known_as(&table, |index| {
        address(index).unwrap_or(Ipv4Addr::UNSPECIFIED)
    })?;
    Ok("each node by its IPv4 address".into())
}

fn passwords(site: &Site, style: Style) -> Result<String> {
    const NEW: &str = "another-key_with=signs";
    let style = Style {
        password: true,
        ..style
    };
    let mut table = Table::lay(site, style)?;
    handles::advertised_pool(site, "signed", &json!({}))?;
    let addresses = handles::dual_service(site, "signed", "signed")?;
    table.hear_all(&addresses, &Want::all())?;
    // The Secret is replaced, as by `kubectl replace --force`: sessions go on with its key meanwhile.
    let lives = table.lives()?;
    site.delete(&format!("/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}"))?;
    for router in &table.routers {
        for family in BOTH {
            let path = handles::peers_path(&peer_name(router, family));
            site.wait_for(
                "the condition says that the Secret is gone",
                handles::LIMIT,
                || {
                    let peer = site.get(&path)?.unwrap_or_default();
                    Ok(condition(&peer, "ResolvedRefs")
                        .is_some_and(|said| said["status"] == "False"))
                },
            )?;
        }
    }
    let meanwhile = handles::dual_service(site, "meanwhile", "signed")?;
    table.hear_all(&meanwhile, &Want::all())?;
    handles::secret(site, SECRET, PASSWORD)?;
    let later = handles::dual_service(site, "after-the-secret", "signed")?;
    table.hear_all(&later, &Want::all())?;
    table.unbroken_since(&lives)?;
    // One router at a time has the new key, while the Secret still holds the old one for all.
    for router in &mut table.routers {
        router.stop()?;
        for neighbor in &mut router.seat.setup.neighbors {
            neighbor.password = Some(NEW.to_owned());
        }
        router.start_again()?;
    }
    handles::secret(site, SECRET, NEW)?;
    table.established()?;
    table.hear_all(&addresses, &Want::all())?;
    Ok("the new key is in force at all routers".into())
}

fn one_at_a_time(site: &Site, style: Style) -> Result<String> {
    let table = Table::routers_alone(site, &Laying::of(style))?;
    let mut before = std::collections::BTreeMap::new();
    for (index, router) in table.routers.iter().enumerate() {
        for family in BOTH {
            table.peer(&peer_name(router, family), router, family, &json!({}))?;
        }
        table.all_up(router)?;
        for paired in table.routers.iter().take(index) {
            unchanged(&before, paired)?;
        }
        before.insert(router.name(), lives(router)?);
    }
    for (index, router) in table.routers.iter().enumerate() {
        for family in BOTH {
            handles::remove_peer(site, &peer_name(router, family))?;
        }
        site.wait_for(
            &format!("{} has no session", router.name()),
            Duration::from_secs(20),
            || Ok(router.established()? == 0),
        )?;
        for paired in table.routers.iter().skip(index + 1) {
            unchanged(&before, paired)?;
        }
    }
    Ok("each of the others kept its sessions".into())
}

type Lives = Vec<(std::net::IpAddr, String)>;

fn lives(router: &Router) -> Result<Lives> {
    let mut lives = Vec::new();
    for session in router.sessions()? {
        ensure!(
            session.established,
            "{} has no session with {}",
            router.name(),
            session.peer
        );
        lives.push((session.peer, session.life));
    }
    lives.sort();
    Ok(lives)
}

fn unchanged(
    before: &std::collections::BTreeMap<&'static str, Lives>,
    router: &Router,
) -> Result<()> {
    ensure!(
        before.get(router.name()) == Some(&lives(router)?),
        "a session of {} went down meanwhile",
        router.name()
    );
    Ok(())
}

fn selected_nodes(site: &Site, style: Style) -> Result<String> {
    const KEY: &str = "lab.ferrolb.io/bgp";
    let table = Table::routers_alone(site, &Laying::of(style))?;
    handles::advertised_pool(site, "selected", &json!({}))?;
    let addresses = handles::dual_service(site, "selected", "selected")?;
    let layouts: [(&str, Value, &[&str]); 3] = [
        ("one node", json!([only("node-1")]), &["node-1"]),
        (
            "two selectors",
            json!([only("node-2"), only("node-3")]),
            &["node-2", "node-3"],
        ),
        ("a label", json!([labelled(KEY, "yes")]), &[]),
    ];
    for router in &table.routers {
        table.peer_with(router, &json!({"nodeSelectors": [only("node-3")]}))?;
    }
    sessions_from(&table, &["node-3"])?;
    for (what, selectors, nodes) in layouts {
        for router in &table.routers {
            for family in BOTH {
                let spec = json!({"nodeSelectors": selectors});
                handles::change_peer(site, &peer_name(router, family), &spec)?;
            }
        }
        sessions_from(&table, nodes).context(what)?;
        table
            .hear_all(&addresses, &Want::from(nodes))
            .context(what)?;
    }
    let label = Label::put(site, "node-2", KEY, "yes")?;
    sessions_from(&table, &["node-2"])?;
    table.hear_all(&addresses, &Want::from(&["node-2"]))?;
    drop(label);
    sessions_from(&table, &[])?;
    Ok("three layouts and a label that comes and goes".into())
}

/// Waits until every router has sessions with exactly these nodes.
pub fn sessions_from(table: &Table<'_>, nodes: &[&str]) -> Result<()> {
    let wanted: BTreeSet<String> = NODES
        .iter()
        .filter(|node| nodes.contains(&node.name))
        .flat_map(|node| [node.v4.to_owned(), node.v6.to_owned()])
        .collect();
    for router in &table.routers {
        let mut last = BTreeSet::new();
        let waited = table.site.wait_for(
            &format!("{} has sessions with {nodes:?} alone", router.name()),
            Duration::from_secs(30),
            || {
                let sessions = router.sessions()?.into_iter();
                last = sessions
                    .filter(|s| s.established)
                    .map(|s| s.peer.to_string())
                    .collect();
                Ok(last == wanted)
            },
        );
        waited.with_context(|| format!("last with {last:?}"))?;
    }
    Ok(())
}

/// An address of the first node besides its own, until this is dropped.
struct SecondAddress<'a>(&'a Site);

const SECOND: &str = "10.10.0.211";

impl<'a> SecondAddress<'a> {
    fn add(site: &'a Site) -> Result<Self> {
        let this = Self(site);
        this.change("add")?;
        Ok(this)
    }

    fn change(&self, verb: &str) -> Result<()> {
        let namespace = self.0.run.namespace(NODES[0].name);
        network::batch(
            &namespace,
            &format!("address {verb} {SECOND}/16 dev eth0\n"),
        )
    }
}

impl Drop for SecondAddress<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.change("delete") {
            println!("{SECOND} stays: {error:#}");
        }
    }
}

fn source_address(site: &Site, style: Style) -> Result<String> {
    let _second = SecondAddress::add(site)?;
    let mut laying = Laying::of(style);
    laying.change = Box::new(move |setup: &mut Setup| {
        let mut neighbor = setup.neighbors[0].clone();
        neighbor.address = Ipv4Addr::new(10, 10, 0, 211).into();
        setup.neighbors = vec![neighbor];
    });
    let table = Table::routers_alone(site, &laying)?;
    let more = json!({
        "sourceAddress": SECOND,
        "nodeSelectors": [{"matchLabels": {"kubernetes.io/hostname": NODES[0].name}}],
    });
    for router in &table.routers {
        let mut spec = table.peer_spec(router, Family::V4);
        json_patch::merge(&mut spec, &more);
        handles::peer(site, &peer_name(router, Family::V4), &spec)?;
    }
    for router in &table.routers {
        let what = format!("{} has a session with {SECOND}", router.name());
        site.wait_for(&what, handles::LIMIT, || Ok(router.established()? == 1))?;
    }
    Ok(format!("{} routers with {SECOND}", table.routers.len()))
}

fn waiting(site: &Site, style: Style) -> Result<String> {
    let mut laying = Laying::of(style);
    laying.change = Box::new(|setup: &mut Setup| {
        for neighbor in &mut setup.neighbors {
            neighbor.passive = true;
            neighbor.add_path = true;
        }
    });
    let table = Table::lay_with(site, &laying)?;
    handles::advertised_pool(site, "waiting", &json!({}))?;
    let addresses = handles::dual_service(site, "waiting", "waiting")?;
    table.hear_all(&addresses, &Want::all())?;
    // BIRD and ExaBGP ask for several paths of a prefix, so theirs have identifiers.
    for name in ["BIRD", "ExaBGP"] {
        let router = table.router(name)?;
        for node in &NODES {
            for family in BOTH {
                let peer = peer_name(router, family);
                let paths = handles::negotiated(site, node.name, &peer)?["pathIdentifiers"].clone();
                ensure!(
                    paths.as_array().is_some_and(|paths| paths.len() == 1),
                    "{} has agreed with {peer} on path identifiers of {paths}",
                    node.name
                );
            }
        }
    }
    Ok(addresses.join(" and "))
}
