//! A table of routers: the four implementations side by side, each with a session with every node over IPv4 and another
//! over IPv6, and what all of them must hear.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::handles::{self, LIMIT};
use crate::cluster::{SYSTEM, Site};
use crate::objects;
use crate::plan::{NODES, SPEAKER_ASN};
use crate::routers::{ALL, BOTH, Distance, Family, Implementation, Route, Router, Setup};
use crate::scenarios::{self, l2::handles::all_nodes};

/// How the sessions are that a row of the matrix is tried with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// iBGP; else eBGP.
    pub internal: bool,
    /// One router is between.
    pub far: bool,
    /// TCP-MD5, with the key in a Secret.
    pub password: bool,
}

/// eBGP on the same link without a password.
pub const PLAIN: Style = Style {
    internal: false,
    far: false,
    password: false,
};
pub const INTERNAL: Style = Style {
    internal: true,
    ..PLAIN
};
pub const FAR: Style = Style { far: true, ..PLAIN };
pub const SIGNED: Style = Style {
    password: true,
    ..PLAIN
};

impl Style {
    fn all() -> Vec<Self> {
        let bits = 0..8_u8;
        bits.map(|bits| Self {
            internal: bits & 1 > 0,
            far: bits & 2 > 0,
            password: bits & 4 > 0,
        })
        .collect()
    }

    pub fn text(self) -> String {
        let mut words = vec![if self.internal { "iBGP" } else { "eBGP" }];
        words.extend(self.far.then_some("two hops"));
        words.extend(self.password.then_some("MD5"));
        words.join(", ")
    }

    fn distance(self) -> Distance {
        if self.far {
            Distance::OneRouterBetween
        } else {
            Distance::SameLink
        }
    }
}

/// Tries a row in these styles; when everything is asked for, in all.
pub fn in_styles(
    site: &Site,
    reduced: &[Style],
    row: fn(&Site, Style) -> Result<String>,
) -> Result<String> {
    if !scenarios::is_full() {
        return these_styles(site, reduced, row);
    }
    these_styles(site, &Style::all(), row)
}

fn these_styles(
    site: &Site,
    styles: &[Style],
    row: fn(&Site, Style) -> Result<String>,
) -> Result<String> {
    let mut notes = Vec::new();
    for (index, style) in styles.iter().enumerate() {
        if index > 0 {
            scenarios::remove_objects(site)?;
        }
        let note = row(site, *style).with_context(|| style.text())?;
        notes.push(format!("{}: {note}", style.text()));
    }
    Ok(notes.join("; "))
}

/// What lies on a table.
pub struct Laying {
    pub style: Style,
    pub who: Vec<&'static dyn Implementation>,
    /// Each session carries both families.
    pub dual: bool,
    /// More fields of every BGPPeer.
    pub peer: Value,
    /// A change of every router's setup.
    pub change: Box<dyn Fn(&mut Setup)>,
}

impl Laying {
    pub fn of(style: Style) -> Self {
        Self {
            style,
            who: ALL.to_vec(),
            dual: false,
            peer: json!({}),
            change: Box::new(|_| {}),
        }
    }
}

/// Routers at work, and BGPPeers for them. All of it goes when this is dropped.
pub struct Table<'a> {
    pub site: &'a Site,
    pub style: Style,
    pub routers: Vec<Router>,
}

/// Router and neighbor, and what tells their session from a later one.
pub type Lives = BTreeMap<(String, IpAddr), String>;

/// The Secret with the password of every session that has one.
pub const SECRET: &str = "lab-bgp";
pub const PASSWORD: &str = "correct-horse-battery";

impl<'a> Table<'a> {
    /// All four routers; returns when every session is established.
    pub fn lay(site: &'a Site, style: Style) -> Result<Self> {
        Self::lay_with(site, &Laying::of(style))
    }

    pub fn lay_with(site: &'a Site, laying: &Laying) -> Result<Self> {
        let table = Self::routers_alone(site, laying)?;
        for router in &table.routers {
            table.peer_with(router, &laying.peer)?;
        }
        table.established()?;
        Ok(table)
    }

