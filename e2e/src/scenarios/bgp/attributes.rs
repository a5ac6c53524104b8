//! What routers hear with a prefix: communities, local preference, length.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::handles::{self, around};
use super::scenario;
use super::services::updates;
use super::table::{INTERNAL, Laying, PLAIN, Style, Table, Want, hears, in_styles, peer_name};
use crate::cluster::Site;
use crate::routers::BOTH;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "attributes",
        "B17: communities, large ones, aliases and local preference of an advertisement; preference stays inside the AS",
        |site| in_styles(site, &[PLAIN, INTERNAL], each_kind),
    ),
    scenario(
        "communities-are-united",
        "B18: two advertisements of one prefix: the union of their communities, and less again when one goes",
        |site| in_styles(site, &[PLAIN], united),
    ),
    scenario(
        "attributes-change-in-place",
        "B19: new communities and preference replace the old ones without a withdrawal; a new length replaces the prefix",
        |site| in_styles(site, &[INTERNAL], change),
    ),
    scenario(
        "attributes-of-both-families",
        "B27: on sessions for both families each prefix has preference and communities",
        |site| in_styles(site, &[INTERNAL], both_families),
    ),
    scenario(
        "communities-by-peer",
        "B29: two advertisements for two peers: each hears its own communities",
        |site| in_styles(site, &[PLAIN], by_peer),
    ),
    scenario(
        "aggregated",
        "an aggregate is withdrawn with the last Service inside it, and is announced once",
        |site| in_styles(site, &[PLAIN], aggregated),
    ),
];

