//! Why was a frame dropped?

/// Which rule a frame broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum DropReason {
    /// The frame ends before its headers do.
    #[error("the frame ends before its headers do")]
    Truncated,
    /// A VLAN tag inside the frame: it belongs to another interface than the one it was read from.
    #[error("the frame carries a VLAN tag")]
    VlanTagged,
    /// Neither ARP nor a Neighbor Solicitation or Advertisement; the socket filter should have kept it out.
    #[error("the frame is neither ARP nor a neighbor solicitation or advertisement")]
    OtherProtocol,
    /// ARP for something else than IPv4 over Ethernet.
    #[error("the ARP packet is not about IPv4 over Ethernet")]
    ArpAddressKind,
    /// An ARP sender whose hardware address is a group or zero: an answer would reach others than the one who asked.
    #[error("the ARP sender's hardware address is not that of one station")]
    ArpSender,
    /// The IPv6 header's version or length is wrong.
    #[error("the IPv6 header's version or length is wrong")]
    Ipv6Header,
    /// A hop limit below 255: the packet was forwarded from another link.
    #[error("the hop limit is not 255")]
    HopLimit,
    /// A source that cannot have sent it: multicast, or unspecified together with a link-layer address.
    #[error("the source cannot have sent it")]
    Source,
    /// The ICMPv6 checksum is wrong.
    #[error("the ICMPv6 checksum is wrong")]
    Checksum,
    /// An ICMPv6 code other than 0.
    #[error("the ICMPv6 code is not 0")]
    Code,
    /// A solicitation or advertisement of a multicast address.
    #[error("the target is a multicast address")]
    Target,
    /// An advertisement to all that says that it was asked for.
    #[error("an advertisement to a group says that it was asked for")]
    Solicited,
    /// An option of length 0, one longer than the packet, or a link-layer address that is not an Ethernet station's.
    #[error("an option has a wrong length or content")]
    Options,
}

impl DropReason {
    /// Every reason, so that each can be counted from zero.
    pub const ALL: [Self; 13] = [
        Self::Truncated,
        Self::VlanTagged,
        Self::OtherProtocol,
        Self::ArpAddressKind,
        Self::ArpSender,
        Self::Ipv6Header,
        Self::HopLimit,
        Self::Source,
        Self::Checksum,
        Self::Code,
        Self::Target,
        Self::Solicited,
        Self::Options,
    ];

    /// The reason as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::VlanTagged => "vlan_tagged",
            Self::OtherProtocol => "other_protocol",
            Self::ArpAddressKind => "arp_address_kind",
            Self::ArpSender => "arp_sender",
            Self::Ipv6Header => "ipv6_header",
            Self::HopLimit => "hop_limit",
            Self::Source => "source",
            Self::Checksum => "checksum",
            Self::Code => "code",
            Self::Target => "target",
            Self::Solicited => "solicited",
            Self::Options => "options",
        }
    }
}
