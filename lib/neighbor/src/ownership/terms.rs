//! In which words does [`Ownership`](super::Ownership) hear and speak?

use std::net::IpAddr;
use std::time::Duration;

use pnet::util::MacAddr;

/// What to do about an address that another station claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnConflict {
    /// Announce it all the same, tell, and defend it.
    #[default]
    Warn,
    /// Leave it to the other station, and tell.
    Withhold,
}

/// On which terms an address is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How often it is announced again unasked; `None`: not.
    pub refresh: Option<Duration>,
    /// What happens if another station claims it.
    pub on_conflict: OnConflict,
}

/// Who held an address before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nobody that we know of.
    Nobody,
    /// A node of the cluster: another one, or this one in an earlier life.
    TheCluster,
}

/// How we stand to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is answered for.
    Held,
    /// It is not, but what others say of it matters.
    Watched,
}

/// What is to be done or known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send one gratuitous round.
    Announce(IpAddr),
    /// Ask whether another station has the address, and call [`Ownership::asked`](super::Ownership::asked) once that has left.
    Probe(IpAddr),
    /// The standing of the address is another now, or gone.
    Standing(IpAddr),
    /// Another station has the address. Told once until [`Effect::Resolved`], and once more when it is withheld.
    Conflict {
        /// The address.
        ip: IpAddr,
        /// The station.
        mac: MacAddr,
        /// Whether we do not announce it for this.
        withheld: bool,
    },
    /// Nothing has been heard of the other station for a while.
    Resolved(IpAddr),
}

/// Who claims an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// A node of our cluster.
    Node,
    /// Somebody else.
    Stranger,
}