fn each_kind(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::alias(site, "lab-alias", "64512:77")?;
    let labels = json!({"lab.ferrolb.io/kind": "labelled"});
    let number = handles::next_pool();
    let ranges = [
        format!("10.101.{number}.0/24"),
        format!("fd00:101:0:{number}::/120"),
    ];
    handles::make_pool(
        site,
        "kinds",
        &ranges.each_ref().map(String::as_str),
        &labels,
    )?;
    let addresses = handles::dual_service(site, "kinds", "kinds")?;
    let by_label = json!({
        "ipAddressPools": null, "ipAddressPoolSelectors": [{"matchLabels": labels}],
        "communities": ["64512:5"],
    });
    let cases: [(&str, Value, Want<'_>); 6] = [
        (
            "community and preference",
            json!({"communities": ["64512:1", "65535:65281"], "localPref": 150}),
            Want {
                local_pref: 150,
                ..Want::communities(&["64512:1", "65535:65281"])
            },
        ),
        (
            "large community and preference",
            json!({"communities": ["large:64512:1:4294967295"], "localPref": 200}),
            Want {
                local_pref: 200,
                large_communities: &["64512:1:4294967295"],
                ..Want::all()
            },
        ),
        (
            "preference",
            json!({"localPref": 4_294_967_295_u32}),
            Want {
                local_pref: u32::MAX,
                ..Want::all()
            },
        ),
        (
            "community",
            json!({"communities": ["1:1"]}),
            Want::communities(&["1:1"]),
        ),
        (
            "alias",
            json!({"communities": ["lab-alias", "64512:3"]}),
            Want::communities(&["64512:77", "64512:3"]),
        ),
        (
            "pool by its label",
            by_label,
            Want::communities(&["64512:5"]),
        ),
    ];
    let count = cases.len();
    for (what, spec, want) in cases {
        let name = what.replace(' ', "-");
        handles::advertise(site, &name, "kinds", &spec)?;
        let heard = table.hear_all(&addresses, &want);
        heard.map_err(|error| error.context(what.to_owned()))?;
        handles::withdraw(site, &name)?;
        table.hear_all(&addresses, &Want::from(&[]))?;
    }
    Ok(format!("{count} kinds"))
}

fn united(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(
        site,
        "united",
        &json!({"communities": ["64512:1", "64512:2"]}),
    )?;
    let addresses = handles::dual_service(site, "united", "united")?;
    table.hear_all(&addresses, &Want::communities(&["64512:1", "64512:2"]))?;
    handles::advertise(
        site,
        "second",
        "united",
        &json!({"communities": ["64512:2", "large:1:2:3"]}),
    )?;
    let both = Want {
        large_communities: &["1:2:3"],
        ..Want::communities(&["64512:1", "64512:2"])
    };
    table.hear_all(&addresses, &both)?;
    handles::withdraw(site, "united")?;
    let second = Want {
        large_communities: &["1:2:3"],
        ..Want::communities(&["64512:2"])
    };
    table.hear_all(&addresses, &second)?;
    Ok(addresses.join(" and "))
}

fn change(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(
        site,
        "changing",
        &json!({"communities": ["64512:1"], "localPref": 150}),
    )?;
    let addresses = handles::dual_service(site, "changing", "changing")?;
    let first = Want {
        local_pref: 150,
        ..Want::communities(&["64512:1"])
    };
    table.hear_all(&addresses, &first)?;
    let lives = table.lives()?;
    let withdrawn = withdrawals(&table, &addresses)?;
    handles::readvertise(
        site,
        "changing",
        &json!({"communities": ["64512:2"], "localPref": 170}),
    )?;
    let second = Want {
        local_pref: 170,
        ..Want::communities(&["64512:2"])
    };
    table.hear_all(&addresses, &second)?;
    ensure!(
        withdrawn == withdrawals(&table, &addresses)?,
        "the routes were withdrawn before they had their new attributes"
    );
    handles::readvertise(
        site,
        "changing",
        &json!({"aggregationLength": 24, "aggregationLengthV6": 124, "communities": ["64512:3"], "localPref": 190}),
    )?;
    let third = Want {
        local_pref: 190,
        ..Want::communities(&["64512:3"])
    };
    table.hear(around(&addresses[0], 24)?, &third)?;
    table.hear(around(&addresses[1], 124)?, &third)?;
    table.hear_all(&addresses, &Want::from(&[]))?;
    let exabgp = table.router("ExaBGP")?;
    for address in &addresses {
        let without = crate::routers::left_without(&exabgp.seat, handles::whole(address)?)?;
        ensure!(
            without == 0,
            "{address} was withdrawn {without} times before the aggregate was there"
        );
    }
    table.unbroken_since(&lives)?;
    Ok(format!("{} at length 24 and 124", addresses.join(" and ")))
}

/// How often ExaBGP, which keeps all that it ever heard, was told to forget these addresses.
pub fn withdrawals(table: &Table<'_>, addresses: &[String]) -> Result<usize> {
    let router = table.router("ExaBGP")?;
    let mut sum = 0;
    for address in addresses {
        sum += crate::routers::withdrawals(&router.seat, handles::whole(address)?)?;
    }
    Ok(sum)
}

fn both_families(site: &Site, style: Style) -> Result<String> {
    let mut laying = Laying::of(style);
    laying.dual = true;
    let table = Table::lay_with(site, &laying)?;
    handles::advertised_pool(
        site,
        "dual",
        &json!({"communities": ["64512:9"], "localPref": 300}),
    )?;
    let addresses = handles::dual_service(site, "dual", "dual")?;
    let want = Want {
        local_pref: 300,
        ..Want::communities(&["64512:9"])
    };
    table.hear_all(&addresses, &want)?;
    Ok("both families over both transports".into())
}

fn by_peer(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::pool(site, "by-peer")?;
    let addresses = handles::dual_service(site, "by-peer", "by-peer")?;
    let communities = ["64512:11", "64512:12", "64512:13", "64512:14"];
    for (router, community) in table.routers.iter().zip(communities) {
        let peers = BOTH.map(|family| peer_name(router, family));
        handles::advertise(
            site,
            &format!("for-{}", router.implementation.word()),
            "by-peer",
            &json!({"peers": peers, "communities": [community]}),
        )?;
    }
    for (router, community) in table.routers.iter().zip(communities) {
        for address in &addresses {
            let own = [community];
            let want = Want::communities(&own);
            hears(site, router, handles::whole(address)?, &want)?;
        }
    }
    Ok("each router its own".into())
}

fn aggregated(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(
        site,
        "aggregated",
        &json!({"aggregationLength": 25, "aggregationLengthV6": 121}),
    )?;
    let first = handles::dual_service(site, "first", "aggregated")?;
    let aggregates = [around(&first[0], 25)?, around(&first[1], 121)?];
    for aggregate in aggregates {
        table.hear(aggregate, &Want::all())?;
    }
    table.hear_all(&first, &Want::from(&[]))?;
    let heard = updates(&table)?;
    let second = handles::dual_service(site, "second", "aggregated")?;
    for (address, aggregate) in second.iter().zip(aggregates) {
        ensure!(
            aggregate.contains(&address.parse::<std::net::IpAddr>()?),
            "{address} is not in {aggregate}"
        );
        super::services::reached_from_routers(&table, address, 80)?;
    }
    site.delete(&crate::cluster::service_path("first"))?;
    for address in &second {
        super::services::reached_from_routers(&table, address, 80)?;
    }
    ensure!(
        heard == updates(&table)?,
        "an aggregate that did not change was announced again"
    );
    site.delete(&crate::cluster::service_path("second"))?;
    table.hear_nothing_of(&aggregates)?;
    Ok(aggregates.map(|a| a.to_string()).join(" and "))
}