    /// The routers without any BGPPeer.
    pub fn routers_alone(site: &'a Site, laying: &Laying) -> Result<Self> {
        let style = laying.style;
        let mut ready = Vec::new();
        for who in &laying.who {
            let nodes_asn = if style.internal {
                who.asn()
            } else {
                SPEAKER_ASN
            };
            let mut setup = Setup::with_all_nodes(who.asn(), nodes_asn)?.each(|neighbor| {
                neighbor.password = style.password.then(|| PASSWORD.to_owned());
                neighbor.hops = if style.far { 3 } else { 1 };
                if laying.dual {
                    neighbor.families = BOTH.into();
                }
            });
            (laying.change)(&mut setup);
            ready.push((*who, who.machine(&site.run, style.distance())?, setup));
        }
        let run = &site.run;
        let started: Result<Vec<Router>> = std::thread::scope(|scope| {
            let threads: Vec<_> = ready
                .into_iter()
                .map(|(who, place, setup)| {
                    scope.spawn(move || Router::start(who, run, place, setup))
                })
                .collect();
            let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined
                .map(|router| router.map_err(|_| anyhow!("a router's thread panicked"))?)
                .collect()
        });
        let table = Self {
            site,
            style,
            routers: started?,
        };
        if style.password {
            handles::secret(site, SECRET, PASSWORD)?;
        }
        Ok(table)
    }

    /// Makes a BGPPeer for each family of a router, with more fields.
    pub fn peer_with(&self, router: &Router, more: &Value) -> Result<()> {
        for family in BOTH {
            self.peer(&peer_name(router, family), router, family, more)?;
        }
        Ok(())
    }

    /// Makes one BGPPeer.
    pub fn peer(&self, name: &str, router: &Router, family: Family, more: &Value) -> Result<()> {
        let mut spec = self.peer_spec(router, family);
        json_patch::merge(&mut spec, more);
        handles::peer(self.site, name, &spec)
    }

    /// What a BGPPeer for this router says.
    pub fn peer_spec(&self, router: &Router, family: Family) -> Value {
        let setup = &router.seat.setup;
        let place = &router.seat.place;
        let address: IpAddr = match family {
            Family::V4 => place.v4.into(),
            Family::V6 => place.v6.into(),
        };
        let own = if self.style.internal {
            setup.asn
        } else {
            SPEAKER_ASN
        };
        let mut spec = json!({"myASN": own, "peerASN": setup.asn, "peerAddress": address});
        if setup.neighbors.iter().all(|n| n.families.len() > 1) {
            spec["dualStackAddressFamily"] = json!(true);
        }
        if self.style.far && !self.style.internal {
            spec["ebgpMultiHop"] = json!(true);
        }
        if self.style.password {
            spec["passwordSecret"] = json!({"name": SECRET});
        }
        spec
    }

    pub fn router(&self, name: &str) -> Result<&Router> {
        let found = self.routers.iter().find(|router| router.name() == name);
        found.with_context(|| format!("{name} is not on the table"))
    }

    /// Waits until every router has a session with each of its neighbors.
    pub fn established(&self) -> Result<()> {
        self.routers.iter().try_for_each(|r| self.all_up(r))
    }

    /// Waits until this router has a session with each of its neighbors.
    pub fn all_up(&self, router: &Router) -> Result<()> {
        let wanted = router.seat.setup.neighbors.len();
        let mut last = Vec::new();
        let waited = self.site.wait_for(
            &format!("{} has {wanted} sessions", router.name()),
            Duration::from_secs(45),
            || {
                last = router.sessions()?;
                Ok(last.iter().filter(|s| s.established).count() == wanted)
            },
        );
        waited.with_context(|| format!("last seen: {last:?}\n{}", router.log_tail()))
    }

    /// Fails unless every session is the one that it was.
    pub fn unbroken_since(&self, before: &Lives) -> Result<()> {
        let now = self.lives()?;
        let others: Vec<_> = now
            .iter()
            .filter(|(of, life)| before.get(*of) != Some(*life))
            .map(|(of, life)| format!("{of:?} was {:?} and is {life}", before.get(of)))
            .collect();
        ensure!(
            others.is_empty() && now.len() == before.len(),
            "sessions went down meanwhile: {others:#?}"
        );
        Ok(())
    }

    /// What tells each session of all routers from a later one between the same two.
    pub fn lives(&self) -> Result<Lives> {
        let mut lives = BTreeMap::new();
        for router in &self.routers {
            for session in router.sessions()? {
                ensure!(
                    session.established,
                    "{} has no session with {}: {:?}",
                    router.name(),
                    session.peer,
                    session.last_error
                );
                lives.insert((router.name().to_owned(), session.peer), session.life);
            }
        }
        Ok(lives)
    }

    /// Waits until every router hears the prefix as it shall.
    pub fn hear(&self, prefix: IpNet, want: &Want<'_>) -> Result<()> {
        self.routers
            .iter()
            .try_for_each(|router| hears(self.site, router, prefix, want))
    }

