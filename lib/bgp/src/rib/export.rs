//! How a session carries routes: what becomes of desired attributes on the way to this peer.

use super::attributes::Attributes;
use crate::family::{Families, Family};
use crate::session::Negotiated;
use crate::wire::{AsPath, Community, Context, NextHop, Origin, PathAttributes, Template};
use ipnet::IpNet;
use std::net::IpAddr;

/// The preference of a route that has none configured.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// The octets that attributes can take at most so that no set of them has to be encoded to know that it fits.
const SURELY_FITS: usize = 3500;

/// Why a desired route is not advertised to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum NotAdvertised {
    /// The peer did not offer the family, or it is not configured.
    #[error("the session does not carry {0}")]
    FamilyNotNegotiated(Family),
    /// Our end has no address of the family.
    #[error("there is no next hop: the interface of the session has no address of {0}")]
    NoNextHop(Family),
    /// The communities fill a whole message.
    #[error("its communities do not fit into a BGP message")]
    AttributesTooLong,
}

/// What routes to this peer have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Our AS.
    pub local_as: u32,
    /// What both sides agreed on for the form of messages.
    pub context: Context,
    /// The families that may be sent.
    pub families: Families,
    /// Where to send the traffic of IPv4 routes.
    pub next_hop_v4: Option<NextHop>,
    /// Where to send the traffic of IPv6 routes.
    pub next_hop_v6: Option<NextHop>,
    /// All routes say that they are about to go away (RFC 8326).
    pub graceful_shutdown: bool,
}

impl Export {
    /// What follows from the session.
    ///
    /// The next hop is our end of the connection where its family fits, because that address surely answers. IPv4 routes
    /// over an IPv6 connection keep that address if the peer takes it (RFC 8950), and else have the IPv4 address of the
    /// interface.
    pub fn new(local_as: u32, negotiated: &Negotiated) -> Export {
        let endpoint = &negotiated.endpoint;
        let ours = match endpoint.local {
            IpAddr::V4(_) => endpoint.next_hop_v6.map(|global| (global, None)),
            // RFC 2545 section 3 wants a global address too, where there is one.
            IpAddr::V6(local) if local.is_unicast_link_local() => match endpoint.next_hop_v6 {
                Some(global) => Some((global, Some(local))),
                None => Some((local, None)),
            },
            IpAddr::V6(local) => Some((local, None)),
        };
        let next_hop_v6 =
            ours.map(|(global, link_local)| NextHop::Multiprotocol { global, link_local });
        let next_hop_v4 = match endpoint.local {
            IpAddr::V4(address) => Some(NextHop::Body(address)),
            IpAddr::V6(_) if negotiated.ipv4_over_ipv6 => next_hop_v6,
            IpAddr::V6(_) => endpoint.next_hop_v4.map(NextHop::Body),
        };
        Export {
            local_as,
            context: negotiated.context(),
            families: negotiated.families,
            next_hop_v4,
            next_hop_v6,
            graceful_shutdown: false,
        }
    }

    /// Whether a route can be advertised on this session.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, prefix: &IpNet, attributes: &Attributes) -> Result<(), NotAdvertised> {
        let family = Family::of(prefix);
        if !self.families.contains(family) {
            return Err(NotAdvertised::FamilyNotNegotiated(family));
        }
        if self.next_hop(family).is_none() {
            return Err(NotAdvertised::NoNextHop(family));
        }
        let octets = attributes.communities.len() * 4 + attributes.large_communities.len() * 12;
        if octets > SURELY_FITS {
            // With room to say later that it is about to go away, which must not be what withdraws it.
            let leaving = Export {
                graceful_shutdown: true,
                ..self.clone()
            };
            leaving.template(family, attributes)?;
        }
        Ok(())
    }

    /// The encoded attributes of routes.
    pub(super) fn template(
        &self,
        family: Family,
        attributes: &Attributes,
    ) -> Result<Template, NotAdvertised> {
        let next_hop = self
            .next_hop(family)
            .ok_or(NotAdvertised::NoNextHop(family))?;
        Template::new(
            family,
            &self.path_attributes(attributes, self.graceful_shutdown),
            next_hop,
            &self.context,
        )
        .map_err(|_| NotAdvertised::AttributesTooLong)
    }

    pub(super) fn next_hop(&self, family: Family) -> Option<NextHop> {
        match family {
            Family::Ipv4Unicast => self.next_hop_v4,
            Family::Ipv6Unicast => self.next_hop_v6,
        }
    }

    /// `leaving`: the route says that it is about to go away.
    pub(super) fn path_attributes(&self, attributes: &Attributes, leaving: bool) -> PathAttributes {
        let internal = self.context.internal;
        // The community says it to whoever knows it. Inside the AS the lowest preference says it to all; it is what RFC 8326
        // has a router make of the community.
        let local_pref = if leaving {
            0
        } else {
            attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)
        };
        let mark = Community::GRACEFUL_SHUTDOWN;
        let mark = (leaving && !attributes.communities.contains(&mark)).then_some(mark);
        PathAttributes {
            origin: Some(Origin::Igp),
            as_path: Some(if internal {
                AsPath::default()
            } else {
                AsPath::of(self.local_as)
            }),
            local_pref: internal.then_some(local_pref),
            communities: attributes.communities.iter().copied().chain(mark).collect(),
            large_communities: attributes.large_communities.iter().copied().collect(),
            ..PathAttributes::default()
        }
    }
}
