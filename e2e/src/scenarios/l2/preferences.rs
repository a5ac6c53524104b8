//! Preferred nodes, with weights (L21 to L28).

use anyhow::{Result, ensure};
use serde_json::json;

use super::handles::{
    Label, advertise, all_nodes, baseline, labelled, only, others, pool, prefer, readvertise,
    service, settles_on,
};
use super::scenario;
use crate::cluster::{Site, service_path};
use crate::neighbors;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "preferred-node",
        "L21: a preferred node answers, and when its label goes the address falls back to MetalLB's order",
        preferred,
    ),
    scenario(
        "preference-for-no-node",
        "L22: a preference that no node matches changes nothing",
        no_node,
    ),
    scenario(
        "preferred-node-excluded",
        "L23: the preferred node is excluded: another answers, and it reclaims the address on its return",
        excluded,
    ),
    scenario(
        "preference-edited",
        "L24: an edited preference elects anew at once; without it MetalLB's order is back",
        edited,
    ),
    scenario(
        "preference-among-selected-nodes",
        "L25: of the selected nodes the preferred one answers",
        among_selected,
    ),
    scenario(
        "preference-for-a-node-that-is-not-selected",
        "L26: a preferred node that is not selected does not answer; a selected one does",
        not_selected,
    ),
    scenario(
        "weights-are-summed",
        "L27: weights add up over advertisements: 110 beats 60, and without the 60 of them 60 beats 50",
        summed,
    ),
    scenario(
        "preference-for-some-services",
        "L28: a preference in an advertisement with a service selector moves only the Services that match",
        some_services,
    ),
];

const KEY: &str = "lab.ferrolb.io/preferred";

/// A pool with one advertisement and one Service, whose address MetalLB's order gives to the returned node.
fn ground(site: &Site, name: &str) -> Result<(String, &'static str)> {
    pool(site, name)?;
    advertise(site, name, name, &json!({}))?;
    let address = service(site, name, name)?;
    let node = baseline(&address, &all_nodes())?;
    settles_on(site, &address, node)?;
    Ok((address, node))
}

/// A node that does not stand first.
fn another(node: &str) -> Result<&'static str> {
    baseline("0.0.0.0", &others(node))
}

fn preferred(site: &Site) -> Result<String> {
    let (address, first) = ground(site, "preferred")?;
    readvertise(
        site,
        "preferred",
        &json!({"preferredNodeSelectors": [prefer(100, &labelled(KEY, "yes"))]}),
    )?;
    for node in others(first) {
        let label = Label::put(site, node, KEY, "yes")?;
        settles_on(site, &address, node)?;
        drop(label);
        settles_on(site, &address, first)?;
    }
    Ok(format!("{address}: on the labelled node, else on {first}"))
}

fn no_node(site: &Site) -> Result<String> {
    let (address, first) = ground(site, "no-node-preferred")?;
    readvertise(
        site,
        "no-node-preferred",
        &json!({"preferredNodeSelectors": [prefer(100, &labelled(KEY, "no-node"))]}),
    )?;
    // A second Service, made afterwards, is decided with the preference: so the preference has been read.
    let second = service(site, "no-node-preferred-2", "no-node-preferred")?;
    settles_on(site, &second, baseline(&second, &all_nodes())?)?;
    settles_on(site, &address, first)?;
    Ok(format!("{address} stays on {first}"))
}

fn excluded(site: &Site) -> Result<String> {
    let (address, first) = ground(site, "excluded-preferred")?;
    let node = another(first)?;
    readvertise(
        site,
        "excluded-preferred",
        &json!({"preferredNodeSelectors": [prefer(100, &only(node))]}),
    )?;
    settles_on(site, &address, node)?;
    let key = "node.kubernetes.io/exclude-from-external-load-balancers";
    let label = Label::put(site, node, key, "true")?;
    settles_on(site, &address, baseline(&address, &others(node))?)?;
    drop(label);
    settles_on(site, &address, node)?;
    Ok(format!("{address} leaves {node} and returns"))
}

