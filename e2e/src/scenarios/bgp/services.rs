//! Which nodes announce a Service to routers, as its traffic policy, its servers and its nodes change.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::handles::{self, LIMIT, Label};
use super::scenario;
use super::table::{FAR, INTERNAL, PLAIN, SIGNED, Style, Table, Want, in_styles};
use crate::cluster::{Site, service_path};
use crate::scenarios::Scenario;
use crate::scenarios::l2::handles::{self as l2, NetworkUnavailable};
use crate::{host, objects};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "all-nodes-announce",
        "B1: with traffic policy Cluster every node is a next hop at every router, for addresses given and asked for",
        |site| in_styles(site, &[PLAIN, INTERNAL, FAR, SIGNED], all_nodes),
    ),
    scenario(
        "local-traffic-policy",
        "B5: with traffic policy Local only nodes with servers announce, and routes follow the servers",
        |site| in_styles(site, &[PLAIN], local),
    ),
    scenario(
        "node-cannot-serve",
        "B4: a node with NetworkUnavailable, or with the label that excludes it, withdraws; others stay, and it returns",
        |site| in_styles(site, &[PLAIN], cannot_serve),
    ),
    scenario(
        "shared-address-over-bgp",
        "B7: two Services on one address: both are reached, and the route goes with the second of them",
        |site| in_styles(site, &[PLAIN], shared),
    ),
    scenario(
        "addresses-of-ranges-and-prefixes-over-bgp",
        "B8: addresses from ranges and from prefixes are announced as they are",
        |site| in_styles(site, &[INTERNAL], ranges),
    ),
    scenario(
        "configured-step-by-step",
        "B15: pools, advertisements and Services come one after the other; what was there before keeps address, routes and sessions",
        |site| in_styles(site, &[PLAIN], step_by_step),
    ),
    scenario(
        "layer-2-beside-bgp",
        "B24: an L2Advertisement for addresses that BGP announces comes and goes, and the routers' routes do not notice",
        |site| in_styles(site, &[PLAIN], beside_layer2),
    ),
];

/// Waits until programs on the machines of the routers that have a kernel reach the address through their own routes.
pub fn reached_from_routers(table: &Table<'_>, address: &str, port: u16) -> Result<()> {
    // A router that is further away hands packets to the site's router, whose routes are its own.
    let near =
        |router: &&crate::routers::Router| router.implementation.has_kernel() && !table.style.far;
    let host = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    let url = format!("http://{host}:{port}/");
    for router in table.routers.iter().filter(near) {
        let namespace = router.seat.place.namespace();
        let words = ["-sS", "--max-time", "1", &url];
        table.site.wait(
            &format!("the machine of {} reaches {url}", router.name()),
            LIMIT,
            || host::run_in(&namespace, "curl", &words).map(Some),
        )?;
    }
    Ok(())
}

fn all_nodes(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(site, "cluster", &json!({}))?;
    let given = handles::dual_service(site, "given", "cluster")?;
    table.hear_all(&given, &Want::all())?;
    for address in &given {
        reached_from_routers(&table, address, 80)?;
    }
    // The next two addresses of the pool, which nobody has.
    let asked = given.iter().map(|address| successor(address, 7));
    let asked = asked.collect::<Result<Vec<_>>>()?;
    let mut service = objects::dual_stack("asked-for", "cluster");
    service["metadata"]["annotations"]["metallb.io/loadBalancerIPs"] = json!(asked.join(","));
    let got = handles::service_like(site, service)?;
    ensure!(got == asked, "asked for {asked:?} and got {got:?}");
    table.hear_all(&got, &Want::all())?;
    site.delete(&service_path("given"))?;
    table.hear_nothing_of(&[handles::whole(&given[0])?, handles::whole(&given[1])?])?;
    table.hear_all(&got, &Want::all())?;
    Ok(format!(
        "{} routers heard {}",
        table.routers.len(),
        got.join(" and ")
    ))
}

/// The address that follows so many after this.
fn successor(address: &str, by: u8) -> Result<String> {
    let next = match address.parse()? {
        std::net::IpAddr::V4(a) => std::net::Ipv4Addr::from(u32::from(a) + u32::from(by)).into(),
        std::net::IpAddr::V6(a) => {
            std::net::IpAddr::from(std::net::Ipv6Addr::from(u128::from(a) + u128::from(by)))
        }
    };
    Ok(next.to_string())
}

fn local(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(site, "local", &json!({}))?;
    let mut service = objects::dual_stack("local", "local");
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    service["spec"]["selector"] = json!({"app": "echo", "on": "node-2"});
    let addresses = handles::service_like(site, service)?;
    table.hear_all(&addresses, &Want::from(&["node-2"]))?;
    for address in &addresses {
        reached_from_routers(&table, address, 80)?;
    }
    let servers = |selector: Value| {
        site.patch(
            &service_path("local"),
            &json!({"spec": {"selector": selector}}),
        )
    };
    servers(json!({"on": null, (objects::away_from("node-2")): "yes"}))?;
    table.hear_all(&addresses, &Want::from(&["node-1", "node-3"]))?;
    servers(json!({"app": "nobody"}))?;
    table.hear_all(&addresses, &Want::from(&[]))?;
    let cluster = json!({"spec": {"externalTrafficPolicy": "Cluster"}});
    site.patch(&service_path("local"), &cluster)?;
    servers(json!({"app": "echo"}))?;
    // Whoever serves on nodes 1 and 3, every node leads there.
    table.hear_all(&addresses, &Want::all())?;
    Ok(addresses.join(" and "))
}

