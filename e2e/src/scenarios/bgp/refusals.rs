//! Sessions that cannot be, and what each side says of it: wrong AS, wrong key, too far away, too many prefixes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::handles;
use super::scenario;
use super::table::{
    FAR, INTERNAL, Laying, PASSWORD, PLAIN, SIGNED, Style, Table, Want, in_styles, peer_name,
};
use crate::cluster::Site;
use crate::routers::{BOTH, Router, Setup};
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "wrong-as",
        "a BGPPeer that names another AS than the router has: no session, and both sides say why; mended, it comes up",
        |site| in_styles(site, &[PLAIN], wrong_as),
    ),
    scenario(
        "router-wants-another-as",
        "a router that expects another AS of us: no session, and the speaker tells the router's reason",
        |site| in_styles(site, &[PLAIN, INTERNAL], unwanted_as),
    ),
    scenario(
        "wrong-password",
        "keys that differ, over IPv4 and IPv6, and a key on one side only: no session, told as authentication or reachability",
        |site| in_styles(site, &[SIGNED], wrong_password),
    ),
    scenario(
        "too-far-without-multihop",
        "a router of another AS behind a router: no session without ebgpMultiHop, and one with it",
        |site| in_styles(site, &[FAR], too_far),
    ),
    scenario(
        "too-many-prefixes",
        "a router takes no more than so many prefixes: it ends its sessions, the speaker tells its reason, other routers hear all",
        |site| in_styles(site, &[PLAIN], too_many),
    ),
];

fn change_all(site: &Site, table: &Table<'_>, spec: &Value) -> Result<()> {
    for router in &table.routers {
        for family in BOTH {
            handles::change_peer(site, &peer_name(router, family), spec)?;
        }
    }
    Ok(())
}

/// Waits until the speakers say these words of both BGPPeers of a router, and makes sure that there is no session.
fn no_session(site: &Site, router: &Router, since: &str, words: &[&str]) -> Result<String> {
    let mut said = String::new();
    for family in BOTH {
        let name = peer_name(router, family);
        let all: Vec<&str> = [name.as_str()]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        said = handles::speakers_say(site, since, &all)?;
        handles::told_on_object(site, &name, words)?;
    }
    let up: Vec<_> = router
        .sessions()?
        .into_iter()
        .filter(|s| s.established)
        .collect();
    ensure!(up.is_empty(), "{} has sessions: {up:?}", router.name());
    Ok(said)
}

fn wrong_as(site: &Site, style: Style) -> Result<String> {
    let table = Table::routers_alone(site, &Laying::of(style))?;
    let since = handles::now()?;
    // Whoever is thought to be in another AS is out of reach without it, and a peer inside the AS is refused with it.
    let hops = |internal: bool| (style.far && !internal).then_some(true);
    for router in &table.routers {
        let wrong = json!({"peerASN": 64999, "ebgpMultiHop": hops(false)});
        table.peer_with(router, &wrong)?;
    }
    for router in &table.routers {
        let wanted = format!("is in AS {}, expected AS 64999", router.seat.setup.asn);
        no_session(site, router, &since, &[&wanted])?;
        // GoBGP says nothing of a NOTIFICATION that comes before the session is there.
        if router.name() != "GoBGP" {
            tells(site, router, &["peer as", "2/2", "(2,2)", "bad peer"])?;
        }
    }
    for router in &table.routers {
        for family in BOTH {
            let right =
                json!({"peerASN": router.seat.setup.asn, "ebgpMultiHop": hops(style.internal)});
            handles::change_peer(site, &peer_name(router, family), &right)?;
        }
    }
    table.established()?;
    Ok("told by both sides, and mended".into())
}

/// Waits until a router's last error, or its log, has one of these words, in small letters.
fn tells(site: &Site, router: &Router, words: &[&str]) -> Result<()> {
    let mut last = Vec::new();
    let told = site.wait_for(
        &format!("{} says one of {words:?}", router.name()),
        Duration::from_secs(20),
        || {
            last = router
                .sessions()?
                .into_iter()
                .filter_map(|s| s.last_error)
                .collect();
            let fits = |text: &str| words.iter().any(|word| text.to_lowercase().contains(word));
            Ok(last.iter().any(|text: &String| fits(text)) || fits(&router.log_tail()))
        },
    );
    told.with_context(|| format!("it says {last:?}\n{}", router.log_tail()))
}

