//! Which Services go from which nodes to which peers: the selectors of advertisements.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::handles::{self, Label, labelled, only};
use super::scenario;
use super::table::{PLAIN, Style, Table, Want, hears, in_styles, peer_name};
use crate::cluster::{Site, service_path};
use crate::routers::{BOTH, Family};
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "peers-of-an-advertisement",
        "B28: a Service goes to the peers that its advertisement names and to no other, until it names none",
        |site| in_styles(site, &[PLAIN], peers),
    ),
    scenario(
        "nodes-of-advertisements",
        "B34: two Services with an advertisement each: each prefix comes from the nodes selected for it, in four combinations",
        |site| in_styles(site, &[PLAIN], nodes),
    ),
    scenario(
        "nodes-of-two-advertisements",
        "B35: one Service, two advertisements of other nodes: the union of their nodes",
        |site| in_styles(site, &[PLAIN], united_nodes),
    ),
    scenario(
        "node-labelled-later-over-bgp",
        "B36: a node announces once a label makes it match, and withdraws when the label goes",
        |site| in_styles(site, &[PLAIN], label_node),
    ),
    scenario(
        "selector-that-stops-matching",
        "B37: an advertisement whose selector matches no node any more takes back its own Service and no other",
        |site| in_styles(site, &[PLAIN], stops_matching),
    ),
    scenario(
        "service-selector-and-pool-over-bgp",
        "B40, B41: a Service must be of the pool and match one of the service selectors",
        |site| in_styles(site, &[PLAIN], of_pool_and_label),
    ),
    scenario(
        "service-selectors-are-edited",
        "B42, B43: routes follow the service selectors of the advertisement and the labels of the Service",
        |site| in_styles(site, &[PLAIN], edited),
    ),
    scenario(
        "exact-and-aggregated",
        "B44: a selected Service has its exact prefix beside the aggregate of all",
        |site| in_styles(site, &[PLAIN], exact_and_aggregated),
    ),
    scenario(
        "communities-by-service",
        "B45, B46: overlapping advertisements unite their communities for the selected Service alone; others keep apart",
        |site| in_styles(site, &[PLAIN], communities),
    ),
];

fn peers(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    let some: Vec<String> = table
        .routers
        .iter()
        .take(2)
        .flat_map(|router| BOTH.map(|family| peer_name(router, family)))
        .collect();
    handles::advertised_pool(site, "peers", &json!({"peers": some}))?;
    let addresses = handles::dual_service(site, "peers", "peers")?;
    let nodes = |named: bool| if named { Want::all() } else { Want::from(&[]) };
    for address in &addresses {
        for (index, router) in table.routers.iter().enumerate() {
            hears(site, router, handles::whole(address)?, &nodes(index < 2))?;
        }
    }
    // One family of one router.
    let one = peer_name(&table.routers[3], Family::V6);
    handles::readvertise(site, "peers", &json!({"peers": [one]}))?;
    for address in &addresses {
        for (index, router) in table.routers.iter().enumerate() {
            let named = index == 3 && address.contains(':');
            hears(site, router, handles::whole(address)?, &nodes(named))?;
        }
    }
    handles::readvertise(site, "peers", &json!({"peers": null}))?;
    table.hear_all(&addresses, &Want::all())?;
    Ok(addresses.join(" and "))
}

fn nodes(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    let mut addresses = Vec::new();
    for name in ["one", "two"] {
        handles::advertised_pool(site, name, &json!({}))?;
        addresses.push(handles::dual_service(site, name, name)?);
    }
    let combinations: [[&[&str]; 2]; 4] = [
        [&["node-1"], &["node-2"]],
        [&["node-1"], &["node-1"]],
        [&["node-1", "node-2"], &["node-2", "node-3"]],
        [&["node-3"], &["node-1", "node-2", "node-3"]],
    ];
    for chosen in combinations {
        for (name, nodes) in ["one", "two"].iter().zip(chosen) {
            let selectors: Vec<Value> = nodes.iter().map(|node| only(node)).collect();
            handles::readvertise(site, name, &json!({"nodeSelectors": selectors}))?;
        }
        for (addresses, nodes) in addresses.iter().zip(chosen) {
            table
                .hear_all(addresses, &Want::from(nodes))
                .with_context(|| format!("{chosen:?}"))?;
        }
    }
    Ok(format!("{} combinations", combinations.len()))
}

fn united_nodes(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(site, "union", &json!({"nodeSelectors": [only("node-1")]}))?;
    let addresses = handles::dual_service(site, "union", "union")?;
    table.hear_all(&addresses, &Want::from(&["node-1"]))?;
    let third = json!({"nodeSelectors": [only("node-3")]});
    handles::advertise(site, "third", "union", &third)?;
    table.hear_all(&addresses, &Want::from(&["node-1", "node-3"]))?;
    handles::withdraw(site, "union")?;
    table.hear_all(&addresses, &Want::from(&["node-3"]))?;
    Ok(addresses.join(" and "))
}

const KEY: &str = "lab.ferrolb.io/announces";

