//! Routers that end, die, hang and are cut off, and come back: who notices, who says so, and that all routes return.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::handles;
use super::scenario;
use super::table::{FAR, INTERNAL, Laying, PLAIN, SIGNED, Style, Table, Want, in_styles};
use crate::cluster::Site;
use crate::network::{self, OneWayCut, Way};
use crate::plan::NODES;
use crate::routers::{Router, Setup};
use crate::scenarios::Scenario;
use crate::scenarios::l2::handles::Metrics;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "router-restarted",
        "a router is stopped and started again: that its sessions ended is told with the reason, and all routes come back",
        |site| in_styles(site, &[PLAIN], restarted),
    ),
    scenario(
        "router-killed",
        "a router is killed -9 and started again: all routes come back, those of others stay",
        |site| in_styles(site, &[SIGNED], killed),
    ),
    scenario(
        "router-frozen",
        "a router stands still: the speaker's hold timer expires, which is told, and all routes come back when it goes on",
        |site| in_styles(site, &[INTERNAL], frozen),
    ),
    scenario(
        "router-hears-nothing",
        "what nodes send to a router is lost: its hold timer expires, and all routes come back",
        |site| in_styles(site, &[PLAIN], deaf),
    ),
    scenario(
        "router-unplugged",
        "a router's cable is pulled for longer than the hold time and put back: all its routes come back, others keep theirs",
        |site| in_styles(site, &[PLAIN], unplugged),
    ),
    scenario(
        "connect-time",
        "a router that was away is called again within connectTime, however long it was away",
        |site| in_styles(site, &[PLAIN], connect_time),
    ),
    scenario(
        "timers",
        "hold time and keepalive time: the lesser proposal is in use at the routers, and nobody's timer expires in peace",
        |site| in_styles(site, &[FAR], timers),
    ),
];

/// Seconds: the shortest hold time that there is (RFC 4271 section 4.2).
const HOLD: u16 = 3;

fn with_routes<'a>(site: &'a Site, laying: &Laying) -> Result<(Table<'a>, Vec<String>)> {
    let table = Table::lay_with(site, laying)?;
    handles::advertised_pool(site, "failing", &json!({}))?;
    let addresses = handles::dual_service(site, "failing", "failing")?;
    table.hear_all(&addresses, &Want::all())?;
    Ok((table, addresses))
}

/// Waits until a router has no session.
fn all_down(site: &Site, router: &Router) -> Result<()> {
    site.wait_for(
        &format!("{} has no session", router.name()),
        Duration::from_secs(30),
        || Ok(router.established()? == 0),
    )
}

fn restarted(site: &Site, style: Style) -> Result<String> {
    let (mut table, addresses) = with_routes(site, &Laying::of(style))?;
    let mut notes = Vec::new();
    for index in 0..table.routers.len() {
        let since = handles::now()?;
        let others = lives_of_others(&table, index)?;
        let router = &mut table.routers[index];
        router.stop()?;
        let said = handles::speakers_say(
            site,
            &since,
            &[&router.implementation.word(), "was_established"],
        )?;
        router.start_again()?;
        let again = Instant::now();
        table.all_up(&table.routers[index])?;
        table.hear_all(&addresses, &Want::all())?;
        ensure!(
            others == lives_of_others(&table, index)?,
            "a session of another router went down meanwhile"
        );
        let reason = said.split("reason").nth(1).unwrap_or_default();
        notes.push(format!(
            "{} (back {:.1} s after its start; told{})",
            table.routers[index].name(),
            again.elapsed().as_secs_f64(),
            reason.chars().take(80).collect::<String>()
        ));
    }
    Ok(notes.join(", "))
}

/// What tells the sessions of all routers but this one from later ones.
fn lives_of_others(table: &Table<'_>, but: usize) -> Result<Vec<String>> {
    let mut lives = Vec::new();
    let others = table.routers.iter().enumerate();
    for (_, router) in others.filter(|(index, _)| *index != but) {
        for session in router.sessions()? {
            ensure!(session.established, "{} lost a session", router.name());
            lives.push(format!(
                "{} {} {}",
                router.name(),
                session.peer,
                session.life
            ));
        }
    }
    lives.sort();
    Ok(lives)
}

