//! What is to be said of a Service, or of a Namespace, that carries our annotations?

use ferrolb_api::annotations::MAX_ADDRESSES;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::ResourceExt;

use crate::kept_back::parse_max_addresses;
use crate::known::Known;
use crate::refusal::Refusal;
use crate::requests::{Request, Requested};
use crate::verdict::Verdict;
use crate::warnings;

impl Known {
    /// Judges a Service of type LoadBalancer and of this `class`, which is whose addresses we give. Of any other nothing is said.
    ///
    /// Refused is what no Service could ever have. Pools and addresses that do not exist may come later.
    #[must_use]
    pub fn service(&self, object: &Service, class: Option<&str>) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(spec) = &object.spec else {
            return verdict;
        };
        if spec.type_.as_deref() != Some("LoadBalancer")
            || spec.load_balancer_class.as_deref() != class
        {
            return verdict;
        }
        let request = Request::of(object);
        if let Some(why) = request.impossible() {
            let field = &request.addresses_field;
            let refusal = Refusal::new("Service", &object.name_any(), field, why);
            return Verdict::of(vec![refusal]);
        }
        warnings::annotations("Service", object.annotations(), &mut verdict);
        warnings::services::warn_of_keys(object.annotations(), &mut verdict);
        if self.something {
            self.warn_of_request(&request, &mut verdict);
            warnings::services::warn_of_obstacle(object, &request, self, &mut verdict);
        }
        verdict.sorted()
    }

    fn warn_of_request(&self, request: &Request<'_>, verdict: &mut Verdict) {
        let pools = &self.configuration().pools;
        if let Some((pool, field)) = &request.pool
            && !pools.contains_key(*pool)
        {
            verdict.warn(
                field,
                format!("no IPAddressPool in force is called {pool:?}; until one is, the Service gets no address"),
            );
        }
        let Requested::Addresses(addresses) = &request.addresses else {
            return;
        };
        for address in addresses {
            if self.taken.overlapping((*address).into(), None).is_none() {
                verdict.warn(
                    &request.addresses_field,
                    format!("{address} is in no IPAddressPool in force; until it is, the Service gets no address"),
                );
            }
        }
    }

    /// Judges a Namespace.
    #[must_use]
    pub fn namespace(&self, object: &Namespace) -> Verdict {
        let mut verdict = Verdict::default();
        let limit = object.annotations().get(MAX_ADDRESSES);
        if let Some(why) = limit.and_then(|text| parse_max_addresses(text).err()) {
            let field = format!("metadata.annotations[{MAX_ADDRESSES}]");
            let refusal = Refusal::new("Namespace", &object.name_any(), field, why);
            return Verdict::of(vec![refusal]);
        }
        warnings::annotations("Namespace", object.annotations(), &mut verdict);
        verdict.sorted()
    }
}