fn label_node(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(
        site,
        "labelled",
        &json!({"nodeSelectors": [labelled(KEY, "yes")]}),
    )?;
    let addresses = handles::dual_service(site, "labelled", "labelled")?;
    table.hear_all(&addresses, &Want::from(&[]))?;
    let first = Label::put(site, "node-2", KEY, "yes")?;
    table.hear_all(&addresses, &Want::from(&["node-2"]))?;
    let second = Label::put(site, "node-3", KEY, "yes")?;
    table.hear_all(&addresses, &Want::from(&["node-2", "node-3"]))?;
    drop(first);
    table.hear_all(&addresses, &Want::from(&["node-3"]))?;
    drop(second);
    table.hear_all(&addresses, &Want::from(&[]))?;
    Ok(addresses.join(" and "))
}

fn stops_matching(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    let mut addresses = Vec::new();
    for name in ["leaves", "stays"] {
        handles::advertised_pool(site, name, &json!({"nodeSelectors": [only("node-1")]}))?;
        addresses.push(handles::dual_service(site, name, name)?);
    }
    let at_node_1 = Want::from(&["node-1"]);
    for both in &addresses {
        table.hear_all(both, &at_node_1)?;
    }
    let lives = table.lives()?;
    let nowhere = json!({"nodeSelectors": [only("no-such-node")]});
    handles::readvertise(site, "leaves", &nowhere)?;
    table.hear_all(&addresses[0], &Want::from(&[]))?;
    table.hear_all(&addresses[1], &at_node_1)?;
    table.unbroken_since(&lives)?;
    Ok(addresses.concat().join(" "))
}

fn of_pool_and_label(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    let selectors =
        json!({"serviceSelectors": [labelled("tier", "front"), labelled("tier", "edge")]});
    handles::advertised_pool(site, "chosen", &selectors)?;
    handles::pool(site, "other")?;
    let make = |name: &str, pool: &str, tier: &str| {
        handles::labelled_service(site, name, pool, &json!({"tier": tier}))
    };
    let wanted = [
        make("front", "chosen", "front")?,
        make("edge", "chosen", "edge")?,
    ];
    let unwanted = [
        make("back", "chosen", "back")?,
        make("front-elsewhere", "other", "front")?,
    ];
    for addresses in &wanted {
        table.hear_all(addresses, &Want::all())?;
    }
    for addresses in &unwanted {
        table.hear_all(addresses, &Want::from(&[]))?;
    }
    Ok("two of four Services".into())
}

fn edited(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    let choose = |tier: &str| json!({"serviceSelectors": [labelled("tier", tier)]});
    handles::advertised_pool(site, "edited", &choose("front"))?;
    let make = |name: &str, tier: &str| {
        handles::labelled_service(site, name, "edited", &json!({"tier": tier}))
    };
    let (front, back) = (make("front", "front")?, make("back", "back")?);
    let none = Want::from(&[]);
    table.hear_all(&front, &Want::all())?;
    table.hear_all(&back, &none)?;
    handles::readvertise(site, "edited", &choose("back"))?;
    table.hear_all(&front, &none)?;
    table.hear_all(&back, &Want::all())?;
    let relabel = |name: &str, tier: &str| {
        site.patch(
            &service_path(name),
            &json!({"metadata": {"labels": {"tier": tier}}}),
        )
    };
    relabel("front", "back")?;
    table.hear_all(&front, &Want::all())?;
    relabel("back", "front")?;
    table.hear_all(&back, &none)?;
    table.hear_all(&front, &Want::all())?;
    Ok("the selectors were edited, then the labels".into())
}

fn exact_and_aggregated(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(
        site,
        "all",
        &json!({"aggregationLength": 24, "aggregationLengthV6": 124, "communities": ["64512:24"]}),
    )?;
    handles::advertise(
        site,
        "exact",
        "all",
        &json!({"serviceSelectors": [labelled("tier", "front")], "communities": ["64512:32"]}),
    )?;
    let make = |name: &str, tier: &str| {
        handles::labelled_service(site, name, "all", &json!({"tier": tier}))
    };
    let (front, back) = (make("front", "front")?, make("back", "back")?);
    table.hear_all(&front, &Want::communities(&["64512:32"]))?;
    table.hear_all(&back, &Want::from(&[]))?;
    let aggregate = Want::communities(&["64512:24"]);
    table.hear(handles::around(&front[0], 24)?, &aggregate)?;
    table.hear(handles::around(&front[1], 124)?, &aggregate)?;
    Ok(format!("{} beside its aggregate", front.join(" and ")))
}

fn communities(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(site, "overlap", &json!({"communities": ["64512:1"]}))?;
    handles::advertise(
        site,
        "overlap-front",
        "overlap",
        &json!({"serviceSelectors": [labelled("tier", "front")], "communities": ["64512:2"]}),
    )?;
    let make = |name: &str, tier: &str| {
        handles::labelled_service(site, name, "overlap", &json!({"tier": tier}))
    };
    let (front, back) = (make("front", "front")?, make("back", "back")?);
    table.hear_all(&front, &Want::communities(&["64512:1", "64512:2"]))?;
    table.hear_all(&back, &Want::communities(&["64512:1"]))?;
    let apart = json!({"serviceSelectors": [labelled("tier", "back")]});
    handles::readvertise(site, "overlap", &apart)?;
    table.hear_all(&front, &Want::communities(&["64512:2"]))?;
    table.hear_all(&back, &Want::communities(&["64512:1"]))?;
    Ok("united, then apart".into())
}