fn killed(site: &Site, style: Style) -> Result<String> {
    let (mut table, addresses) = with_routes(site, &Laying::of(style))?;
    let mut notes = Vec::new();
    for index in 0..table.routers.len() {
        let others = lives_of_others(&table, index)?;
        let router = &mut table.routers[index];
        router.kill()?;
        router.start_again()?;
        let again = Instant::now();
        table.all_up(&table.routers[index])?;
        table.hear_all(&addresses, &Want::all())?;
        ensure!(
            others == lives_of_others(&table, index)?,
            "a session of another router went down meanwhile"
        );
        notes.push(format!(
            "{} after {:.1} s",
            table.routers[index].name(),
            again.elapsed().as_secs_f64()
        ));
    }
    Ok(format!("back: {}", notes.join(", ")))
}

fn frozen(site: &Site, style: Style) -> Result<String> {
    let mut laying = Laying::of(style);
    laying.peer = json!({"holdTime": format!("{HOLD}s"), "keepaliveTime": "1s"});
    let (table, addresses) = with_routes(site, &laying)?;
    let since = handles::now()?;
    for router in &table.routers {
        router.freeze();
    }
    let frozen = Instant::now();
    let told: Result<()> = table.routers.iter().try_for_each(|router| {
        let name = router.implementation.word();
        handles::speakers_say(
            site,
            &since,
            &[&format!("{name}-v4"), "silent for the hold time"],
        )?;
        handles::speakers_say(
            site,
            &since,
            &[&format!("{name}-v6"), "silent for the hold time"],
        )
        .map(drop)
    });
    let noticed = frozen.elapsed();
    for router in &table.routers {
        router.thaw();
    }
    told?;
    table.established()?;
    table.hear_all(&addresses, &Want::all())?;
    Ok(format!(
        "noticed within {:.1} s with a hold time of {HOLD} s",
        noticed.as_secs_f64()
    ))
}

fn deaf(site: &Site, style: Style) -> Result<String> {
    if style.far {
        return Ok("is cut on the segment".into());
    }
    let mut laying = Laying::of(style);
    laying.peer = json!({"holdTime": format!("{HOLD}s"), "keepaliveTime": "1s"});
    let (table, addresses) = with_routes(site, &laying)?;
    let mut notes = Vec::new();
    for router in &table.routers {
        let cut = OneWayCut::make(&site.run, &router.seat.place.name, Way::ToMachine)?;
        let began = Instant::now();
        all_down(site, router)?;
        let noticed = began.elapsed().as_secs_f64();
        let mut reasons = Vec::new();
        site.wait_for(
            &format!("{} says that its hold timer expired", router.name()),
            Duration::from_secs(10),
            || {
                let sessions = router.sessions()?.into_iter();
                reasons = sessions.filter_map(|s| s.last_error).collect();
                let hold = |text: &String| text.to_lowercase().contains("hold");
                Ok(reasons.iter().any(hold))
            },
        )
        .with_context(|| format!("it says {reasons:?}"))?;
        drop(cut);
        table.all_up(router)?;
        notes.push(format!("{} after {noticed:.1} s", router.name()));
    }
    table.hear_all(&addresses, &Want::all())?;
    Ok(format!("noticed: {}", notes.join(", ")))
}

