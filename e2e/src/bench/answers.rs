//! How soon an ARP request is answered on a busy segment.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;

use super::flood::{self, Flood};
use super::processors::{Processors, at_rest};
use super::rows::{Rows, at_most};
use super::subject::{Options, Subjects};
use super::wire::Wire;
use super::{MANY, load, watch};
use crate::capture::{Capture, Heard};
use crate::cluster::Site;
use crate::frames::{self, Arp, Message};
use crate::plan::{ASKER, CLIENT_L2, CONTROL_PLANE, NODES, ROUTER};
use crate::{host, network, prober, raw};

/// Addresses that are announced meanwhile.
const ADDRESSES: usize = 1000;
/// Foreign frames a second.
const FOREIGN: u32 = 100_000;
/// How long answers are measured, and how often one is asked for.
const TIME: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);
/// One question of so many is for the node's own address, which its kernel answers: what the machine itself takes.
const KERNELS: usize = 10;
/// A question that is not answered within this time counts as never answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// Measures with one speaker, which announces everything. The cables of the other nodes, the router and the asker are pulled, and the
/// client and the control plane receive what is addressed to them, so that the processor that is the switch here need not
/// copy each foreign frame to them.
pub fn measure(site: &Site, options: &Options, rows: &mut Rows) -> Result<()> {
    let mut subjects = Subjects::new(site, options)?;
    let statuses = watch::Statuses::start(site)?;
    let wire = Wire::watch(&site.run)?;
    subjects.start_speaker(0)?;
    subjects.start_controller()?;
    println!("announcing {ADDRESSES} addresses from one node");
    load::bring_to(site, MANY, 0, ADDRESSES)?;
    statuses.wait_for_all(MANY, ADDRESSES, Duration::from_secs(120))?;
    wire.wait_quiet()?;
    let addresses: Vec<Ipv4Addr> = (0..ADDRESSES)
        .filter_map(|n| statuses.of(&format!("{MANY}-{n}")))
        .filter_map(|seen| seen.address.parse().ok())
        .collect();
    ensure!(addresses.len() == ADDRESSES, "some have no IPv4 address");
    // It would read every frame.
    drop(wire);
    let elsewhere = NODES.iter().skip(1).chain([&ROUTER, &ASKER]);
    let aside = [&CLIENT_L2, &CONTROL_PLANE];
    for machine in elsewhere.clone() {
        network::set_link(&site.run, machine.name, false)?;
    }
    for machine in aside {
        network::set_flooding(&site.run, machine.name, false)?;
    }
    let busy = on_a_busy_segment(site, &subjects, &addresses, rows);
    for machine in aside {
        network::set_flooding(&site.run, machine.name, true)?;
    }
    for machine in elsewhere {
        network::set_link(&site.run, machine.name, true)?;
    }
    busy?;
    subjects.stop_controller()?;
    subjects.stop_speakers()?;
    load::delete_all(site)
}

fn on_a_busy_segment(
    site: &Site,
    subjects: &Subjects<'_>,
    addresses: &[Ipv4Addr],
    rows: &mut Rows,
) -> Result<()> {
    let node = NODES[0].name;
    at_rest()?;
    let quiet = ask(site, addresses)?;
    println!("  the same with {FOREIGN} foreign frames a second");
    let flood = Flood::start(&site.run, FOREIGN)?;
    std::thread::sleep(Duration::from_secs(1)); // it reaches its rate
    let process = subjects.speaker_process(0)?;
    let (began, sent, busy) = (Instant::now(), flood.sent(), process.processor_time());
    let arrived = flood::received(&site.run, node, "eth0")?;
    let dropped = flood::dropped_by_the_kernel()?;
    let read = subjects.requests_received(0)?;
    let processors = Processors::now()?;
    let loud = ask(site, addresses)?;
    let processors = Processors::now()?.since(&processors);
    let read = subjects.requests_received(0)? - read;
    let seconds = began.elapsed().as_secs_f64();
    let spent = process.processor_time().saturating_sub(busy).as_secs_f64();
    let (sent, now) = (
        flood.sent() - sent,
        flood::received(&site.run, node, "eth0")?,
    );
    let dropped = flood::dropped_by_the_kernel()? - dropped;
    flood.finish()?;
    let per_second = |count: u64| u32::try_from(count).map_or(f64::NAN, f64::from) / seconds;
    let with = format!("{ADDRESSES} addresses");
    for (when, answers, bound) in [
        ("a quiet segment", &quiet, None),
        ("a busy segment", &loud, at_most(1.0)),
    ] {
        for (how, share, bound) in [("p50", 0.5, None), ("p99", 0.99, bound)] {
            let what = format!("ARP request to answer, {with}, {when}, {how}");
            rows.percentile(&what, answers.speakers.iter().copied(), share, bound);
        }
        let what = format!("the same by the kernel, for the node's own address, {when}, p99");
        rows.percentile(&what, answers.kernels.iter().copied(), 0.99, None);
    }
    rows.add(
        "foreign frames sent, a busy segment",
        per_second(sent),
        "1/s",
        None,
    );
    rows.add(
        "frames that reached the node, a busy segment",
        per_second(now.0 - arrived.0),
        "1/s",
        None,
    );
    rows.add(
        "frames that the kernel gave up, a busy segment",
        per_second(dropped),
        "1/s",
        None,
    );
    for (when, answers) in [("a quiet segment", &quiet), ("a busy segment", &loud)] {
        let lost = answers.speakers.iter().filter(|a| a.is_none()).count();
        println!(
            "  {lost} of {} questions on {when} were not answered",
            answers.speakers.len()
        );
        rows.add(
            &format!("ARP requests without an answer, {when}"),
            u32::try_from(lost).map_or(f64::NAN, f64::from),
            "",
            at_most(0.0),
        );
    }
    rows.add(
        "ARP requests that the speaker read, a busy segment",
        read,
        "",
        None,
    );
    rows.add(
        "processor time that this machine's host gave to others, a busy segment",
        processors.percent(processors.stolen),
        "%",
        None,
    );
    rows.add(
        "processor time that was left, a busy segment",
        processors.percent(processors.idle),
        "%",
        None,
    );
    rows.add(
        "processor time of the speaker, a busy segment",
        100.0 * spent / seconds,
        "%",
        None,
    );
    Ok(())
}

