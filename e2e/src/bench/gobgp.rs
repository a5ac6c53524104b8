//! The same routes from GoBGP's daemon, which other load balancers have inside: it gets them from one neighbor and tells them to
//! the four routers.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::rows::Rows;
use super::subject::resident;
use super::table::{ADDRESSES, Table};
use super::{processors, routes};
use crate::bgp_peer::{Peer, UPDATE, message};
use crate::cluster::Site;
use crate::plan::{self, CLIENT_L2, NODES};
use crate::{host, prober};

const DAEMON: &str = "/usr/bin/gobgpd";
/// The AS of the neighbor that has the routes at first.
const FEEDER_ASN: u32 = 64_514;
const API: &str = "127.0.0.1:50051";
/// Prefixes in a message of the feeder: 5 octets each.
const AT_ONCE: usize = 700;

pub fn measure(site: &Site, count: usize, rows: &mut Rows) -> Result<()> {
    if !Path::new(DAEMON).exists() {
        println!("GoBGP is not installed, and is not measured");
        return Ok(());
    }
    let node = NODES.first().context("there is a node")?;
    println!("the same routes from GoBGP");
    let file = site.run.directory.join("gobgpd.toml");
    fs::write(
        &file,
        format!(
            "[global.config]\n  as = {}\n  router-id = \"{}\"\n  port = -1\n[[neighbors]]\n [neighbors.config]\n  neighbor-address = \"{}\"\n  peer-as = {FEEDER_ASN}\n",
            plan::SPEAKER_ASN,
            node.v4,
            CLIENT_L2.v4
        ),
    )?;
    let feeder = prober::run_in(&site.run, CLIENT_L2.name, || {
        Peer::listen(CLIENT_L2.v4.parse()?, FEEDER_ASN)
    })?;
    let arguments = [
        "-f",
        &file.display().to_string(),
        "-t",
        "toml",
        "--api-hosts",
        API,
        "--pprof-disable",
    ];
    let mut daemon = site.run.daemon(
        "bench-gobgpd",
        node.name,
        DAEMON,
        arguments.map(str::to_owned).to_vec(),
    );
    daemon.start()?;
    let measured = feed_and_ask(site, &feeder, count, rows, &daemon);
    daemon.kill()?;
    measured
}

fn feed_and_ask(
    site: &Site,
    feeder: &Peer,
    count: usize,
    rows: &mut Rows,
    daemon: &host::Daemon,
) -> Result<()> {
    let namespace = site
        .run
        .namespace(NODES.first().context("there is a node")?.name);
    let gobgp = |arguments: &[&str]| host::run_in(&namespace, "gobgp", arguments);
    let mut session = feeder.accept(Duration::from_secs(60))?;
    for update in updates(count)? {
        session.write(&update)?;
    }
    let all = format!("Path: {count}");
    host::wait_until("GoBGP has every route", Duration::from_secs(60), || {
        Ok(gobgp(&["global", "rib", "summary"])?.contains(&all))
    })?;
    let table = Table::lay(&site.run)?;
    processors::at_rest()?;
    for address in ADDRESSES {
        let (address, asn) = (address.to_string(), plan::ROUTER_ASN.to_string());
        gobgp(&["neighbor", "add", &address, "as", &asn])?;
    }
    host::wait_until(
        "every router has every route",
        Duration::from_secs(180),
        || Ok(table.fewest() >= count),
    )?;
    routes::told("GoBGP: ", &table.heard(), count, rows, false)?;
    processors::at_rest()?;
    rows.add(
        &format!("GoBGP: resident memory with {count} routes and 4 routers"),
        resident(daemon)?,
        "MB",
        None,
    );
    Ok(())
}

/// UPDATEs that announce as many host routes as there are Services, of the same addresses.
fn updates(count: usize) -> Result<Vec<Vec<u8>>> {
    let first = u32::from(Ipv4Addr::new(10, 10, 128, 0));
    let next_hop: Ipv4Addr = CLIENT_L2.v4.parse()?;
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    attributes.extend(FEEDER_ASN.to_be_bytes());
    attributes.extend([0x40, 3, 4]);
    attributes.extend(next_hop.octets());
    let addresses: Vec<Ipv4Addr> = (first..).take(count).map(Ipv4Addr::from).collect();
    addresses
        .chunks(AT_ONCE)
        .map(|addresses| {
            let mut body = vec![0, 0];
            body.extend(u16::try_from(attributes.len())?.to_be_bytes());
            body.extend(&attributes);
            for address in addresses {
                body.push(32);
                body.extend(address.octets());
            }
            message(UPDATE, &body)
        })
        .collect()
}
