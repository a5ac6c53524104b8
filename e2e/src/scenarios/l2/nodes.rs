//! Which nodes may announce: their condition and labels, and the selectors of advertisements (L5, L6, L11 to L13, L29 to
//! L32).

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::handles::{
    Label, NetworkUnavailable, advertise, all_nodes, announced, announcer, baseline, dual_service,
    labelled, nobody_answers, only, others, pool, readvertise, service, settles_on, withdraw,
};
use super::scenario;
use crate::cluster::{Site, service_path};
use crate::neighbors;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "network-unavailable",
        "L5: the announcer's condition NetworkUnavailable moves its addresses away, and they return when it clears",
        network_unavailable,
    ),
    scenario(
        "excluded-by-label",
        "L6: the label exclude-from-external-load-balancers moves the addresses away, and they return when it goes",
        excluded,
    ),
    scenario(
        "cordoned-node-announces-on",
        "a node that is cordoned keeps its addresses (reference 4.1)",
        cordoned,
    ),
    scenario(
        "one-selected-node",
        "L11: an advertisement that selects one node: that node answers, each of the three in turn, for both families",
        one_node,
    ),
    scenario(
        "several-selected-nodes",
        "L12: advertisements that select several nodes: the first of those answers, never the one that none selects",
        several_nodes,
    ),
    scenario(
        "node-labelled-later",
        "L13: a selector that no node matches: nobody answers, until a node is labelled, and again when the label goes",
        labelled_later,
    ),
    scenario(
        "service-selector-and-pool",
        "L29: pool and service selector must both match: relabelling the Service turns the announcement on and off",
        service_selector,
    ),
    scenario(
        "two-advertisements-one-announcer",
        "L30: two advertisements with different nodes for one Service: exactly one node answers",
        two_advertisements,
    ),
    scenario(
        "no-advertisement-for-service-and-node",
        "L31: no advertisement matches both the Service and a node: nobody answers",
        none_matches,
    ),
    scenario(
        "several-service-selectors",
        "L32: of several service selectors one must match",
        several_selectors,
    ),
];

/// The node leaves the candidates and comes back; the others stand in MetalLB's order meanwhile.
fn leaves_and_returns<'a, T>(
    site: &'a Site,
    name: &str,
    leave: impl FnOnce(&'a Site, &'static str) -> Result<T>,
) -> Result<String> {
    let (address, node) = announced(site, name)?;
    ensure!(
        node == baseline(&address, &all_nodes())?,
        "{node} is not MetalLB's choice"
    );
    let away = leave(site, node)?;
    let successor = baseline(&address, &others(node))?;
    settles_on(site, &address, successor)?;
    drop(away);
    settles_on(site, &address, node)?;
    Ok(format!("{address}: {node}, {successor}, {node} again"))
}

fn network_unavailable(site: &Site) -> Result<String> {
    leaves_and_returns(site, "network-unavailable", |site, node| {
        NetworkUnavailable::set_on(site, node)
    })
}

fn excluded(site: &Site) -> Result<String> {
    leaves_and_returns(site, "excluded", |site, node| {
        let key = "node.kubernetes.io/exclude-from-external-load-balancers";
        // Its presence counts, whatever its value.
        Label::put(site, node, key, "")
    })
}

fn cordoned(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "cordoned")?;
    site.kubectl(&["cordon", node])?;
    // What a later change does is seen; so the cordon was seen before it.
    let seen = settles_on_for_a_second_service(site);
    let still = neighbors::who_answers(&site.run, &address);
    site.kubectl(&["uncordon", node])?;
    seen?;
    let still = still?;
    ensure!(
        still == [node],
        "{still:?} answers after {node} was cordoned"
    );
    Ok(format!("{address} stays on {node}"))
}

fn settles_on_for_a_second_service(site: &Site) -> Result<()> {
    let address = service(site, "after-the-cordon", "layer2")?;
    settles_on(site, &address, baseline(&address, &all_nodes())?)
}

fn one_node(site: &Site) -> Result<String> {
    pool(site, "one-node")?;
    advertise(
        site,
        "one-node",
        "one-node",
        &json!({"nodeSelectors": [only("node-1")]}),
    )?;
    let addresses = dual_service(site, "one-node", "one-node")?;
    for node in all_nodes() {
        readvertise(site, "one-node", &json!({"nodeSelectors": [only(node)]}))?;
        for address in &addresses {
            settles_on(site, address, node)?;
        }
    }
    Ok(format!("{addresses:?} on each node in turn"))
}