/// How long answers took; none where there was none.
struct Answers {
    speakers: Vec<Option<Duration>>,
    kernels: Vec<Option<Duration>>,
}

/// Asks for one of the addresses after the other, and now and then for the node's own. The times are the kernel's at the client's interface, from the question
/// that leaves to the answer that comes in, so that what the client itself waits for the processor does not count.
fn ask(site: &Site, addresses: &[Ipv4Addr]) -> Result<Answers> {
    let client = CLIENT_L2.mac;
    let expression = format!("arp and (ether src {client} or ether dst {client})");
    let capture = Capture::start(&site.run, CLIENT_L2.name, "eth0", &expression)?;
    let (mac, own): (_, Ipv4Addr) = (frames::mac(client)?, CLIENT_L2.v4.parse()?);
    let node: Ipv4Addr = NODES[0].v4.parse()?;
    let mut addresses = addresses.to_vec();
    // Each in turn, so that none is asked for again while an answer may be under way.
    addresses.shuffle(&mut rand::rng());
    let asked_for: HashSet<Ipv4Addr> = addresses.iter().copied().collect();
    prober::run_in(&site.run, CLIENT_L2.name, move || {
        let sender = raw::Sender::open("eth0")?;
        let (began, mut next) = (Instant::now(), Instant::now());
        for (n, address) in addresses.iter().cycle().enumerate() {
            if began.elapsed() >= TIME {
                break;
            }
            let address = if n % KERNELS == 0 { node } else { *address };
            sender.send(&Arp::request(mac, own, address).bytes())?;
            next += PAUSE;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    })?;
    let end = Instant::now() + PATIENCE;
    host::wait_until("the last answers are there", PATIENCE * 2, || {
        Ok(Instant::now() > end)
    })?;
    let heard = capture.finish()?;
    Ok(Answers {
        speakers: pair(&heard, &asked_for),
        kernels: pair(&heard, &HashSet::from([node])),
    })
}

/// Each question with its answer. An address that is asked for again has not been answered for: that would have been
/// long ago.
fn pair(heard: &[Heard], addresses: &HashSet<Ipv4Addr>) -> Vec<Option<Duration>> {
    let mut open: HashMap<Ipv4Addr, SystemTime> = HashMap::new();
    let mut answers = Vec::new();
    for Heard { at, message } in heard {
        let Message::Arp(arp) = message else { continue };
        // Others ask the client where it is, and its own kernel asks for others.
        let is_about_one = addresses.contains(&arp.target.1) || addresses.contains(&arp.sender.1);
        if !is_about_one {
            continue;
        }
        if arp.operation == frames::REQUEST {
            let unanswered = open.insert(arp.target.1, *at).is_some();
            answers.extend(unanswered.then_some(None));
        } else if let Some(asked) = open.remove(&arp.sender.1) {
            answers.push(at.duration_since(asked).ok());
        }
    }
    answers.extend(open.values().map(|_| None));
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_paired_with_its_answer_and_one_without_is_counted() {
        let (client, node) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let own: Ipv4Addr = "10.10.0.100".parse().unwrap();
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let question = |last| Arp::request(client, own, Ipv4Addr::new(10, 10, 1, last));
        let answer = |last| Arp {
            to: client,
            from: node,
            operation: frames::REPLY,
            sender: (node, Ipv4Addr::new(10, 10, 1, last)),
            target: (client, own),
        };
        let addresses = [1, 2, 3].map(|last| Ipv4Addr::new(10, 10, 1, last));
        let others = Arp::request(node, Ipv4Addr::new(10, 10, 0, 11), own);
        let heard = [
            (0, others),
            (0, question(1)),
            (5, question(2)),
            (7, answer(1)),
            (9, question(3)),
            (10, answer(3)),
            (20, others),
            (800, question(2)),
            (801, answer(2)),
        ]
        .map(|(ms, arp)| Heard {
            at: at(ms),
            message: Message::Arp(arp),
        });
        let ms = Duration::from_millis;
        assert_eq!(
            pair(&heard, &addresses.into()),
            [Some(ms(7)), Some(ms(1)), None, Some(ms(1))]
        );
    }
}
