//! The objects that people wrote, held together for as long as somebody is judged beside them.

use std::sync::Arc;

use ferrolb_api::v1beta1::{
    BFDProfile, BGPAdvertisement, Community, IPAddressPool, L2Advertisement,
};
use ferrolb_api::v1beta2::BGPPeer;

use crate::configuration::Objects;

/// All objects of our own namespace. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct AllObjects {
    /// Every IPAddressPool.
    pub pools: Vec<Arc<IPAddressPool>>,
    /// Every L2Advertisement.
    pub l2_advertisements: Vec<Arc<L2Advertisement>>,
    /// Every BGPAdvertisement.
    pub bgp_advertisements: Vec<Arc<BGPAdvertisement>>,
    /// Every BGPPeer.
    pub peers: Vec<Arc<BGPPeer>>,
    /// Every BFDProfile.
    pub bfd_profiles: Vec<Arc<BFDProfile>>,
    /// Every Community.
    pub communities: Vec<Arc<Community>>,
}

impl AllObjects {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pools.len()
            + self.l2_advertisements.len()
            + self.bgp_advertisements.len()
            + self.peers.len()
            + self.bfd_profiles.len()
            + self.communities.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at all of them.
    pub fn with<R>(&self, look: impl FnOnce(&Objects<'_>) -> R) -> R {
        fn all<K>(objects: &[Arc<K>]) -> Vec<&K> {
            objects.iter().map(Arc::as_ref).collect()
        }
        look(&Objects {
            pools: &all(&self.pools),
            l2_advertisements: &all(&self.l2_advertisements),
            bgp_advertisements: &all(&self.bgp_advertisements),
            peers: &all(&self.peers),
            bfd_profiles: &all(&self.bfd_profiles),
            communities: &all(&self.communities),
        })
    }
}