fn several_nodes(site: &Site) -> Result<String> {
    pool(site, "some-nodes")?;
    let address = service(site, "some-nodes", "some-nodes")?;
    let mut notes = Vec::new();
    for left_out in all_nodes() {
        let chosen = others(left_out);
        // One advertisement with two selectors, then two advertisements with one each.
        let both: Vec<Value> = chosen.iter().map(|node| only(node)).collect();
        advertise(
            site,
            "some-nodes",
            "some-nodes",
            &json!({"nodeSelectors": both}),
        )?;
        let expected = baseline(&address, &chosen)?;
        settles_on(site, &address, expected)?;
        withdraw(site, "some-nodes")?;
        nobody_answers(site, &address)?;
        for node in &chosen {
            let selectors = json!({"nodeSelectors": [only(node)]});
            advertise(
                site,
                &format!("some-nodes-{node}"),
                "some-nodes",
                &selectors,
            )?;
        }
        settles_on(site, &address, expected)?;
        for node in &chosen {
            withdraw(site, &format!("some-nodes-{node}"))?;
        }
        nobody_answers(site, &address)?;
        notes.push(format!("without {left_out}: {expected}"));
    }
    Ok(format!("{address}: {}", notes.join(", ")))
}

fn labelled_later(site: &Site) -> Result<String> {
    const KEY: &str = "lab.ferrolb.io/announces";
    pool(site, "labelled-later")?;
    let selector = json!({"nodeSelectors": [labelled(KEY, "yes")]});
    advertise(site, "labelled-later", "labelled-later", &selector)?;
    let address = service(site, "labelled-later", "labelled-later")?;
    nobody_answers(site, &address)?;
    for node in all_nodes() {
        let label = Label::put(site, node, KEY, "yes")?;
        settles_on(site, &address, node)?;
        drop(label);
        nobody_answers(site, &address)?;
    }
    Ok(format!("{address} on each node while it was labelled"))
}

fn relabel(site: &Site, service: &str, value: &Value) -> Result<()> {
    let patch = json!({"metadata": {"labels": {"tier": value}}});
    site.patch(&service_path(service), &patch).map(drop)
}

fn service_selector(site: &Site) -> Result<String> {
    pool(site, "chosen-pool")?;
    pool(site, "other-pool")?;
    let spec = json!({"serviceSelectors": [labelled("tier", "front")]});
    advertise(site, "chosen", "chosen-pool", &spec)?;
    let address = service(site, "chosen", "chosen-pool")?;
    let elsewhere = service(site, "elsewhere", "other-pool")?;
    relabel(site, "elsewhere", &json!("front"))?;
    nobody_answers(site, &address)?;
    for _ in 0..2 {
        relabel(site, "chosen", &json!("front"))?;
        announcer(site, &address)?;
        relabel(site, "chosen", &json!("back"))?;
        nobody_answers(site, &address)?;
    }
    nobody_answers(site, &elsewhere)?;
    Ok(format!(
        "{address} comes and goes with the label, {elsewhere} of another pool never does"
    ))
}

fn two_advertisements(site: &Site) -> Result<String> {
    pool(site, "two-ads")?;
    for (name, node) in [("two-ads-1", "node-1"), ("two-ads-2", "node-2")] {
        advertise(
            site,
            name,
            "two-ads",
            &json!({"nodeSelectors": [only(node)]}),
        )?;
    }
    let address = service(site, "two-ads", "two-ads")?;
    let expected = baseline(&address, &["node-1", "node-2"])?;
    settles_on(site, &address, expected)?;
    // Asked again and again there is never a second one.
    for _ in 0..10 {
        let answered = neighbors::who_answers(&site.run, &address)?;
        ensure!(answered == [expected], "{answered:?} answered");
    }
    Ok(format!("{address} on {expected}"))
}

fn none_matches(site: &Site) -> Result<String> {
    pool(site, "none-matches")?;
    let right_service = json!({
        "serviceSelectors": [labelled("tier", "front")],
        "nodeSelectors": [labelled("lab.ferrolb.io/no-node", "has-this")],
    });
    let right_node = json!({
        "serviceSelectors": [labelled("tier", "back")],
        "nodeSelectors": [only("node-1")],
    });
    advertise(site, "right-service", "none-matches", &right_service)?;
    advertise(site, "right-node", "none-matches", &right_node)?;
    let address = service(site, "none-matches", "none-matches")?;
    relabel(site, "none-matches", &json!("front"))?;
    nobody_answers(site, &address)?;
    // The other label makes the other advertisement match both, which shows that all else was right.
    relabel(site, "none-matches", &json!("back"))?;
    settles_on(site, &address, "node-1")?;
    relabel(site, "none-matches", &json!("front"))?;
    nobody_answers(site, &address)?;
    Ok(format!(
        "{address} only when one advertisement matches both"
    ))
}

fn several_selectors(site: &Site) -> Result<String> {
    pool(site, "either")?;
    let either =
        json!({"serviceSelectors": [labelled("tier", "front"), labelled("tier", "middle")]});
    advertise(site, "either", "either", &either)?;
    let address = service(site, "either", "either")?;
    nobody_answers(site, &address)?;
    for tier in ["front", "middle"] {
        relabel(site, "either", &json!(tier))?;
        announcer(site, &address)?;
    }
    relabel(site, "either", &json!("back"))?;
    nobody_answers(site, &address)?;
    Ok(format!("{address} with either label"))
}
