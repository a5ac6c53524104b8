//! Routes by the thousand: how soon four routers have all those of a speaker that starts and what that takes, whether changes
//! that concern others touch a session, and what GoBGP's daemon takes for the same routes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::rows::{Rows, at_most};
use super::subject::{Options, Subjects};
use super::table::{ADDRESSES, Heard, Table};
use super::unrelated::Unrelated;
use super::{MANY, gobgp, load, processors, watch};
use crate::cluster::{SYSTEM, Site};
use crate::{host, plan};

/// How long all routers may take to have every route.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn measure(site: &Site, options: &Options, rows: &mut Rows) -> Result<()> {
    let count = options.services;
    let mut subjects = Subjects::new(site, options)?;
    let statuses = watch::Statuses::start(site)?;
    only_by_bgp(site)?;
    subjects.start_controller()?;
    println!("making {count} Services");
    load::bring_to(site, MANY, 0, count)?;
    statuses.wait_for_all(MANY, count, Duration::from_secs(600))?;
    processors::at_rest()?;
    let table = Table::lay(&site.run)?;
    println!(
        "starting a speaker that announces them to {} routers",
        ADDRESSES.len()
    );
    let began = Instant::now();
    subjects.start_speaker(0)?;
    host::wait_until("every router has every route", PATIENCE, || {
        Ok(table.fewest() >= count)
    })?;
    let heard = table.heard();
    told("", &heard, count, rows, true)?;
    rows.add(
        &format!("start of the speaker to {count} routes at each of 4 routers"),
        latest(&heard, |_| Some(began))?.as_secs_f64() * 1e3,
        "ms",
        None,
    );
    processors::at_rest()?;
    rows.add(
        &format!("resident memory of a speaker with {count} routes and 4 BGP peers"),
        subjects.resident_speaker(0)?,
        "MB",
        at_most(30.0),
    );
    unrelated(site, &table, options.changes, rows)?;
    drop(table);
    subjects.stop_controller()?;
    subjects.stop_speakers()?;
    gobgp::measure(site, count, rows)?;
    load::delete_all(site)
}

/// Takes the L2Advertisement away and makes a BGPPeer for each router.
fn only_by_bgp(site: &Site) -> Result<()> {
    let kinds = format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}");
    site.delete(&format!("{kinds}/l2advertisements/bench"))?;
    for (number, address) in ADDRESSES.iter().enumerate().skip(1) {
        let peer = json!({
            "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer",
            "metadata": {"name": format!("bench-{number}"), "namespace": SYSTEM},
            "spec": {"myASN": plan::SPEAKER_ASN, "peerASN": plan::ROUTER_ASN, "peerAddress": address},
        });
        site.apply(&peer.to_string())?;
    }
    Ok(())
}

/// The time of the router that had all last, from where `since` begins.
fn latest(heard: &[Heard], since: impl Fn(&Heard) -> Option<Instant>) -> Result<Duration> {
    let times = heard
        .iter()
        .map(|heard| Some(heard.last?.saturating_duration_since(since(heard)?)));
    let times: Option<Vec<_>> = times.collect();
    times
        .and_then(|times| times.into_iter().max())
        .context("a router has heard nothing")
}

/// The rows that both implementations have.
pub fn told(whose: &str, heard: &[Heard], count: usize, rows: &mut Rows, ours: bool) -> Result<()> {
    let bound = |bound| if ours { at_most(bound) } else { None };
    rows.add(
        &format!("{whose}Established to the last of {count} routes, the slowest of 4 routers"),
        latest(heard, |heard| heard.established)?.as_secs_f64() * 1e3,
        "ms",
        bound(1000.0),
    );
    let number = |count: usize| u32::try_from(count).map_or(f64::NAN, f64::from);
    let most = |of: fn(&Heard) -> usize| heard.iter().map(of).max().unwrap_or_default();
    rows.add(
        &format!("{whose}UPDATEs for {count} routes to one router"),
        number(most(|heard| heard.updates)),
        "",
        None,
    );
    rows.add(
        &format!("{whose}octets for {count} routes to one router"),
        number(most(|heard| heard.octets)),
        "",
        None,
    );
    Ok(())
}

/// Changes everything around the routes that are there, at random, and counts what that did to them.
fn unrelated(site: &Site, table: &Table, count: usize, rows: &mut Rows) -> Result<()> {
    println!("making {count} changes that concern others");
    let before = table.heard();
    let mut changes = Unrelated::new(site, rand::random());
    let began = Instant::now();
    for _ in 0..count {
        changes.next()?;
    }
    let took = began.elapsed();
    changes.clean_up()?;
    processors::at_rest()?;
    let after = table.heard();
    println!("  {}", changes.summary());
    let (mut resets, mut lost) = (0, 0);
    for (before, after) in before.iter().zip(&after) {
        resets += after.sessions - before.sessions;
        lost += after.lost - before.lost;
        ensure!(
            after.updates > before.updates,
            "the changes reached no router: they prove nothing"
        );
    }
    rows.add(
        &format!("session resets over {count} unrelated changes, 4 routers"),
        resets.into(),
        "",
        at_most(0.0),
    );
    rows.add(
        &format!("routes lost over {count} unrelated changes, 4 routers"),
        u32::try_from(lost).map_or(f64::NAN, f64::from),
        "",
        at_most(0.0),
    );
    rows.add(
        &format!("{count} unrelated changes"),
        took.as_secs_f64(),
        "s",
        None,
    );
    Ok(())
}