fn edited(site: &Site) -> Result<String> {
    let (address, first) = ground(site, "edited-preference")?;
    for node in others(first).into_iter().chain([first]) {
        readvertise(
            site,
            "edited-preference",
            &json!({"preferredNodeSelectors": [prefer(10, &only(node))]}),
        )?;
        settles_on(site, &address, node)?;
    }
    let node = another(first)?;
    readvertise(
        site,
        "edited-preference",
        &json!({"preferredNodeSelectors": [prefer(10, &only(node))]}),
    )?;
    settles_on(site, &address, node)?;
    readvertise(
        site,
        "edited-preference",
        &json!({"preferredNodeSelectors": null}),
    )?;
    settles_on(site, &address, first)?;
    Ok(format!("{address}: each node in turn, then {first}"))
}

fn among_selected(site: &Site) -> Result<String> {
    let (address, first) = ground(site, "among-selected")?;
    let chosen = others(first);
    let second = baseline(&address, &chosen)?;
    let third = baseline(
        &address,
        &others(second)
            .into_iter()
            .filter(|n| *n != first)
            .collect::<Vec<_>>(),
    )?;
    let selectors: Vec<_> = chosen.iter().map(|node| only(node)).collect();
    readvertise(site, "among-selected", &json!({"nodeSelectors": selectors}))?;
    settles_on(site, &address, second)?;
    readvertise(
        site,
        "among-selected",
        &json!({"preferredNodeSelectors": [prefer(1, &only(third))]}),
    )?;
    settles_on(site, &address, third)?;
    Ok(format!(
        "{address}: {second} of {chosen:?}, {third} when preferred"
    ))
}

fn not_selected(site: &Site) -> Result<String> {
    let (address, first) = ground(site, "disjoint")?;
    let node = another(first)?;
    readvertise(
        site,
        "disjoint",
        &json!({"nodeSelectors": [only(node)], "preferredNodeSelectors": [prefer(100, &only(first))]}),
    )?;
    settles_on(site, &address, node)?;
    for _ in 0..5 {
        let answered = neighbors::who_answers(&site.run, &address)?;
        ensure!(answered == [node], "{answered:?} answered");
    }
    Ok(format!(
        "{address} on {node}, which is selected; {first} is preferred and is not"
    ))
}

fn summed(site: &Site) -> Result<String> {
    let (address, _) = ground(site, "summed")?;
    let (one, other) = ("node-1", "node-2");
    let zone = Label::put(site, one, KEY, "zone")?;
    // 50 for the one node by the first advertisement, 60 more by the second while it has the label; 60 for the other.
    readvertise(
        site,
        "summed",
        &json!({"preferredNodeSelectors": [prefer(50, &only(one)), prefer(60, &only(other))]}),
    )?;
    let more = json!({"preferredNodeSelectors": [prefer(60, &labelled(KEY, "zone"))]});
    advertise(site, "summed-more", "summed", &more)?;
    settles_on(site, &address, one)?;
    drop(zone);
    settles_on(site, &address, other)?;
    Ok(format!(
        "{address}: {one} by 110 to 60, {other} by 60 to 50"
    ))
}

fn some_services(site: &Site) -> Result<String> {
    let (address, first) = ground(site, "some-services")?;
    let second = service(site, "some-services-2", "some-services")?;
    let own = baseline(&second, &all_nodes())?;
    settles_on(site, &second, own)?;
    let node = another(first)?;
    let spec = json!({
        "serviceSelectors": [labelled("tier", "front")],
        "preferredNodeSelectors": [prefer(100, &only(node))],
    });
    advertise(site, "some-services-more", "some-services", &spec)?;
    site.patch(
        &service_path("some-services"),
        &json!({"metadata": {"labels": {"tier": "front"}}}),
    )?;
    settles_on(site, &address, node)?;
    settles_on(site, &second, own)?;
    Ok(format!(
        "{address} moved from {first} to {node}, {second} stayed on {own}"
    ))
}