    /// Waits until no router hears anything of these prefixes.
    pub fn hear_nothing_of(&self, prefixes: &[IpNet]) -> Result<()> {
        let nodes = Want::from(&[]);
        for prefix in prefixes {
            self.hear(*prefix, &nodes)?;
        }
        Ok(())
    }

    /// [`Self::hear`] for the whole addresses of a Service.
    pub fn hear_all(&self, addresses: &[String], want: &Want<'_>) -> Result<()> {
        for address in addresses {
            self.hear(handles::whole(address)?, want)?;
        }
        Ok(())
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        let peers = format!(
            "{}?labelSelector={}",
            handles::peers_path(""),
            objects::LABEL
        );
        // First the peers, so that no speaker goes on calling routers that are gone.
        let gone = self.site.delete(&peers);
        let secret = format!("/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}");
        if let Err(error) = gone.and_then(|()| self.site.delete(&secret)) {
            println!("BGPPeers stay: {error:#}");
        }
    }
}

/// What the BGPPeer of this router and family is called.
pub fn peer_name(router: &Router, family: Family) -> String {
    format!("{}-{}", router.implementation.word(), family.word())
}

/// How a prefix shall be heard.
#[derive(Clone, Debug)]
pub struct Want<'a> {
    /// The nodes that announce it.
    pub nodes: Vec<&'a str>,
    pub communities: &'a [&'a str],
    pub large_communities: &'a [&'a str],
    /// Inside an AS; 100 where nobody says otherwise. To another AS it must not go.
    pub local_pref: u32,
    /// The AS that comes before all others, if it is not the one that the router's neighbor has.
    pub asn: Option<u32>,
    /// Only sessions of this transport carry it.
    pub over: Option<Family>,
}

impl<'a> Want<'a> {
    /// From all nodes without further attributes.
    pub fn all() -> Self {
        Self::from(&all_nodes())
    }

    pub fn from(nodes: &[&'a str]) -> Self {
        Self {
            nodes: nodes.to_vec(),
            communities: &[],
            large_communities: &[],
            local_pref: 100,
            asn: None,
            over: None,
        }
    }

    pub fn communities(communities: &'a [&'a str]) -> Self {
        Self {
            communities,
            ..Self::all()
        }
    }

    /// The routes that a router with this setup hears then, in order.
    fn routes(&self, setup: &Setup, prefix: IpNet) -> Result<Vec<Route>> {
        let texts = |all: &[&str]| -> BTreeSet<String> {
            all.iter().map(|text| (*text).to_owned()).collect()
        };
        let carried = Family::of(prefix.addr());
        let mut routes = Vec::new();
        let neighbors = setup.neighbors.iter();
        for neighbor in neighbors.filter(|n| n.families.contains(&carried)) {
            let node = NODES
                .iter()
                .find(|node| [node.v4, node.v6].contains(&neighbor.address.to_string().as_str()))
                .with_context(|| format!("{} is no node", neighbor.address))?;
            let transport = Family::of(neighbor.address);
            if !self.nodes.contains(&node.name) || self.over.is_some_and(|over| over != transport) {
                continue;
            }
            let internal = neighbor.asn == setup.asn;
            let own_family = transport == carried;
            let next_hop = if own_family || neighbor.extended_next_hop && carried == Family::V4 {
                neighbor.address
            } else {
                carried.address(node)?
            };
            let asn = self.asn.unwrap_or(neighbor.asn);
            routes.push(Route {
                from: neighbor.address,
                next_hop,
                as_path: if internal { Vec::new() } else { vec![asn] },
                local_pref: internal.then_some(self.local_pref),
                communities: texts(self.communities),
                large_communities: texts(self.large_communities),
            });
        }
        routes.sort();
        Ok(routes)
    }
}

/// Waits until a router hears the prefix as it shall, and in no other way.
pub fn hears(site: &Site, router: &Router, prefix: IpNet, want: &Want<'_>) -> Result<()> {
    let setup = &router.seat.setup;
    let wanted = want.routes(setup, prefix)?;
    let mut last = Vec::new();
    let heard = site.wait_for(
        &format!("{} hears {prefix} as it shall", router.name()),
        LIMIT,
        || {
            last = router.routes(prefix)?;
            for route in &mut last {
                let of = setup.neighbors.iter().find(|n| n.address == route.from);
                // BIRD shows its own default for what another AS sends without one.
                if of.is_some_and(|n| n.asn != setup.asn) && route.local_pref == Some(100) {
                    route.local_pref = None;
                }
            }
            Ok(last == wanted)
        },
    );
    heard.with_context(|| format!("wanted {wanted:#?}\nheard {last:#?}"))
}
