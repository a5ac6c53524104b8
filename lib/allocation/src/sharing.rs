//! May these Services hold one address together (reference 3.6)?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;

use crate::service::{Port, Service};

/// Who holds one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holders {
    sharing_key: String,
    backend_key: String,
    /// Never empty: the last holder's leaving removes the entry.
    services: BTreeMap<ObjectKey, BTreeSet<Port>>,
}

impl Holders {
    pub(crate) fn new(service: &Service) -> Self {
        Holders {
            sharing_key: service.sharing_key.clone(),
            backend_key: service.backend_key.clone(),
            services: BTreeMap::from([(service.key.clone(), service.ports.clone())]),
        }
    }

    /// Whether `service` may hold `address` beside (or as) the present holders; the sentence says why not.
    pub(crate) fn admits(&self, address: IpAddr, service: &Service) -> Result<(), String> {
        let others: Vec<_> = self
            .services
            .iter()
            .filter(|(key, _)| **key != service.key)
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let names = || {
            others
                .iter()
                .map(|(key, _)| key.to_string())
                .collect::<Vec<_>>()
                .join(",")
        };
        if self.sharing_key.is_empty()
            || service.sharing_key != self.sharing_key
            || service.backend_key != self.backend_key
        {
            return Err(format!(
                "can't change sharing key for {:?}, address {address} also in use by {}; ask for another address, or give all \
                 of them the same metallb.io/allow-shared-ip and different ports (with externalTrafficPolicy Local also the \
                 same selector)",
                service.key.to_string(),
                names()
            ));
        }
        for (key, ports) in others {
            if let Some(port) = ports.intersection(&service.ports).next() {
                return Err(format!(
                    "port {port} is already in use on {address:?} by {key}"
                ));
            }
        }
        Ok(())
    }

    /// Adds `service`, or renews what it says of itself. The caller has asked [`Holders::admits`].
    pub(crate) fn admit(&mut self, service: &Service) {
        self.services
            .insert(service.key.clone(), service.ports.clone());
        self.sharing_key.clone_from(&service.sharing_key);
        self.backend_key.clone_from(&service.backend_key);
    }

    /// Whether the last holder left.
    pub(crate) fn leave(&mut self, key: &ObjectKey) -> bool {
        self.services.remove(key);
        self.services.is_empty()
    }

    pub(crate) fn sharing_key(&self) -> &str {
        &self.sharing_key
    }
}
