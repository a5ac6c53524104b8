//! All other nodes are lost: the last one cannot know whether it is cut off itself, and announces all the same, also where
//! nothing else is heard.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use serde_json::json;

use super::faults::LOST;
use super::handles::{LIMIT, advertise, announced, ip, others, pool, service};
use super::scenario;
use super::watched::Watched;
use crate::capture::{Capture, NEIGHBOURS};
use crate::cluster::Site;
use crate::plan::{ASKER, NODES};
use crate::scenarios::Scenario;
use crate::segment::SecondSegment;
use crate::{frames, host, neighbors, network};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "last-of-all",
        "the links of two of three nodes are cut at once: the third takes over",
        last_of_all,
    ),
    scenario(
        "last-on-a-quiet-segment",
        "the same on a segment on which the third hears nothing and knows nobody to ask",
        |site| on_a_quiet_segment(site, false),
    ),
    scenario(
        "last-beside-a-neighbour",
        "the same beside a station that says nothing until it is asked",
        |site| on_a_quiet_segment(site, true),
    ),
];

fn last_of_all(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "last-of-all")?;
    let [other, last] = others(node)[..] else {
        anyhow::bail!("there are not three nodes");
    };
    let watched = Watched::start(site, &address)?;
    for lost in [node, other] {
        network::set_link(&site.run, lost, false)?;
    }
    let successor = watched.leaves(site, node, LIMIT)?;
    ensure!(successor == last, "{successor} answers");
    let record = watched.finish()?;
    let unanswered = record.unanswered();
    ensure!(unanswered < LOST, "nobody answered for {unanswered:?}");
    Ok(format!("{last} is left; {}", record.told()))
}

fn on_a_quiet_segment(site: &Site, neighbour: bool) -> Result<String> {
    /// How long the burst of a new announcement and what kernels say of a new link go on, with a round to spare.
    const NOISE: Duration = Duration::from_secs(7);
    /// The other station, of a network that only the last node shares with it.
    const STATION: &str = "10.20.0.1";
    let name = if neighbour {
        "last-beside"
    } else {
        "last-quiet"
    };
    pool(site, name)?;
    let segment = SecondSegment::build(&site.run, &NODES)?;
    advertise(site, name, name, &json!({"interfaces": ["eth1"]}))?;
    let address = service(site, name, name)?;
    let nic = site.wait("one answers on the second segment", LIMIT, || {
        let macs = neighbors::macs_answering(&site.run, "eth1", &address)?;
        let [mac] = macs.as_slice() else {
            return Ok(None);
        };
        let nics = segment.nics.iter();
        Ok(nics.into_iter().find(|nic| frames::text(nic.mac) == *mac))
    })?;
    let [other, last] = others(nic.machine)[..] else {
        anyhow::bail!("there are not three nodes");
    };
    if neighbour {
        let asker = site.run.namespace(ASKER.name);
        let survivor = site.run.namespace(last);
        network::batch(&asker, &format!("address add {STATION}/24 dev eth1\n"))?;
        let mac = frames::text(segment.of(ASKER.name)?.mac);
        network::batch(
            &survivor,
            &format!("neighbour replace {STATION} lladdr {mac} nud reachable dev eth1\n"),
        )?;
    }
    let began = SystemTime::now();
    host::wait_until("the segment is quiet", NOISE * 2, || {
        Ok(began.elapsed().unwrap_or_default() > NOISE)
    })?;
    let capture = Capture::start(&site.run, ASKER.name, "eth1", NEIGHBOURS)?;
    let (address, mac) = (ip(&address)?, segment.of(last)?.mac);
    let cut = SystemTime::now();
    for lost in [nic.machine, other] {
        segment.of(lost)?.set("down")?;
        network::set_link(&site.run, lost, false)?;
    }
    let claim = capture.wait("the last one announces it", LIMIT, |heard| {
        heard.at > cut && heard.message.claims(address) && heard.message.from() == mac
    })?;
    let after = claim.at.duration_since(cut).unwrap_or_default();
    ensure!(after < LOST, "announced only after {after:?}");
    let heard = capture.heard()?;
    let station = ip(STATION)?;
    let asked = heard
        .iter()
        .any(|h| h.at > cut && h.message.from() == mac && h.message.probes(station));
    ensure!(asked == neighbour, "asked a neighbour: {asked}");
    Ok(format!(
        "{last} announced it {} ms after the cut",
        after.as_millis()
    ))
}
