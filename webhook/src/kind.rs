//! Which kinds are judged, and where the API server sends them.

/// A kind with a path of its own (reference 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `/validate-metallb-io-v1beta1-ipaddresspool`
    IPAddressPool,
    /// `/validate-metallb-io-v1beta1-l2advertisement`
    L2Advertisement,
    /// `/validate-metallb-io-v1beta1-bgpadvertisement`
    BGPAdvertisement,
    /// `/validate-metallb-io-v1beta2-bgppeer`
    BGPPeer,
    /// `/validate-metallb-io-v1beta1-bfdprofile`
    BFDProfile,
    /// `/validate-metallb-io-v1beta1-community`
    Community,
    /// `/validate-service`
    Service,
    /// `/validate-namespace`
    Namespace,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::IPAddressPool,
        Self::L2Advertisement,
        Self::BGPAdvertisement,
        Self::BGPPeer,
        Self::BFDProfile,
        Self::Community,
        Self::Service,
        Self::Namespace,
    ];

    /// The kind's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IPAddressPool => "IPAddressPool",
            Self::L2Advertisement => "L2Advertisement",
            Self::BGPAdvertisement => "BGPAdvertisement",
            Self::BGPPeer => "BGPPeer",
            Self::BFDProfile => "BFDProfile",
            Self::Community => "Community",
            Self::Service => "Service",
            Self::Namespace => "Namespace",
        }
    }

    /// Whether it is a kind of Kubernetes' own, of which only our annotations concern us.
    #[must_use]
    pub fn is_foreign(self) -> bool {
        matches!(self, Self::Service | Self::Namespace)
    }

    /// The path that the API server calls.
    #[must_use]
    pub fn path(self) -> String {
        let name = self.name().to_lowercase();
        match self {
            Self::Service | Self::Namespace => format!("/validate-{name}"),
            Self::BGPPeer => format!("/validate-metallb-io-v1beta2-{name}"),
            _ => format!("/validate-metallb-io-v1beta1-{name}"),
        }
    }
}
