//! With whom BGP is spoken: BGPPeer (reference 1.4, 2.3).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ferrolb_api::annotations::{GRACEFUL_SHUTDOWN, PASSIVE, TTL_SECURITY};
use ferrolb_api::v1beta2::{BGPPeer, DynamicASN};
use ferrolb_api::{duration, given};
use kube::ResourceExt;

use crate::addresses::{Family, parse_address};
use crate::fields;
use crate::pools::parse_selectors;
use crate::refusal::{Refusal, tell};
use crate::selector::Selector;
use crate::timers::{self, Timers};

pub(crate) const KIND: &str = "BGPPeer";
/// Where annotations stand in an object.
const ANNOTATIONS: &str = "metadata.annotations";

/// A BGPPeer whose rules have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The name of the object, by which advertisements choose it.
    pub name: String,
    /// The local AS number.
    pub my_asn: u32,
    /// What the peer's AS number must be.
    pub peer_asn: PeerAsn,
    /// Another local AS number to present to this peer.
    pub local_asn: Option<u32>,
    /// Where it is.
    pub target: PeerTarget,
    /// The local address to speak from.
    pub source_address: Option<IpAddr>,
    /// The TCP port.
    pub port: u16,
    /// The hold time to propose; absent leaves it to the speaker.
    pub hold_time: Option<Duration>,
    /// The keepalive interval; absent is a third of the hold time.
    pub keepalive_time: Option<Duration>,
    /// How long to wait before connecting again.
    pub connect_time: Option<Duration>,
    /// The BGP identifier.
    pub router_id: Option<Ipv4Addr>,
    /// The nodes that speak with it, OR-ed; empty is all.
    pub nodes: Vec<Selector>,
    /// The TCP-MD5 key.
    pub password: Password,
    /// The BFDProfile to use.
    pub bfd_profile: Option<String>,
    /// RFC 4724.
    pub graceful_restart: bool,
    /// Whether an eBGP peer may be more than one hop away.
    pub ebgp_multihop: bool,
    /// The VRF to speak in.
    pub vrf: Option<String>,
    /// Whether both address families go over the one session.
    pub dual_stack: bool,
    /// Whether the peer alone opens connections (`ferrolb.io/passive`).
    pub passive: bool,
    /// Over how many hops the peer's packets may come, 1 to 254 (`ferrolb.io/ttl-security`); `None` is any number.
    pub ttl_security: Option<u8>,
    /// How long a speaker that is stopped lets the peer look for other ways (`ferrolb.io/graceful-shutdown`), up to 10 min.
    pub graceful_shutdown: Option<Duration>,
}

/// What the peer's AS number must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAsn {
    /// This one.
    Exactly(u32),
    /// The local one (iBGP).
    Internal,
    /// Any but the local one (eBGP).
    External,
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerTarget {
    /// At this address.
    Address(IpAddr),
    /// At the other end of this interface, by its link-local address.
    Interface(String),
}

/// Where the TCP-MD5 key comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// There is none.
    None,
    /// It stands in the object.
    Plain(String),
    /// It stands in the Secret of this name in our namespace, of type basic-auth, under `password`.
    Secret(String),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Password::None => f.write_str("None"),
            Password::Plain(_) => f.write_str("Plain(<retracted>)"),
            Password::Secret(name) => write!(f, "Secret({name:?})"),
        }
    }
}

impl Peer {
    /// What the peer asks for that speakers of this version do not do, as a sentence.
    #[must_use]
    pub fn not_carried_out(&self) -> Option<String> {
        self.bfd_profile
            .is_some()
            .then(|| "This version of FerroLB does not carry out spec.bfdProfile yet.".to_owned())
    }
}

