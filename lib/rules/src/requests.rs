//! Which addresses and which pool does a Service ask for (reference 3.1)?

use std::net::IpAddr;

use ferrolb_api::annotations::{ADDRESS_POOL, AnnotationKey, LOAD_BALANCER_IPS};
use k8s_openapi::api::core::v1::Service;

use crate::addresses::Family;

/// The addresses that a Service asks for, by annotation or by `spec.loadBalancerIP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requested {
    /// None.
    Nothing,
    /// These, in the order given.
    Addresses(Vec<IpAddr>),
    /// What is asked for cannot be understood; the sentence says why.
    Invalid(String),
}

const ANNOTATION: &str = LOAD_BALANCER_IPS.current;

/// What somebody wrote, cut where it is long.
fn quoted(text: &str) -> String {
    const CHARACTERS_AT_MOST: usize = 100;
    match text.char_indices().nth(CHARACTERS_AT_MOST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

impl Requested {
    /// Reads what the annotation and `spec.loadBalancerIP` say (reference 3.1: both together are an error).
    #[must_use]
    pub fn parse(annotation: Option<&str>, load_balancer_ip: Option<&str>) -> Self {
        let load_balancer_ip = load_balancer_ip.filter(|text| !text.is_empty());
        let annotation = annotation.filter(|text| !text.trim().is_empty());
        let text = match (annotation, load_balancer_ip) {
            (None, None) => return Requested::Nothing,
            (Some(_), Some(_)) => {
                return Requested::Invalid(format!(
                    "{ANNOTATION} and spec.loadBalancerIP are both set; remove spec.loadBalancerIP"
                ));
            }
            (Some(text), None) | (None, Some(text)) => text,
        };
        let mut addresses = Vec::new();
        for part in text.split(',').map(str::trim) {
            match part.parse::<IpAddr>() {
                Ok(address) => addresses.push(address),
                Err(_) => {
                    return Requested::Invalid(format!(
                        "invalid requested load balancer IPs {text:?}: {part:?} is not an IP address; write addresses separated by \
                         commas in {ANNOTATION}",
                        text = quoted(text),
                        part = quoted(part),
                    ));
                }
            }
        }
        Requested::Addresses(addresses)
    }
}

/// What a Service asks for, and where it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The addresses.
    pub addresses: Requested,
    /// The field that names them.
    pub addresses_field: String,
    /// The pool and the field that names it.
    pub pool: Option<(&'a str, String)>,
}

impl<'a> Request<'a> {
    /// Reads what `service` asks for.
    #[must_use]
    pub fn of(service: &'a Service) -> Self {
        let find = |key: &AnnotationKey| key.find(service.metadata.annotations.as_ref()?);
        let field = |key: &str| format!("metadata.annotations[{key}]");
        let spec = service.spec.as_ref();
        let annotation = find(&LOAD_BALANCER_IPS);
        Request {
            addresses: Requested::parse(
                annotation.map(|(value, _)| value),
                spec.and_then(|spec| spec.load_balancer_ip.as_deref()),
            ),
            addresses_field: annotation
                .map_or_else(|| "spec.loadBalancerIP".to_owned(), |(_, key)| field(key)),
            pool: find(&ADDRESS_POOL)
                .filter(|(pool, _)| !pool.is_empty())
                .map(|(pool, key)| (pool, field(key))),
        }
    }

    /// Why no Service could ever have what is asked for, as a sentence; that it is free, or in a pool, is another matter.
    #[must_use]
    pub fn impossible(&self) -> Option<String> {
        match &self.addresses {
            Requested::Nothing => None,
            Requested::Invalid(why) => Some(why.clone()),
            Requested::Addresses(addresses) => {
                let possible = match addresses.as_slice() {
                    [_] => true,
                    [one, other] => Family::of(*one) != Family::of(*other),
                    _ => false,
                };
                (!possible).then(|| {
                    format!(
                        "invalid requested load balancer IPs {addresses:?}: ask for one address, or for one of each family"
                    )
                })
            }
        }
    }
}
