//! Which kinds of routes a session carries: address families (RFC 4760).

use ipnet::IpNet;
use std::fmt;

/// An address family that FerroLB advertises, always unicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

/// Address family numbers of IPv4 and IPv6 (IANA address-family-numbers).
pub(crate) const AFI_IPV4: u16 = 1;
/// See [`AFI_IPV4`].
pub(crate) const AFI_IPV6: u16 = 2;
/// Subsequent address family number of unicast forwarding.
pub(crate) const SAFI_UNICAST: u8 = 1;

impl Family {
    /// Both families, in the order in which they are advertised.
    pub const ALL: [Family; 2] = [Family::Ipv4Unicast, Family::Ipv6Unicast];

    /// The family that a prefix belongs to.
    pub fn of(prefix: &IpNet) -> Family {
        match prefix {
            IpNet::V4(_) => Family::Ipv4Unicast,
            IpNet::V6(_) => Family::Ipv6Unicast,
        }
    }

    /// The address family number on the wire.
    pub fn afi(self) -> u16 {
        match self {
            Family::Ipv4Unicast => AFI_IPV4,
            Family::Ipv6Unicast => AFI_IPV6,
        }
    }

    /// The subsequent address family number on the wire.
    pub fn safi(self) -> u8 {
        SAFI_UNICAST
    }

    /// The family with these numbers, if it is one that we carry.
    pub fn from_numbers(afi: u16, safi: u8) -> Option<Family> {
        Family::ALL
            .into_iter()
            .find(|family| family.afi() == afi && family.safi() == safi)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4Unicast => "ipv4-unicast",
            Family::Ipv6Unicast => "ipv6-unicast",
        })
    }
}

/// A set of families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Families {
    /// Whether IPv4 unicast is in the set.
    pub ipv4: bool,
    /// Whether IPv6 unicast is in the set.
    pub ipv6: bool,
}

impl Families {
    /// Both families.
    pub const BOTH: Families = Families {
        ipv4: true,
        ipv6: true,
    };

    /// Whether the family is in the set.
    pub fn contains(self, family: Family) -> bool {
        match family {
            Family::Ipv4Unicast => self.ipv4,
            Family::Ipv6Unicast => self.ipv6,
        }
    }

    /// The families that are in both sets.
    pub fn intersection(self, other: Families) -> Families {
        Families {
            ipv4: self.ipv4 && other.ipv4,
            ipv6: self.ipv6 && other.ipv6,
        }
    }

    /// The set and this family.
    #[must_use]
    pub fn with(self, family: Family) -> Families {
        self.iter().chain([family]).collect()
    }

    /// The set but for this family.
    #[must_use]
    pub fn without(self, family: Family) -> Families {
        self.iter().filter(|other| *other != family).collect()
    }

    /// Whether no family is in the set.
    pub fn is_empty(self) -> bool {
        !self.ipv4 && !self.ipv6
    }

    /// The families of the set, in the order of [`Family::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL
            .into_iter()
            .filter(move |family| self.contains(*family))
    }
}

impl FromIterator<Family> for Families {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Families {
        let mut set = Families::default();
        for family in families {
            match family {
                Family::Ipv4Unicast => set.ipv4 = true,
                Family::Ipv6Unicast => set.ipv6 = true,
            }
        }
        set
    }
}
