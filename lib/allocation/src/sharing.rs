//! May these Services hold one address together (reference 3.6)?

use ferrolb_api::ObjectKey;

use crate::service::{Port, Service};

/// Who has one address.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Use {
    sharing_key: Box<str>,
    backend_key: Box<str>,
    /// Services that shall have it.
    holders: Vec<Holder>,
    /// Services whose status may still record it although they shall not have it any more.
    lingering: Vec<ObjectKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    key: ObjectKey,
    created: i64,
    ports: Box<[Port]>,
}

/// Why a Service may not have an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// Others have it, and it or they share with nobody.
    InUse(Vec<ObjectKey>),
    /// Others share it, with another key.
    Key(Vec<ObjectKey>),
    /// Others share it with the same key, and another traffic policy or selector.
    Backends(Vec<ObjectKey>),
    /// One that shares it has this port.
    Port(Port, ObjectKey),
    /// Others are about to lose it, and their statuses still say otherwise.
    Leaving(Vec<ObjectKey>),
}

impl Use {
    /// Whether `service` may have the address beside (or as) the present holders.
    ///
    /// `recorded` says that its status names the address already: then those that are leaving do not stand in its way.
    pub(crate) fn admits(&self, service: &Service, recorded: bool) -> Result<(), Blocked> {
        let others = || {
            self.holders
                .iter()
                .filter(|holder| holder.key != service.key)
        };
        if others().next().is_some() {
            let keys = || others().map(|holder| holder.key.clone()).collect();
            if self.sharing_key.is_empty() || service.sharing_key.is_empty() {
                return Err(Blocked::InUse(keys()));
            }
            if *service.sharing_key != *self.sharing_key {
                return Err(Blocked::Key(keys()));
            }
            if *service.backend_key != *self.backend_key {
                return Err(Blocked::Backends(keys()));
            }
            for other in others() {
                if let Some(port) = other
                    .ports
                    .iter()
                    .find(|port| service.ports.contains(*port))
                {
                    return Err(Blocked::Port(*port, other.key.clone()));
                }
            }
        }
        let leaving = || self.lingering.iter().filter(|key| **key != service.key);
        if !recorded && leaving().next().is_some() {
            return Err(Blocked::Leaving(leaving().cloned().collect()));
        }
        Ok(())
    }

    /// The holders that keep `service` out.
    pub(crate) fn against(&self, service: &Service) -> Vec<(i64, ObjectKey)> {
        let keys = self.sharing_key.is_empty()
            || *service.sharing_key != *self.sharing_key
            || *service.backend_key != *self.backend_key;
        self.holders
            .iter()
            .filter(|other| other.key != service.key)
            .filter(|other| keys || other.ports.iter().any(|port| service.ports.contains(port)))
            .map(|other| (other.created, other.key.clone()))
            .collect()
    }

    /// Makes `service` a holder, or renews what it says of itself. The caller has asked [`Use::admits`]. True if
    /// anything changed.
    pub(crate) fn hold(&mut self, service: &Service) -> bool {
        let before = self.lingering.len();
        self.lingering.retain(|key| *key != service.key);
        let mut changed = self.lingering.len() != before;
        let holder = Holder {
            key: service.key.clone(),
            created: service.created,
            ports: service.ports.iter().copied().collect(),
        };
        match self
            .holders
            .iter_mut()
            .find(|known| known.key == holder.key)
        {
            Some(known) if *known == holder => {}
            Some(known) => {
                *known = holder;
                changed = true;
            }
            None => {
                let at = self.holders.partition_point(|known| known.key < holder.key);
                self.holders.insert(at, holder);
                changed = true;
            }
        }
        if *self.sharing_key != *service.sharing_key || *self.backend_key != *service.backend_key {
            self.sharing_key = service.sharing_key.as_str().into();
            self.backend_key = service.backend_key.as_str().into();
            changed = true;
        }
        changed
    }

    /// The Service shall not have it any more, but its status may still say so. True if that is new.
    pub(crate) fn linger(&mut self, key: &ObjectKey) -> bool {
        let held = self.end(key);
        let new = !self.lingering.contains(key);
        if new {
            self.lingering.push(key.clone());
        }
        held || new
    }

    /// The Service has nothing to do with it any more. True if it had.
    pub(crate) fn leave(&mut self, key: &ObjectKey) -> bool {
        let before = self.lingering.len();
        self.lingering.retain(|lingering| lingering != key);
        let lingered = self.lingering.len() != before;
        self.end(key) || lingered
    }

    fn end(&mut self, key: &ObjectKey) -> bool {
        let before = self.holders.len();
        self.holders.retain(|holder| holder.key != *key);
        if self.holders.is_empty() {
            self.sharing_key = Box::default();
            self.backend_key = Box::default();
        }
        self.holders.len() != before
    }

    /// Whether nobody has it.
    pub(crate) fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.lingering.is_empty()
    }

    /// Whether a Service holds it.
    pub(crate) fn is_held_by(&self, key: &ObjectKey) -> bool {
        self.holders.iter().any(|holder| holder.key == *key)
    }

    /// Whether a Service of this namespace holds it.
    pub(crate) fn is_held_in(&self, namespace: &str) -> bool {
        self.holders
            .iter()
            .any(|holder| holder.key.namespace() == namespace)
    }

    /// Whether another Service of this one's namespace holds it.
    pub(crate) fn is_held_beside(&self, key: &ObjectKey) -> bool {
        self.holders
            .iter()
            .any(|holder| holder.key.namespace() == key.namespace() && holder.key != *key)
    }

    /// The key under which its holders share it; empty if they do not.
    pub(crate) fn sharing_key(&self) -> &str {
        &self.sharing_key
    }
}
