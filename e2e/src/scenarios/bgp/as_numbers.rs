//! In which AS a node is, and in which the router has to be.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::handles::{self, only};
use super::scenario;
use super::table::{FAR, INTERNAL, Laying, PLAIN, Style, Table, Want, in_styles, peer_name};
use crate::cluster::Site;
use crate::plan::{NODES, SPEAKER_ASN};
use crate::routers::{BOTH, ExaBgp, Neighbor, Setup};
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "another-local-as",
        "B11: with localASN the routers see that AS, alone in the path",
        |site| in_styles(site, &[PLAIN, FAR], local_asn),
    ),
    scenario(
        "dynamic-as",
        "B25: dynamicASN internal and external each take routers of the right side and refuse those of the other",
        |site| in_styles(site, &[INTERNAL], dynamic_asn),
    ),
    scenario(
        "another-as-on-each-node",
        "B39: each node presents an AS of its own",
        |site| in_styles(site, &[PLAIN], asn_per_node),
    ),
    scenario(
        "four-octet-as",
        "AS 4200000000 on both sides, in OPEN and path (RFC 6793)",
        |site| in_styles(site, &[PLAIN], large_asn),
    ),
    scenario(
        "two-octet-as",
        "ExaBGP without four-octet AS numbers knows a node in AS 4200000000 as AS_TRANS, and hears its routes (RFC 6793)",
        |site| in_styles(site, &[PLAIN], small_asn),
    ),
];

fn local_asn(site: &Site, style: Style) -> Result<String> {
    const PRESENTED: u32 = 64999;
    if style.internal {
        return Ok("means another AS than the router's".into());
    }
    let mut laying = Laying::of(style);
    laying.peer = json!({"localASN": PRESENTED});
    laying.change = Box::new(move |setup: &mut Setup| {
        setup.neighbors.iter_mut().for_each(|n| n.asn = PRESENTED)
    });
    let table = Table::lay_with(site, &laying)?;
    handles::advertised_pool(site, "local-as", &json!({}))?;
    let addresses = handles::dual_service(site, "local-as", "local-as")?;
    table.hear_all(&addresses, &Want::all())?;
    Ok(format!("AS {PRESENTED} instead of {SPEAKER_ASN}"))
}

fn dynamic_asn(site: &Site, style: Style) -> Result<String> {
    let (right, wrong) = if style.internal {
        ("internal", "external")
    } else {
        ("external", "internal")
    };
    // A peer inside the AS is refused with ebgpMultiHop, and one outside is out of reach without it.
    let asking = |side: &str| {
        let hops = (style.far && side == "external").then_some(true);
        json!({"dynamicASN": side, "ebgpMultiHop": hops})
    };
    let mut laying = Laying::of(style);
    laying.peer = json!({"peerASN": null, "dynamicASN": right});
    let table = Table::lay_with(site, &laying)?;
    handles::advertised_pool(site, "dynamic", &json!({}))?;
    let addresses = handles::dual_service(site, "dynamic", "dynamic")?;
    table.hear_all(&addresses, &Want::all())?;
    let since = handles::now()?;
    for router in &table.routers {
        for family in BOTH {
            handles::change_peer(site, &peer_name(router, family), &asking(wrong))?;
        }
    }
    for router in &table.routers {
        site.wait_for(
            &format!("{} has no session", router.name()),
            Duration::from_secs(20),
            || Ok(router.established()? == 0),
        )?;
        for family in BOTH {
            // Attempts go on, so that "down" is what they end in.
            let name = peer_name(router, family);
            handles::speakers_say(site, &since, &[&name, "is in AS"])?;
        }
        ensure!(router.established()? == 0, "{} is up", router.name());
    }
    for router in &table.routers {
        for family in BOTH {
            handles::change_peer(site, &peer_name(router, family), &asking(right))?;
        }
    }
    table.established()?;
    table.hear_all(&addresses, &Want::all())?;
    Ok(format!("{right} is taken, {wrong} is refused"))
}

fn asn_per_node(site: &Site, style: Style) -> Result<String> {
    const FIRST: u32 = 64700;
    if style.internal {
        return Ok("means several AS".into());
    }
    let number = move |address: &str| -> Option<u32> {
        let index = NODES
            .iter()
            .position(|node| node.v4 == address || node.v6 == address)?;
        Some(FIRST + u32::try_from(index).ok()?)
    };
    let own_asn = move |neighbor: &mut Neighbor| {
        neighbor.asn = number(&neighbor.address.to_string()).unwrap_or_default();
    };
    let mut laying = Laying::of(style);
    laying.change = Box::new(move |setup: &mut Setup| setup.neighbors.iter_mut().for_each(own_asn));
    let table = Table::routers_alone(site, &laying)?;
    for router in &table.routers {
        for family in BOTH {
            for node in &NODES {
                let name = format!("{}-{}", peer_name(router, family), node.name);
                let more = json!({"myASN": number(node.v4), "nodeSelectors": [only(node.name)]});
                table.peer(&name, router, family, &more)?;
            }
        }
    }
    table.established()?;
    handles::advertised_pool(site, "per-node", &json!({}))?;
    let addresses = handles::dual_service(site, "per-node", "per-node")?;
    table.hear_all(&addresses, &Want::all())?;
    Ok(format!("AS {FIRST} to {}", FIRST + 2))
}

fn large_asn(site: &Site, style: Style) -> Result<String> {
    const OURS: u32 = 4_200_000_000;
    let theirs = if style.internal { OURS } else { OURS + 1 };
    let mut laying = Laying::of(style);
    laying.peer = json!({"myASN": OURS});
    laying.change = Box::new(move |setup: &mut Setup| {
        setup.asn = theirs;
        setup.neighbors.iter_mut().for_each(|n| n.asn = OURS);
    });
    let table = Table::lay_with(site, &laying)?;
    handles::advertised_pool(site, "large", &json!({}))?;
    let addresses = handles::dual_service(site, "large", "large")?;
    table.hear_all(&addresses, &Want::all())?;
    Ok(format!("AS {OURS} and AS {theirs}"))
}

fn small_asn(site: &Site, style: Style) -> Result<String> {
    const OURS: u32 = 4_200_000_000;
    const AS_TRANS: u32 = 23456;
    if style.internal {
        return Ok("is about eBGP".into());
    }
    let mut laying = Laying::of(style);
    laying.who = vec![&ExaBgp];
    laying.peer = json!({"myASN": OURS});
    laying.change = Box::new(move |setup: &mut Setup| {
        for neighbor in &mut setup.neighbors {
            neighbor.asn = AS_TRANS;
            neighbor.two_octet_as = true;
        }
    });
    let table = Table::lay_with(site, &laying)?;
    handles::advertised_pool(site, "small", &json!({}))?;
    let addresses = handles::dual_service(site, "small", "small")?;
    let router = table.router("ExaBGP")?;
    let mut paths = BTreeSet::new();
    for address in &addresses {
        let prefix = handles::whole(address)?;
        let what = format!("ExaBGP hears {prefix} of every node");
        let routes = site.wait(&what, handles::LIMIT, || {
            let routes = router.routes(prefix)?;
            Ok((routes.len() == NODES.len()).then_some(routes))
        })?;
        paths.extend(routes.into_iter().map(|route| route.as_path));
    }
    // From AS4_PATH, which ExaBGP puts in the place of AS_TRANS.
    ensure!(
        paths == BTreeSet::from([vec![OURS]]),
        "the paths are {paths:?}"
    );
    Ok(format!("{paths:?}"))
}
