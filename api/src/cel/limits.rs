//! How long may lists and texts be, so that the API server can tell what its rules cost at worst?

/// Entries of `spec.addresses` of an IPAddressPool.
pub(crate) const ADDRESSES: usize = 10_000;
/// Characters of one of them; the longest range that makes sense has 93.
pub(crate) const ADDRESS_LENGTH: usize = 100;
/// Selectors in one list.
pub(crate) const SELECTORS: usize = 10_000;
/// Expressions in one selector.
pub(crate) const EXPRESSIONS: usize = 25;
/// Communities of a BGPAdvertisement, and aliases of a Community object.
pub(crate) const COMMUNITIES: usize = 1_000;
/// Characters of one of them.
pub(crate) const COMMUNITY_LENGTH: usize = 256;