/// Reads a peer by itself. What it names (a Secret, a BFDProfile) may come later (reference 2.2).
pub(crate) fn parse(object: &BGPPeer) -> Result<Peer, Vec<Refusal>> {
    let name = object.name_any();
    let spec = &object.spec;
    let mut refusals = Vec::new();
    let mut refuse = |field: &str, reason: String| {
        let field = match field.strip_prefix(ANNOTATIONS) {
            Some(_) => field.to_owned(),
            None => format!("spec.{field}"),
        };
        tell(&mut refusals, Refusal::new(KIND, &name, field, reason));
    };
    let my_asn = u32::try_from(spec.my_asn).unwrap_or_default();
    if spec.my_asn == 0 {
        refuse(
            "myASN",
            "missing local ASN; set it to the AS number of the nodes, 1 to 4294967295".to_owned(),
        );
    }
    let given_asn = spec.peer_asn.filter(|asn| *asn != 0);
    let peer_asn = match (given_asn, spec.dynamic_asn) {
        (Some(asn), None) => PeerAsn::Exactly(u32::try_from(asn).unwrap_or_default()),
        (None, Some(DynamicASN::Internal)) => PeerAsn::Internal,
        (None, Some(DynamicASN::External)) => PeerAsn::External,
        (None, None) => {
            refuse(
                "peerASN",
                "missing peer ASN and dynamicASN; set one of the two".to_owned(),
            );
            PeerAsn::External
        }
        (Some(_), Some(_)) => {
            refuse(
                "dynamicASN",
                "both peer ASN and dynamicASN specified; remove one of the two".to_owned(),
            );
            PeerAsn::External
        }
    };
    let ebgp_multihop = spec.ebgp_multi_hop.unwrap_or_default();
    if ebgp_multihop && (peer_asn == PeerAsn::Exactly(my_asn) || peer_asn == PeerAsn::Internal) {
        refuse(
            "ebgpMultiHop",
            "invalid ebgp-multihop parameter set for an ibgp peer; remove it".to_owned(),
        );
    }
    let ttl_security = match annotation(object, TTL_SECURITY).map(parse_hops) {
        None => None,
        Some(Ok(_)) if ebgp_multihop => {
            refuse(
                &in_annotations(TTL_SECURITY),
                "says over how many hops the router may be, and so does spec.ebgpMultiHop; remove one of the two".to_owned(),
            );
            None
        }
        Some(Ok(hops)) => Some(hops),
        Some(Err(reason)) => {
            refuse(&in_annotations(TTL_SECURITY), reason);
            None
        }
    };
    let passive = match annotation(object, PASSIVE) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            refuse(
                &in_annotations(PASSIVE),
                format!(
                    "{other:?} is neither true nor false; write one of them, or remove the annotation for false"
                ),
            );
            false
        }
    };
    let graceful_shutdown = match annotation(object, GRACEFUL_SHUTDOWN).map(parse_leaving) {
        None => None,
        Some(Ok(time)) => (!time.is_zero()).then_some(time),
        Some(Err(reason)) => {
            refuse(&in_annotations(GRACEFUL_SHUTDOWN), reason);
            None
        }
    };
    let mut address = |field: &str, text: &Option<String>, wrong: &str, remedy: &str| {
        let text = given(text)?;
        let address = parse_address(text);
        if address.is_none() {
            refuse(field, format!("{wrong} {text:?}; write {remedy}"));
        }
        address
    };
    let peer_address = address(
        "peerAddress",
        &spec.peer_address,
        "invalid BGPPeer address",
        "an IPv4 or IPv6 address",
    );
    let source_address = address(
        "sourceAddress",
        &spec.source_address,
        "invalid source IP",
        "an address of the nodes",
    );
    if let (Some(peer), Some(source)) = (peer_address, source_address)
        && Family::of(peer) != Family::of(source)
    {
        refuse(
            "sourceAddress",
            format!(
                "invalid source IP {:?}: it is not of the family of peerAddress {:?}; write an address of the nodes of that family",
                source.to_string(),
                peer.to_string()
            ),
        );
    }
    let target = match (given(&spec.peer_address), given(&spec.interface)) {
        (Some(_), None) => peer_address.map(PeerTarget::Address),
        (None, Some(interface)) => Some(PeerTarget::Interface(interface.to_owned())),
        (None, None) => {
            refuse(
                "peerAddress",
                "peer has no Address or Interface specified; set peerAddress".to_owned(),
            );
            None
        }
        (Some(_), Some(_)) => {
            refuse(
                "interface",
                "peer has both Address and Interface specified; remove one of the two".to_owned(),
            );
            None
        }
    };
    if passive {
        for (field, value) in [("interface", &spec.interface), ("vrf", &spec.vrf)] {
            if given(value).is_some() {
                refuse(
                    &in_annotations(PASSIVE),
                    format!(
                        "no router can connect to the nodes over spec.{field}; remove one of the two"
                    ),
                );
            }
        }
    }
    // RFC 4271 section 4.2: a BGP identifier is written as an IPv4 address, and RFC 6286 says not zero.
    let router_id = given(&spec.router_id).and_then(|text| {
        let id = text
            .parse::<Ipv4Addr>()
            .ok()
            .filter(|id| !id.is_unspecified());
        if id.is_none() {
            refuse(
                "routerID",
                format!(
                    "invalid router ID {text:?}; write it as an IPv4 address other than 0.0.0.0"
                ),
            );
        }
        id
    });
    let Timers {
        hold_time,
        keepalive_time,
        connect_time,
    } = timers::read(spec, &mut refuse);
    let secret = spec
        .password_secret
        .as_ref()
        .and_then(|secret| secret.name.clone())
        .filter(|name| !name.is_empty());
    let password = match (given(&spec.password), secret) {
        (Some(_), Some(_)) => {
            let namespace = object.namespace().unwrap_or_default();
            refuse(
                "password",
                format!(
                    "can not have both password and secret ref set in peer config {namespace:?}/{name:?}; remove password"
                ),
            );
            Password::None
        }
        (Some(password), None) => Password::Plain(password.to_owned()),
        (None, Some(secret)) => Password::Secret(secret),
        (None, None) => Password::None,
    };
    let nodes = parse_selectors(&spec.node_selectors, "nodeSelectors", |index, reason| {
        refuse(&format!("nodeSelectors[{index}]"), reason);
    });
    refusals.extend(fields::check(KIND, &name, spec, &refusals));
    let (Some(target), true) = (target, refusals.is_empty()) else {
        return Err(refusals);
    };
    Ok(Peer {
        name,
        my_asn,
        peer_asn,
        local_asn: spec.local_asn.and_then(|asn| u32::try_from(asn).ok()),
        target,
        source_address,
        port: u16::try_from(spec.peer_port).unwrap_or(179),
        hold_time,
        keepalive_time,
        connect_time,
        router_id,
        nodes,
        password,
        bfd_profile: given(&spec.bfd_profile).map(ToOwned::to_owned),
        graceful_restart: spec.enable_graceful_restart.unwrap_or_default(),
        ebgp_multihop,
        vrf: given(&spec.vrf).map(ToOwned::to_owned),
        dual_stack: spec.dual_stack_address_family,
        passive,
        ttl_security,
        graceful_shutdown,
    })
}

fn annotation<'a>(object: &'a BGPPeer, key: &str) -> Option<&'a str> {
    object.annotations().get(key).map(String::as_str)
}

fn in_annotations(key: &str) -> String {
    format!("{ANNOTATIONS}[{key}]")
}

/// Reads a number of hops.
fn parse_hops(text: &str) -> Result<u8, String> {
    let hops = text.parse().ok().filter(|hops| (1..=254).contains(hops));
    hops.ok_or_else(|| {
        format!(
            "{text:?} is no number of hops; write a whole number from 1, for a router on the same link, to 254, or remove the annotation"
        )
    })
}

/// Reads how long leaving may take.
fn parse_leaving(text: &str) -> Result<Duration, String> {
    const AT_MOST: Duration = Duration::from_secs(600);
    const REMEDY: &str = "write a duration from 0s to 10m such as 5s, or remove the annotation";
    match duration::parse(text) {
        Ok(time) if time <= AT_MOST => Ok(time),
        Ok(_) => Err(format!("{text:?} is longer than 10m; {REMEDY}")),
        Err(error) => Err(format!("{error}; {REMEDY}")),
    }
}