fn cannot_serve(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(site, "unavailable", &json!({}))?;
    let addresses = handles::dual_service(site, "unavailable", "unavailable")?;
    table.hear_all(&addresses, &Want::all())?;
    let lives = table.lives()?;
    let others = Want::from(&["node-1", "node-3"]);
    let unavailable = NetworkUnavailable::set_on(site, "node-2")?;
    table.hear_all(&addresses, &others)?;
    drop(unavailable);
    table.hear_all(&addresses, &Want::all())?;
    let excluded = Label::put(
        site,
        "node-2",
        "node.kubernetes.io/exclude-from-external-load-balancers",
        "",
    )?;
    table.hear_all(&addresses, &others)?;
    drop(excluded);
    table.hear_all(&addresses, &Want::all())?;
    table.unbroken_since(&lives)?;
    Ok(addresses.join(" and "))
}

fn shared(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(site, "shared", &json!({}))?;
    let sharing = |name: &str, port: u16| {
        let mut service = objects::dual_stack(name, "shared");
        service["metadata"]["annotations"]["metallb.io/allow-shared-ip"] = json!("together");
        service["spec"]["ports"] = json!([{"port": port, "targetPort": 8080, "protocol": "TCP"}]);
        service
    };
    let first = handles::service_like(site, sharing("first", 80))?;
    let mut second = sharing("second", 81);
    second["metadata"]["annotations"]["metallb.io/loadBalancerIPs"] = json!(first.join(","));
    let both = handles::service_like(site, second)?;
    ensure!(first == both, "the Services have {first:?} and {both:?}");
    table.hear_all(&both, &Want::all())?;
    for address in &both {
        reached_from_routers(&table, address, 80)?;
        reached_from_routers(&table, address, 81)?;
    }
    let heard = updates(&table)?;
    site.delete(&service_path("first"))?;
    // Once the second is known to answer alone, the deletion has been seen.
    for address in &both {
        reached_from_routers(&table, address, 81)?;
    }
    table.hear_all(&both, &Want::all())?;
    ensure!(
        heard == updates(&table)?,
        "a route that both Services want was announced again when one went"
    );
    site.delete(&service_path("second"))?;
    table.hear_all(&both, &Want::from(&[]))?;
    Ok(both.join(" and "))
}

/// How many UPDATEs all routers together have received.
pub fn updates(table: &Table<'_>) -> Result<u64> {
    let mut sum = 0;
    for router in &table.routers {
        sum += router.sessions()?.iter().map(|s| s.updates).sum::<u64>();
    }
    Ok(sum)
}

fn ranges(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    let (a, b) = (handles::next_pool(), handles::next_pool());
    let range = [
        format!("10.101.{a}.10-10.101.{a}.12"),
        format!("fd00:101:0:{a}::10-fd00:101:0:{a}::12"),
    ];
    let prefix = [
        format!("10.101.{b}.16/30"),
        format!("fd00:101:0:{b}::10/126"),
    ];
    let mut seen = Vec::new();
    for (name, ranges) in [("range", &range), ("prefix", &prefix)] {
        let ranges = ranges.each_ref().map(String::as_str);
        handles::make_pool(site, name, &ranges, &json!({}))?;
        handles::advertise(site, name, name, &json!({}))?;
        let addresses = handles::dual_service(site, &format!("of-a-{name}"), name)?;
        for (address, range) in addresses.iter().zip(ranges) {
            ensure!(is_in(address, range)?, "{address} is not in {range}");
        }
        table.hear_all(&addresses, &Want::all())?;
        seen.extend(addresses);
    }
    Ok(seen.join(" "))
}

fn is_in(address: &str, range: &str) -> Result<bool> {
    let address: std::net::IpAddr = address.parse()?;
    if let Some((first, last)) = range.split_once('-') {
        let (first, last): (std::net::IpAddr, std::net::IpAddr) = (first.parse()?, last.parse()?);
        return Ok(first <= address && address <= last);
    }
    Ok(range.parse::<ipnet::IpNet>()?.contains(&address))
}

fn step_by_step(site: &Site, style: Style) -> Result<String> {
    const STEPS: [&str; 4] = ["step-1", "step-2", "step-3", "step-4"];
    let table = Table::lay(site, style)?;
    let lives = table.lives()?;
    let mut all = Vec::new();
    for step in STEPS {
        handles::advertised_pool(site, step, &json!({}))?;
        all.extend(handles::dual_service(site, step, step)?);
        table.hear_all(&all, &Want::all())?;
    }
    for (step, addresses) in STEPS.iter().zip(all.chunks(2)) {
        let now = site.addresses_now(step)?;
        let kept = addresses.iter().all(|address| now.contains(address));
        ensure!(kept, "{step} had {addresses:?} and has {now:?}");
        for address in addresses {
            reached_from_routers(&table, address, 80)?;
        }
    }
    table.unbroken_since(&lives)?;
    Ok(format!("{} addresses", all.len()))
}

fn beside_layer2(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    // On the segment, where neighbours ask for addresses.
    l2::pool(site, "two-ways")?;
    handles::advertise(site, "two-ways", "two-ways", &json!({}))?;
    let addresses = handles::dual_service(site, "two-ways", "two-ways")?;
    table.hear_all(&addresses, &Want::all())?;
    let heard = updates(&table)?;
    for address in &addresses {
        l2::nobody_answers(site, address)?;
    }
    l2::advertise(site, "two-ways", "two-ways", &json!({}))?;
    for address in &addresses {
        l2::announcer(site, address)?;
    }
    l2::withdraw(site, "two-ways")?;
    for address in &addresses {
        l2::nobody_answers(site, address)?;
    }
    table.hear_all(&addresses, &Want::all())?;
    ensure!(heard == updates(&table)?, "routes were announced again");
    Ok(addresses.join(" and "))
}
