//! Does everything exist that an object names?
//!
//! What does not exist may come later, so it is never a reason to refuse an object (reference 2.2): it is a warning before, and
//! a condition afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_api::given;
use ferrolb_api::v1beta1::{BGPAdvertisement, L2Advertisement};
use ferrolb_api::v1beta2::BGPPeer;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::all_objects::AllObjects;
use crate::configuration::{Configuration, check_bfd_profile};

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

/// The names of what exists.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pools: BTreeSet<String>,
    peers: BTreeSet<String>,
    /// With whether they break a rule.
    bfd_profiles: BTreeMap<String, bool>,
}

impl Names {
    /// Those of all objects.
    #[must_use]
    pub fn of(objects: &AllObjects) -> Self {
        fn all<K: ResourceExt>(objects: &[Arc<K>]) -> BTreeSet<String> {
            objects.iter().map(|object| object.name_any()).collect()
        }
        let profiles = objects.bfd_profiles.iter();
        Names {
            pools: all(&objects.pools),
            peers: all(&objects.peers),
            bfd_profiles: profiles
                .map(|profile| (profile.name_any(), !check_bfd_profile(profile).is_empty()))
                .collect(),
        }
    }
}

impl Names {
    /// Adds an object that exists and is not in force.
    pub(crate) fn add(&mut self, kind: &str, name: &str) {
        let name = name.to_owned();
        match kind {
            "IPAddressPool" => drop(self.pools.insert(name)),
            "BGPPeer" => drop(self.peers.insert(name)),
            "BFDProfile" => drop(self.bfd_profiles.entry(name).or_insert(true)),
            _ => {}
        }
    }
}

/// What can be named.
#[derive(Clone, Copy, Debug)]
pub struct References<'a> {
    /// What is in force.
    pub configuration: &'a Configuration,
    /// What exists.
    pub names: &'a Names,
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
        let in_force = &self.configuration.peers;
        let others = spec
            .peers
            .iter()
            .filter(|name| !in_force.contains_key(*name));
        unresolved.extend(named("spec.peers", "BGPPeer", others, &self.names.peers));
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
        let (missing, text) = match self.names.bfd_profiles.get(profile) {
            Some(false) => return None,
            Some(true) => (false, set_aside("BFDProfile", [profile])),
            None => (
                true,
                format!("there is no BFDProfile {profile:?}; create it, or correct the name"),
            ),
        };
        Some(Unresolved {
            field: "spec.bfdProfile".to_owned(),
            missing,
            text,
        })
    }

    fn pools(&self, names: &[String]) -> Vec<Unresolved> {
        let in_force = &self.configuration.pools;
        let others = names.iter().filter(|name| !in_force.contains_key(*name));
        let exist = &self.names.pools;
        named("spec.ipAddressPools", "IPAddressPool", others, exist)
    }
}

/// Why objects with these names, none of which is in force, are not to be had.
fn named<'n>(
    field: &str,
    kind: &str,
    names: impl Iterator<Item = &'n String>,
    exist: &BTreeSet<String>,
) -> Vec<Unresolved> {
    let (not_in_force, missing): (Vec<&str>, Vec<&str>) = names
        .map(String::as_str)
        .partition(|name| exist.contains(*name));
    let mut unresolved = Vec::new();
    let mut tell = |missing: bool, text: String| {
        unresolved.push(Unresolved {
            field: field.to_owned(),
            missing,
            text,
        });
    };
    if !missing.is_empty() {
        let missing = listed(missing);
        tell(
            true,
            format!("no {kind} is called {missing}; create it, or correct the name"),
        );
    }
    if !not_in_force.is_empty() {
        tell(false, set_aside(kind, not_in_force));
    }
    unresolved
}

fn set_aside<'a>(kind: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    format!(
        "{kind} {} breaks a rule and is not in force; its condition Accepted says what to change",
        listed(names)
    )
}

/// `"a", "b" and 3 more`.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const AT_MOST: usize = 3;
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(AT_MOST).map(|name| format!("{name:?}"));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(AT_MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The type that a Secret with a password must have (reference 1.4). No other Secret is looked at.
pub const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
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
    let entry = secret.data.as_ref().and_then(|data| data.get(PASSWORD));
    let Some(entry) = entry.filter(|entry| !entry.0.is_empty()) else {
        return Err(format!("has no password; set its key {PASSWORD}"));
    };
    if entry.0.len() > PASSWORD_AT_MOST {
        return Err(format!(
            "has a password of more than {PASSWORD_AT_MOST} bytes, which TCP MD5 does not take; set a shorter one on both sides"
        ));
    }
    String::from_utf8(entry.0.clone())
        .map_err(|_| "has a password that is not UTF-8; set another one on both sides".to_owned())
}

/// What is wrong with the Secret that a peer names: `found` is what [`password_of`] says of it, nothing where there is none of the
/// type.
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
                "there is no Secret {name:?} of type {BASIC_AUTH} in namespace {namespace}; create it with the key {PASSWORD} (one of \
                 another type has to be deleted first, because a type cannot be changed)"
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
                secret(BASIC_AUTH, &[("username", b"hush")]),
                "has no password; set its key password",
            ),
            (
                secret(BASIC_AUTH, &[(PASSWORD, b"")]),
                "has no password; set its key password",
            ),
            (
                secret(BASIC_AUTH, &[(PASSWORD, &long)]),
                "has a password of more than 80 bytes",
            ),
            (
                secret(BASIC_AUTH, &[(PASSWORD, b"hush\xff")]),
                "has a password that is not UTF-8",
            ),
            (Secret::default(), "has no password; set its key password"),
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
            names: &Names::of(&objects),
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