fn unplugged(site: &Site, style: Style) -> Result<String> {
    if style.far {
        return Ok("is unplugged on the segment".into());
    }
    let mut laying = Laying::of(style);
    laying.peer = json!({"holdTime": format!("{HOLD}s"), "keepaliveTime": "1s"});
    let (table, addresses) = with_routes(site, &laying)?;
    let mut notes = Vec::new();
    for (index, router) in table.routers.iter().enumerate() {
        let since = handles::now()?;
        let others = lives_of_others(&table, index)?;
        let machine = &router.seat.place.name;
        network::set_link(&site.run, machine, false)?;
        let silent = handles::speakers_say(site, &since, &[machine, "silent for the hold time"])
            .and_then(|_| parted(site, router));
        network::set_link(&site.run, machine, true)?;
        silent?;
        let back = Instant::now();
        table.all_up(router)?;
        table.hear_all(&addresses, &Want::all())?;
        ensure!(
            others == lives_of_others(&table, index)?,
            "a session of another router went down meanwhile"
        );
        notes.push(format!(
            "{} after {:.1} s",
            router.name(),
            back.elapsed().as_secs_f64()
        ));
    }
    Ok(format!("back: {}", notes.join(", ")))
}

/// Waits until neither the router nor any node takes a session between them for established: one that is nearly over would end after
/// the link is back.
fn parted(site: &Site, router: &Router) -> Result<()> {
    let place = &router.seat.place;
    let labels = [
        format!("peer=\"{}:179\"", place.v4),
        format!("peer=\"[{}]:179\"", place.v6),
    ];
    let what = format!("{} and the nodes know that they are parted", router.name());
    site.wait_for(&what, Duration::from_secs(15), || {
        for node in &NODES {
            let metrics = Metrics::of(site, node.name)?;
            let up = |label: &String| metrics.sum("metallb_bgp_session_up", &[label]) > 0.5;
            if labels.iter().any(up) {
                return Ok(false);
            }
        }
        Ok(router.established()? == 0)
    })
}

fn connect_time(site: &Site, style: Style) -> Result<String> {
    /// How long it is away, and within what it must be back, with a second between attempts.
    const AWAY: Duration = Duration::from_secs(8);
    const BACK: Duration = Duration::from_secs(3);
    let mut laying = Laying::of(style);
    laying.peer = json!({"connectTime": "1s"});
    let (mut table, addresses) = with_routes(site, &laying)?;
    for router in &mut table.routers {
        router.kill()?;
    }
    let gone = Instant::now();
    site.wait_for("the routers are away for a while", AWAY * 2, || {
        Ok(gone.elapsed() > AWAY)
    })?;
    let mut notes = Vec::new();
    for index in 0..table.routers.len() {
        table.routers[index].start_again()?;
        let started = Instant::now();
        table.all_up(&table.routers[index])?;
        let took = started.elapsed();
        let name = table.routers[index].name();
        ensure!(took < BACK, "{name} was called after {took:?}");
        notes.push(format!("{name} after {:.1} s", took.as_secs_f64()));
    }
    table.hear_all(&addresses, &Want::all())?;
    Ok(format!("back: {}", notes.join(", ")))
}

fn timers(site: &Site, style: Style) -> Result<String> {
    // Proposed by the BGPPeer, proposed by the router, in use.
    let cases = [(9_u16, 30_u16, 9_u16), (30, 6, 6)];
    for (ours, theirs, used) in cases {
        let mut laying = Laying::of(style);
        laying.peer = json!({"holdTime": format!("{ours}s"), "keepaliveTime": "2s"});
        laying.change = Box::new(move |setup: &mut Setup| {
            for neighbor in &mut setup.neighbors {
                neighbor.timers = Some((theirs, theirs / 3));
            }
        });
        let table = Table::lay_with(site, &laying)?;
        for router in &table.routers {
            for session in router.sessions()? {
                ensure!(
                    session.hold_time == Some(used),
                    "{} uses a hold time of {:?} s, not {used}",
                    router.name(),
                    session.hold_time
                );
            }
        }
        let lives = table.lives()?;
        let began = Instant::now();
        // Longer than the hold time, in which nobody else has a reason to speak.
        site.wait_for("a hold time passes", Duration::from_secs(60), || {
            Ok(began.elapsed() > Duration::from_secs(u64::from(used) + 2))
        })?;
        table.unbroken_since(&lives)?;
    }
    Ok("9 s against 30 s, 30 s against 6 s".into())
}
