//! Which questions are answered, and how, frame by frame (reference 4.4).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::handles::{LIMIT, Metrics, announced, announcer, created, ip, settles_on};
use super::scenario;
use super::watched::mac_of;
use crate::capture::Capture;
use crate::cluster::{Site, service_path};
use crate::frames::{self, Arp, Mac, Message, Ndp, NdpKind, SOLICITED};
use crate::host;
use crate::plan::{ASKER, CLIENT_L2, ROUTER};
use crate::scenarios::Scenario;
use crate::{neighbors, objects, prober, segment};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "unicast-solicitations",
        "neighbour unreachability probes, with the source link-layer option and without, are answered to the one who asked",
        unicast,
    ),
    scenario(
        "duplicate-address-detection",
        "a solicitation from the unspecified address is left alone",
        duplicate_detection,
    ),
    scenario(
        "arp-probe",
        "a probe with the sender 0.0.0.0 is answered: the address is in use",
        arp_probe,
    ),
    scenario(
        "arp-answer",
        "an ARP request is answered to the one who asked, with the NIC's MAC, also one that came by unicast",
        arp_answer,
    ),
    scenario(
        "tagged-frames",
        "a request in a VLAN is not answered, and is counted",
        tagged,
    ),
    scenario(
        "not-for-us",
        "replies, and requests for addresses that are not announced or for another station, are ignored",
        not_for_us,
    ),
    scenario(
        "icmp-echo",
        "a ping of the address sees what kube-proxy makes of it, the same as without FerroLB",
        icmp,
    ),
];

/// How long a new announcement is told, after which what is heard has another cause (reference 4.4).
const BURST: Duration = Duration::from_secs(5);

/// The capture goes on until this long after its beginning.
pub fn listen_until(began: SystemTime, time: Duration) -> Result<()> {
    host::wait_until("enough was heard", time * 2, || {
        Ok(began.elapsed().unwrap_or_default() > time)
    })
}

/// A Service of IPv6, with its address and the node that announces it.
fn of_ipv6(site: &Site, name: &str) -> Result<(Ipv6Addr, &'static str)> {
    let mut service = objects::service(name, "layer2");
    service["spec"]["ipFamilies"] = json!(["IPv6"]);
    let address = created(site, &service, 1)?.remove(0);
    let node = announcer(site, &address)?;
    Ok((address.parse()?, node))
}

fn asker() -> Result<(Mac, Ipv4Addr, Ipv6Addr)> {
    let mac = frames::mac(ASKER.mac)?;
    Ok((mac, ASKER.v4.parse()?, ASKER.v6.parse()?))
}

/// Sends one question and returns the answers of the next half second.
fn ask(site: &Site, question: Vec<u8>, address: IpAddr) -> Result<Vec<Message>> {
    let capture = Capture::of_neighbours(&site.run)?;
    let began = SystemTime::now();
    neighbors::send_frames(&site.run, vec![question])?;
    listen_until(began, Duration::from_millis(500))?;
    let heard = capture.finish()?;
    Ok(heard
        .iter()
        .map(|h| h.message)
        .filter(|message| message.answers_for(address))
        .collect())
}

fn unicast(site: &Site) -> Result<String> {
    let (address, node) = of_ipv6(site, "unicast-solicitations")?;
    let (mac, node_mac) = (asker()?.0, mac_of(node)?);
    let mut question = Ndp::solicitation(mac, asker()?.2, address);
    question.to = node_mac;
    question.destination = address;
    let mut notes = Vec::new();
    for link_layer in [Some(mac), None] {
        question.link_layer = link_layer;
        let answers = ask(site, question.bytes(), address.into())?;
        let [Message::Ndp(answer)] = answers[..] else {
            bail!("{answers:?} for a unicast solicitation with the option {link_layer:?}")
        };
        ensure!(
            answer.to == mac && answer.from == node_mac && answer.destination == question.source,
            "{answer:?} does not go to the one who asked"
        );
        ensure!(
            answer.kind == NdpKind::Advertisement { flags: SOLICITED },
            "{answer:?} has other flags"
        );
        // RFC 4861 section 7.2.4 lets an answer to a unicast question leave it out.
        let told = answer.link_layer.is_none_or(|told| told == node_mac);
        ensure!(told, "{answer:?} tells another link-layer address");
        notes.push(if link_layer.is_some() {
            "with"
        } else {
            "without"
        });
    }
    Ok(format!(
        "{address} on {node}, {} the option",
        notes.join(" and ")
    ))
}

