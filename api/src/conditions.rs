//! Condition types and reasons that FerroLB writes.
//!
//! A reason is a CamelCase word that tools may match on; the message beside it says what to do.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The rules passed: the object takes part in decisions.
pub const ACCEPTED: &str = "Accepted";
/// Everything that the object names exists.
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// The object is in force on the nodes that it concerns.
pub const PROGRAMMED: &str = "Programmed";

/// Of a pool: some family that it has, has no address left to give.
pub const EXHAUSTED: &str = "Exhausted";
/// Of a pool: another pool has addresses in common with it.
pub const OVERLAPPING: &str = "Overlapping";
/// Of an L2Advertisement that names interfaces: each name and pattern is one of an interface that is there. Absent where it
/// names none.
pub const INTERFACES_FOUND: &str = "InterfacesFound";
/// Of a speaker's ConfigurationState, beside MetalLB's: some interface of the node can be announced on. The message names them
/// (see [`usable_interfaces`](crate::usable_interfaces)).
pub const INTERFACES: &str = "ferrolb.io/Interfaces";
/// On a Service, `False`: it does not have all the addresses that it asks for. Absent where it has.
pub const ADDRESSES_ALLOCATED: &str = "ferrolb.io/AddressesAllocated";
/// On a Service, `True`: it lost an address that the status of an older Service named too.
pub const ADDRESS_CONFLICT: &str = "ferrolb.io/AddressConflict";

/// On a ServiceL2Status, `True`: another host on the segment has an address of the Service. Absent where none has.
pub const ADDRESS_IN_USE: &str = "AddressConflict";

/// Values of a condition's `status`.
pub mod status {
    /// The condition holds.
    pub const TRUE: &str = "True";
    /// The condition does not hold.
    pub const FALSE: &str = "False";
    /// Nobody can tell yet.
    pub const UNKNOWN: &str = "Unknown";
}

/// Values of a condition's `reason`.
pub mod reason {
    /// With `Accepted=True`: nothing is wrong with the object.
    pub const ACCEPTED: &str = "Accepted";
    /// With `Accepted=False`: a field of the object cannot be understood or is out of range.
    pub const INVALID: &str = "Invalid";
    /// With `Accepted=False`: the object contradicts another one, such as a pool that overlaps a pool.
    pub const CONFLICTED: &str = "Conflicted";
    /// With `Accepted=False`: the stored object cannot be read as its kind.
    pub const UNREADABLE: &str = "Unreadable";
    /// With `ResolvedRefs=True`: everything that the object names exists.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// With `ResolvedRefs=False`: something that the object names does not exist.
    pub const REF_NOT_FOUND: &str = "RefNotFound";
    /// With `ResolvedRefs=False`: what the object names exists and is of no use, such as a Secret without a password.
    pub const REF_NOT_USABLE: &str = "RefNotUsable";
    /// With `Programmed=True`: in force on every node that it concerns.
    pub const PROGRAMMED: &str = "Programmed";
    /// With `ferrolb.io/AddressConflict=True`: the address went to the Service that was created first.
    pub const OLDER_SERVICE_KEEPS_ADDRESS: &str = "OlderServiceKeepsAddress";
    /// With `AddressConflict=True`: the address is announced all the same.
    pub const ANNOUNCED_NEVERTHELESS: &str = "AnnouncedNevertheless";
    /// With `AddressConflict=True`: the address is not announced until the other host is gone.
    pub const WITHHELD: &str = "Withheld";
    /// With `Programmed=False` on a BGPPeer: no node that is selected has an established session.
    pub const NOT_ESTABLISHED: &str = "NotEstablished";
    /// With `Programmed=False` on a BGPPeer: some nodes that are selected have an established session and some have not.
    pub const PARTLY_ESTABLISHED: &str = "PartlyEstablished";
    /// With `Programmed=False` on a BGPPeer: no node has the labels that it asks for.
    pub const NO_NODE_SELECTED: &str = "NoNodeSelected";
    /// With `Exhausted=True`: a family of the pool has no address left.
    pub const NO_ADDRESS_LEFT: &str = "NoAddressLeft";
    /// With `Exhausted=False`: every family of the pool has addresses left.
    pub const ADDRESSES_AVAILABLE: &str = "AddressesAvailable";
    /// With `Exhausted=False` and `Programmed=False`: the object is not in force and gives nothing.
    pub const NOT_IN_FORCE: &str = "NotInForce";
    /// With `Overlapping=True`: the message names the entries and the other pools.
    pub const OVERLAPS: &str = "Overlaps";
    /// With `InterfacesFound=True`: each name and pattern is one of an interface that is there.
    pub const INTERFACES_FOUND: &str = "InterfacesFound";
    /// With `InterfacesFound=False`: the message says what is not found, where, and what is there.
    pub const INTERFACE_NOT_FOUND: &str = "InterfaceNotFound";
    /// With `InterfacesFound=Unknown` and `Programmed=Unknown`: no speaker of a node that is selected has said anything of it.
    pub const NOT_REPORTED: &str = "NotReported";
    /// With `ferrolb.io/Interfaces=True`: addresses can be announced on the interfaces that the message names.
    pub const USABLE: &str = "Usable";
    /// With `ferrolb.io/Interfaces=False`: the node has no interface that addresses can be announced on.
    pub const NONE_USABLE: &str = "NoneUsable";
    /// With `Overlapping=False`: no other pool has addresses in common with this one.
    pub const NO_OVERLAP: &str = "NoOverlap";
}

/// MetalLB's conditions on [`ConfigurationState`](crate::v1beta1::ConfigurationState) (reference section 1.10).
pub mod configuration_state {
    /// Type of the condition that the allocating side reports.
    pub const POOL_RECONCILER_VALID: &str = "poolReconcilerValid";
    /// Type of the condition that a speaker reports.
    pub const CONFIG_RECONCILER_VALID: &str = "configReconcilerValid";
    /// Reason: the configuration was understood and is in use.
    pub const RECONCILED: &str = "Reconciled";
    /// Reason: the configuration is wrong and the last good one stays in use.
    pub const CONFIGURATION_ERROR: &str = "ConfigurationError";
    /// Reason: something else than the configuration went wrong.
    pub const UNKNOWN_ERROR: &str = "UnknownError";
}

/// The condition of a type in a list, if it is there.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}
