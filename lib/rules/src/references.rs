//! Does everything exist that an object names?
//!
//! What does not exist may come later, so it is never a reason to refuse an object (reference 2.2): it is a warning before, and
//! a condition afterwards.

use ferrolb_api::given;
use ferrolb_api::v1beta1::{BGPAdvertisement, L2Advertisement};
use ferrolb_api::v1beta2::BGPPeer;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::all_objects::AllObjects;
use crate::configuration::Configuration;

/// Something that an object names and cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The field that names it.
    pub field: String,
    /// Whether it does not exist; otherwise it does and is of no use.
    pub missing: bool,
    /// What is wrong and what to do.
    pub text: String,
}

/// What can be named.
#[derive(Clone, Copy, Debug)]
pub struct References<'a> {
    /// What is in force.
    pub configuration: &'a Configuration,
    /// What exists.
    pub objects: &'a AllObjects,
}

impl References<'_> {
    /// What an L2Advertisement names and cannot have.
    #[must_use]
    pub fn of_l2_advertisement(&self, object: &L2Advertisement) -> Vec<Unresolved> {
        self.pools(&object.spec.ip_address_pools)
    }

    /// What a BGPAdvertisement names and cannot have.
    #[must_use]
    pub fn of_bgp_advertisement(&self, object: &BGPAdvertisement) -> Vec<Unresolved> {
        let spec = &object.spec;
        let mut unresolved = self.pools(&spec.ip_address_pools);
        let peers = &self.configuration.peers;
        unresolved.extend(named(
            "spec.peers",
            "BGPPeer",
            spec.peers.iter().filter(|name| !peers.contains_key(*name)),
            |name| {
                self.objects
                    .peers
                    .iter()
                    .any(|peer| peer.name_any() == name)
            },
        ));
        let aliases = spec.communities.iter().enumerate();
        let aliases = aliases.filter(|(_, text)| !text.contains(':'));
        let defined = &self.configuration.aliases;
        let undefined = aliases.filter(|(_, alias)| !defined.contains_key(*alias));
        unresolved.extend(undefined.map(|(index, alias)| Unresolved {
            field: format!("spec.communities[{index}]"),
            missing: true,
            text: format!(
                "no Community object in force defines the alias {alias:?}; until one does, this form of the advertisement is not in force"
            ),
        }));
        unresolved
    }

    /// What a BGPPeer names and cannot have, its Secret aside.
    #[must_use]
    pub fn of_peer(&self, object: &BGPPeer) -> Option<Unresolved> {
        let profile = given(&object.spec.bfd_profile)?;
        let mut profiles = self.objects.bfd_profiles.iter();
        let exists = profiles.any(|other| other.name_any() == profile);
        (!exists).then(|| Unresolved {
            field: "spec.bfdProfile".to_owned(),
            missing: true,
            text: format!("there is no BFDProfile {profile:?}; create it, or correct the name"),
        })
    }

    fn pools(&self, names: &[String]) -> Vec<Unresolved> {
        let in_force = &self.configuration.pools;
        let others = names.iter().filter(|name| !in_force.contains_key(*name));
        named("spec.ipAddressPools", "IPAddressPool", others, |name| {
            self.objects
                .pools
                .iter()
                .any(|pool| pool.name_any() == name)
        })
    }
}

/// Why objects with these names, none of which is in force, are not to be had.
fn named<'n>(
    field: &'static str,
    kind: &str,
    names: impl Iterator<Item = &'n String>,
    exists: impl Fn(&str) -> bool,
) -> Vec<Unresolved> {
    let (set_aside, missing): (Vec<&str>, Vec<&str>) =
        names.map(String::as_str).partition(|name| exists(name));
    let mut unresolved = Vec::new();
    if !missing.is_empty() {
        let text = format!(
            "no {kind} is called {}; create it, or correct the name",
            listed(missing)
        );
        unresolved.push(Unresolved {
            field: field.to_owned(),
            missing: true,
            text,
        });
    }
    if !set_aside.is_empty() {
        let text = format!(
            "{kind} {} breaks a rule and is not in force; its condition Accepted says what to change",
            listed(set_aside)
        );
        unresolved.push(Unresolved {
            field: field.to_owned(),
            missing: false,
            text,
        });
    }
    unresolved
}