fn duplicate_detection(site: &Site) -> Result<String> {
    let (address, node) = of_ipv6(site, "duplicate-detection")?;
    let mut question = Ndp::solicitation(asker()?.0, Ipv6Addr::UNSPECIFIED, address);
    question.link_layer = None;
    let capture = Capture::of_neighbours(&site.run)?;
    listen_until(SystemTime::now(), BURST)?; // its own burst is no answer to the question
    let began = SystemTime::now();
    neighbors::send_frames(&site.run, vec![question.bytes()])?;
    listen_until(began, Duration::from_secs(1))?;
    let heard = capture.finish()?;
    let mac = mac_of(node)?;
    let said = heard.iter().find(|h| {
        let speaks = h.message.answers_for(address.into()) || h.message.claims(address.into());
        h.at > began && h.message.from() == mac && speaks
    });
    ensure!(said.is_none(), "{said:?}");
    settles_on(site, &address.to_string(), node)?;
    Ok(format!("{address} on {node} said nothing"))
}

fn arp_probe(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "arp-probe")?;
    let target: Ipv4Addr = address.parse()?;
    let mac = asker()?.0;
    let probe = Arp::request(mac, Ipv4Addr::UNSPECIFIED, target);
    let answers = ask(site, probe.bytes(), target.into())?;
    let node_mac = mac_of(node)?;
    let expected = Message::Arp(Arp {
        to: mac,
        from: node_mac,
        operation: frames::REPLY,
        sender: (node_mac, target),
        target: (mac, Ipv4Addr::UNSPECIFIED),
    });
    ensure!(answers == [expected], "{answers:?} instead of {expected:?}");
    Ok(format!("{node} says that it has {address}"))
}

fn arp_answer(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "arp-answer")?;
    let target: Ipv4Addr = address.parse()?;
    let (mac, own, _) = asker()?;
    let node_mac = mac_of(node)?;
    let expected = Message::Arp(Arp {
        to: mac,
        from: node_mac,
        operation: frames::REPLY,
        sender: (node_mac, target),
        target: (mac, own),
    });
    let broadcast = Arp::request(mac, own, target);
    let unicast = Arp {
        to: node_mac,
        ..broadcast
    };
    for question in [broadcast, unicast] {
        let answers = ask(site, question.bytes(), target.into())?;
        ensure!(answers == [expected], "{answers:?} instead of {expected:?}");
    }
    Ok(format!("{address} is at {}", frames::text(node_mac)))
}

fn tagged(site: &Site) -> Result<String> {
    const TAG: [u8; 4] = [0x81, 0x00, 0x00, 0x0a]; // VLAN 10
    let addresses = created(site, &objects::dual_stack("tagged", "layer2"), 2)?;
    let node = announcer(site, &addresses[0])?;
    let dropped = || -> Result<f64> {
        let reason = ["reason=\"vlan_tagged\""];
        Ok(Metrics::of(site, node)?.sum("ferrolb_layer2_dropped_total", &reason))
    };
    let before = dropped()?;
    for address in &addresses {
        let mut question = segment::question(ip(address)?)?;
        question.splice(12..12, TAG);
        let answers = ask(site, question, ip(address)?)?;
        ensure!(answers.is_empty(), "{answers:?}");
    }
    // A tagged frame that concerns no address of ours is none of our affair, so that two are enough.
    let mut counted = 0.0;
    let all = site.wait_for("the tagged requests are counted", LIMIT / 4, || {
        counted = dropped()? - before;
        Ok(counted >= 2.0)
    });
    all.with_context(|| format!("{counted} of 2 are"))?;
    settles_on(site, &addresses[0], node)?;
    Ok(format!("2 sent to {node}, {counted} counted"))
}