fn unwanted_as(site: &Site, style: Style) -> Result<String> {
    let mut laying = Laying::of(style);
    laying.change =
        Box::new(|setup: &mut Setup| setup.neighbors.iter_mut().for_each(|n| n.asn = 64998));
    let table = Table::routers_alone(site, &laying)?;
    let since = handles::now()?;
    for router in &table.routers {
        table.peer_with(router, &json!({}))?;
    }
    for router in &table.routers {
        no_session(
            site,
            router,
            &since,
            &["the peer ended the session", "bad peer AS"],
        )?;
    }
    Ok("the speakers tell the routers' reason".into())
}

fn wrong_password(site: &Site, style: Style) -> Result<String> {
    let style = Style {
        password: true,
        ..style
    };
    let table = Table::routers_alone(site, &Laying::of(style))?;
    let since = handles::now()?;
    let wrong = json!({"passwordSecret": null, "password": "not-the-one", "connectTime": "5s"});
    for router in &table.routers {
        table.peer_with(router, &wrong)?;
    }
    for router in &table.routers {
        no_session(site, router, &since, &["authentication", "or reachability"])?;
    }
    let since = handles::now()?;
    change_all(site, &table, &json!({"password": null}))?;
    for router in &table.routers {
        no_session(site, router, &since, &["expects a password"])?;
    }
    change_all(site, &table, &json!({"password": PASSWORD}))?;
    table.established()?;
    Ok("a wrong key and none, both told; the right one in the BGPPeer itself".into())
}

fn too_far(site: &Site, style: Style) -> Result<String> {
    if style.internal || !style.far {
        return Ok("is about eBGP over two hops".into());
    }
    let table = Table::routers_alone(site, &Laying::of(style))?;
    let since = handles::now()?;
    let short = json!({"ebgpMultiHop": false, "connectTime": "5s"});
    for router in &table.routers {
        table.peer_with(router, &short)?;
    }
    for router in &table.routers {
        no_session(site, router, &since, &["cannot connect"])?;
    }
    change_all(site, &table, &json!({"ebgpMultiHop": true}))?;
    table.established()?;
    handles::advertised_pool(site, "far", &json!({}))?;
    let addresses = handles::dual_service(site, "far", "far")?;
    table.hear_all(&addresses, &Want::all())?;
    Ok("none without, all with ebgpMultiHop".into())
}

fn too_many(site: &Site, style: Style) -> Result<String> {
    const MOST: u32 = 3;
    let mut laying = Laying::of(style);
    // ExaBGP has no such limit, and is the one that hears all.
    laying.change = Box::new(|setup: &mut Setup| {
        if setup.asn != exabgp() {
            setup
                .neighbors
                .iter_mut()
                .for_each(|n| n.most_prefixes = Some(MOST));
        }
    });
    let table = Table::lay_with(site, &laying)?;
    handles::advertised_pool(site, "many", &json!({}))?;
    let mut addresses = Vec::new();
    for number in 0..MOST {
        addresses.extend(handles::dual_service(
            site,
            &format!("many-{number}"),
            "many",
        )?);
    }
    table.hear_all(&addresses, &Want::all())?;
    let unlimited = table.router("ExaBGP")?;
    let lives = unlimited.sessions()?.into_iter().map(|s| (s.peer, s.life));
    let lives: Vec<_> = lives.collect();
    let since = handles::now()?;
    // FRR counts before it takes a prefix, and so takes one more.
    for number in MOST..MOST + 2 {
        addresses.extend(handles::dual_service(
            site,
            &format!("many-{number}"),
            "many",
        )?);
    }
    let limited = table.routers.iter().filter(|r| r.name() != "ExaBGP");
    for router in limited {
        for family in BOTH {
            let name = peer_name(router, family);
            let words = [
                name.as_str(),
                "the peer ended the session",
                "maximum number of prefixes",
            ];
            handles::speakers_say(site, &since, &words)?;
            handles::told_on_object(site, &name, &words[1..])?;
        }
    }
    for address in &addresses {
        super::table::hears(site, unlimited, handles::whole(address)?, &Want::all())?;
    }
    let after = unlimited.sessions()?.into_iter().map(|s| (s.peer, s.life));
    ensure!(
        lives == after.collect::<Vec<_>>(),
        "a session of ExaBGP went down"
    );
    Ok(format!("more than {MOST}"))
}

fn exabgp() -> u32 {
    let who: &dyn crate::routers::Implementation = &crate::routers::ExaBgp;
    who.asn()
}