/// `"a", "b" and 3 more`.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const AT_MOST: usize = 3;
    let names: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
    let shown = names.get(..AT_MOST).unwrap_or(&names).join(", ");
    match names.len().saturating_sub(AT_MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The type that a Secret with a password must have (reference 1.4).
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
/// Its key.
const PASSWORD: &str = "password";
/// The longest key of TCP MD5 that Linux takes, in bytes (`TCP_MD5SIG_MAXKEYLEN`).
const PASSWORD_AT_MOST: usize = 80;

/// The password of BGP sessions that a Secret holds.
///
/// # Errors
///
/// Why it holds none, and what to do; for use after the Secret's name. Nothing of what it holds is said.
pub fn password_of(secret: &Secret) -> Result<String, String> {
    let type_ = secret.type_.as_deref().unwrap_or("Opaque");
    if type_ != BASIC_AUTH {
        return Err(format!(
            "is of type {type_:?}, and {BASIC_AUTH} is expected; a type cannot be changed, so delete it and create it with that type"
        ));
    }
    let entry = secret.data.as_ref().and_then(|data| data.get(PASSWORD));
    let Some(entry) = entry.filter(|entry| !entry.0.is_empty()) else {
        return Err(format!("has no password; set its key {PASSWORD}"));
    };
    if entry.0.len() > PASSWORD_AT_MOST {
        return Err(format!(
            "has a password of {} bytes, and TCP MD5 takes {PASSWORD_AT_MOST}; set a shorter one on both sides",
            entry.0.len()
        ));
    }
    String::from_utf8(entry.0.clone())
        .map_err(|_| "has a password that is not UTF-8; set another one on both sides".to_owned())
}

/// What is wrong with the Secret that a peer names: `found` is what [`password_of`] says of it, nothing where there is none.
#[must_use]
pub fn unresolved_secret(
    name: &str,
    namespace: &str,
    found: Option<&Result<(), String>>,
) -> Option<Unresolved> {
    let (missing, text) = match found {
        Some(Ok(())) => return None,
        Some(Err(why)) => (false, format!("the Secret {name:?} {why}")),
        None => (
            true,
            format!(
                "there is no Secret {name:?} in namespace {namespace}; create it with the type {BASIC_AUTH} and the key {PASSWORD}"
            ),
        ),
    };
    Some(Unresolved {
        field: "spec.passwordSecret".to_owned(),
        missing,
        text,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn secret(type_: &str, data: &[(&str, &[u8])]) -> Secret {
        Secret {
            type_: Some(type_.to_owned()),
            data: Some(
                data.iter()
                    .map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec())))
                    .collect(),
            ),
            ..Secret::default()
        }
    }

    #[test]
    fn a_password_is_what_tcp_md5_takes_and_nothing_of_it_is_said() {
        let of = |secret: &Secret| password_of(secret);
        let long = [b'x'; 81];
        assert_eq!(
            of(&secret(BASIC_AUTH, &[(PASSWORD, b"hush")])),
            Ok("hush".to_owned())
        );
        assert_eq!(
            of(&secret(BASIC_AUTH, &[(PASSWORD, &long[..80])]))
                .unwrap()
                .len(),
            80
        );
        for (secret, why) in [
            (
                secret("Opaque", &[(PASSWORD, b"hush")]),
                "is of type \"Opaque\"",
            ),
            (
                secret(BASIC_AUTH, &[("username", b"hush")]),
                "has no password; set its key password",
            ),
            (
                secret(BASIC_AUTH, &[(PASSWORD, b"")]),
                "has no password; set its key password",
            ),
            (
                secret(BASIC_AUTH, &[(PASSWORD, &long)]),
                "has a password of 81 bytes",
            ),
            (
                secret(BASIC_AUTH, &[(PASSWORD, b"hush\xff")]),
                "has a password that is not UTF-8",
            ),
            (Secret::default(), "is of type \"Opaque\""),
        ] {
            let said = of(&secret).unwrap_err();
            assert!(said.starts_with(why) && !said.contains("hush"), "{said}");
        }
    }

    #[test]
    fn what_is_set_aside_is_not_asked_to_be_created() {
        let object = |kind: &str, name: &str, spec: serde_json::Value| json!({"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        fn read<K: serde::de::DeserializeOwned>(object: serde_json::Value) -> K {
            serde_json::from_value(object).unwrap()
        }
        let broken = object(
            "IPAddressPool",
            "broken",
            json!({"addresses": ["nonsense"]}),
        );
        let good = object(
            "IPAddressPool",
            "good",
            json!({"addresses": ["10.0.0.0/24"]}),
        );
        let objects = AllObjects {
            pools: vec![Arc::new(read(broken)), Arc::new(read(good))],
            ..AllObjects::default()
        };
        let (configuration, _) = objects.with(Configuration::from_objects);
        let references = References {
            configuration: &configuration,
            objects: &objects,
        };
        let names = json!({"ipAddressPools": ["good", "broken", "absent"]});
        let said = references.of_l2_advertisement(&read(object("L2Advertisement", "a", names)));
        let said: Vec<_> = said
            .iter()
            .map(|it| (it.missing, it.text.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                (
                    true,
                    "no IPAddressPool is called \"absent\"; create it, or correct the name"
                ),
                (
                    false,
                    "IPAddressPool \"broken\" breaks a rule and is not in force; its condition Accepted says what to change"
                ),
            ]
        );
    }
}