fn not_for_us(site: &Site) -> Result<String> {
    let addresses = created(site, &objects::dual_stack("not-for-us", "layer2"), 2)?;
    let node = announcer(site, &addresses[0])?;
    let (mac, own, own_v6) = asker()?;
    let node_mac = mac_of(node)?;
    let (v4, v6): (Ipv4Addr, Ipv6Addr) = match (ip(&addresses[0])?, ip(&addresses[1])?) {
        (IpAddr::V4(v4), IpAddr::V6(v6)) | (IpAddr::V6(v6), IpAddr::V4(v4)) => (v4, v6),
        other => bail!("{other:?} is not one of each family"),
    };
    // Of the same pool, and given to nobody.
    let (free_v4, free_v6): (Ipv4Addr, Ipv6Addr) =
        ("10.10.1.201".parse()?, "fd00:10:0:0:1::c9".parse()?);
    let another_station = [0x02, 0xfe, 0, 0, 0, 0xee];
    let request = Arp::request(mac, own, v4);
    let mut reply = request;
    reply.operation = frames::REPLY;
    reply.to = node_mac;
    let solicitation = Ndp::solicitation(mac, own_v6, v6);
    let silent = [
        ("a reply", reply.bytes(), v4.into()),
        (
            "a request for an address that is not announced",
            Arp::request(mac, own, free_v4).bytes(),
            free_v4.into(),
        ),
        (
            "a request to another station",
            Arp {
                to: another_station,
                ..request
            }
            .bytes(),
            v4.into(),
        ),
        (
            "a solicitation for an address that is not announced",
            Ndp::solicitation(mac, own_v6, free_v6).bytes(),
            free_v6.into(),
        ),
        (
            "a solicitation to another station",
            Ndp {
                to: another_station,
                ..solicitation
            }
            .bytes(),
            v6.into(),
        ),
    ];
    let count = silent.len();
    for (what, frame, address) in silent {
        let answers = ask(site, frame, address)?;
        ensure!(answers.is_empty(), "{what} got {answers:?}");
    }
    for (frame, address) in [
        (request.bytes(), v4.into()),
        (solicitation.bytes(), v6.into()),
    ] {
        let answers = ask(site, frame, address)?;
        ensure!(answers.len() == 1, "a right question got {answers:?}");
    }
    Ok(format!("{count} kinds ignored, 2 right ones answered"))
}

/// The kinds of ICMP messages that come back to the client that pings an address, by their types.
fn ping(site: &Site, address: &str) -> Result<BTreeSet<u8>> {
    const ECHO_REQUEST: [u8; 8] = [8, 0, 0, 0, 0x4c, 0x42, 0, 1];
    const TIMES: usize = 3;
    let capture = Capture::start(&site.run, CLIENT_L2.name, "eth0", "icmp")?;
    let target: Ipv4Addr = address.parse()?;
    let mut message = ECHO_REQUEST;
    // The one's complement of the sum of the words (RFC 792).
    let sum: u16 = message
        .chunks(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .sum();
    message[2..4].copy_from_slice(&(!sum).to_be_bytes());
    prober::run_in(&site.run, CLIENT_L2.name, move || {
        let protocol = socket2::Protocol::ICMPV4;
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(protocol))?;
        for _ in 0..TIMES {
            socket.send_to(&message, &std::net::SocketAddr::from((target, 0)).into())?;
        }
        Ok(())
    })?;
    // A node that asks in vain where to forward it gives up after three seconds.
    listen_until(SystemTime::now(), Duration::from_secs(5))?;
    let own = frames::mac(CLIENT_L2.mac)?;
    let frames = capture.frames()?;
    let to_client = frames.iter().filter(|f| f.bytes.get(..6) == Some(&own[..]));
    // The IPv4 header has no options here.
    Ok(to_client.filter_map(|f| f.bytes.get(34).copied()).collect())
}

/// The types in words.
fn told(types: &BTreeSet<u8>) -> String {
    let name = |kind: &u8| match kind {
        0 => "echo reply".to_owned(),
        3 => "destination unreachable".to_owned(),
        5 => "redirect".to_owned(),
        11 => "time exceeded".to_owned(),
        other => format!("type {other}"),
    };
    let names: Vec<_> = types.iter().map(name).collect();
    if names.is_empty() {
        "silence".to_owned()
    } else {
        names.join(", ")
    }
}

fn icmp(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "icmp")?;
    let ours = ping(site, &address)?;
    // The same with another's Service, whose address FerroLB leaves alone: who asks has been told by hand where it is.
    let other = "10.10.1.223";
    let mut service = objects::service("icmp-of-another", "layer2");
    service["spec"]["loadBalancerClass"] = json!("example.com/another");
    site.create("/api/v1/namespaces/default/services", &service)?;
    site.patch(
        &format!("{}/status", service_path("icmp-of-another")),
        &json!({"status": {"loadBalancer": {"ingress": [{"ip": other}]}}}),
    )?;
    let lladdr = frames::text(mac_of(node)?);
    let neighbour = |machine: &str, verb: &str| {
        let line = format!("neighbor {verb} {other} dev eth0 lladdr {lladdr} nud permanent\n");
        crate::network::batch(&site.run.namespace(machine), &line)
    };
    let machines = [CLIENT_L2.name, ROUTER.name];
    for machine in machines {
        neighbour(machine, "replace")?;
    }
    let theirs = super::handles::served_steadily(site, other).and_then(|()| ping(site, other));
    for machine in machines {
        neighbour(machine, "delete")?;
    }
    let (ours, theirs) = (told(&ours), told(&theirs?));
    ensure!(ours == theirs, "{ours} with FerroLB, {theirs} without");
    Ok(format!("{ours}, with FerroLB and without"))
}
