//! What a status says of the form in which an object is in force, and that form again.
//!
//! An edit that breaks an object leaves in force what it said before. Each process remembers that; so that one that starts
//! knows it too, the operator writes it into the status while the object is good, before anything can break it.

use std::collections::BTreeMap;

use kube::ResourceExt;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::annotations::{OF_A_BGP_PEER, OF_A_POOL, OF_AN_L2_ADVERTISEMENT};
use crate::{v1beta1, v1beta2};

/// In which form an object is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct InForce {
    /// The metadata.generation at which this was found. It is not the one of the form where the object breaks a rule since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The fingerprint of the object as it was written then, in hexadecimal: labels and annotations can change without another
    /// generation.
    pub observed: String,

    /// The spec that is in force, and the labels and annotations that are read beside it, as JSON; a password is left out, and
    /// communities are written for their aliases. Absent where the object is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
}

impl InForce {
    /// Stands for a form that is the object as it is written. Never stored: a status that said so would say nothing once
    /// the object is edited.
    fn as_written() -> Self {
        Self::default()
    }

    /// Whether the form is the object as it is written, in a status that [`keep_what_is_in_force`] reduced.
    #[must_use]
    pub fn is_as_written(&self) -> bool {
        self.observed.is_empty() && self.form.is_none()
    }

    /// Whether this was found of the object as it is written now.
    #[must_use]
    pub fn is_of<K: StaysInForce>(&self, object: &K) -> bool {
        self.is_as_written()
            || self.observed_generation == object.meta().generation
                && self.observed == fingerprint(&form_of(object))
    }
}

/// A number for a form, in hexadecimal (FNV-1a, 64 bits): two forms with the same one are as good as never met.
#[must_use]
pub fn fingerprint(form: &str) -> String {
    let hash = form.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// What is written down of an object.
#[derive(Serialize, Deserialize)]
struct Form<S> {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    spec: S,
    /// Whether the spec had a password.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    password: bool,
}

/// A kind whose objects stay in force as they were while they break a rule.
pub trait StaysInForce: ResourceExt + Clone {
    /// What a person writes.
    type Spec: Clone + Serialize + DeserializeOwned;

    /// Whether labels of the object are read, and not its spec alone.
    const READS_LABELS: bool = false;
    /// The annotations of the object that are read.
    const ANNOTATIONS: &[&str] = &[];

    /// What a person wrote.
    fn spec(&self) -> &Self::Spec;
    /// The same, to write another.
    fn spec_mut(&mut self) -> &mut Self::Spec;
    /// What the status says is in force.
    fn in_force(&self) -> Option<&InForce>;
    /// Leaves of the status only this.
    fn keep_of_status(&mut self, in_force: Option<InForce>);
    /// Where the spec holds a password in clear text.
    fn password(_spec: &mut Self::Spec) -> Option<&mut Option<String>> {
        None
    }
}

/// The form of `object` as it is written, as JSON without a password.
#[must_use]
pub fn form_of<K: StaysInForce>(object: &K) -> String {
    let mut spec = object.spec().clone();
    let password = K::password(&mut spec).and_then(Option::take);
    let mut labels = BTreeMap::new();
    if K::READS_LABELS {
        labels.clone_from(object.labels());
    }
    let read = |(key, _): &(&String, &String)| K::ANNOTATIONS.contains(&key.as_str());
    let read = object.annotations().iter().filter(read);
    let annotations = read
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let form = Form {
        labels,
        annotations,
        spec,
        password: password.is_some_and(|password| !password.is_empty()),
    };
    serde_json::to_string(&form).unwrap_or_default()
}

/// The object in the form that its status records; nothing where it records none, or none that can be read.
///
/// A password is the one that the object has now, and without any there is no former form: a session without its key would
/// fail or, worse, succeed.
#[must_use]
pub fn in_form<K: StaysInForce>(object: &K) -> Option<K> {
    let record = object.in_force()?;
    let mut former = object.clone();
    if record.is_as_written() {
        return Some(former);
    }
    let form: Form<K::Spec> = serde_json::from_str(record.form.as_deref()?).ok()?;
    let password = K::password(former.spec_mut()).and_then(Option::take);
    *former.spec_mut() = form.spec;
    if form.password {
        let password = password.filter(|password| !password.is_empty())?;
        *K::password(former.spec_mut())? = Some(password);
    }
    if K::READS_LABELS {
        former.meta_mut().labels = Some(form.labels);
    }
    if !K::ANNOTATIONS.is_empty() {
        former.meta_mut().annotations = Some(form.annotations);
    }
    Some(former)
}

/// Drops of the status everything but what is in force, and of that what says no more than the object itself: for those who
/// only read the object. A status that is written then wakes nobody who has nothing to learn from it.
pub fn keep_what_is_in_force<K: StaysInForce>(object: &mut K) {
    let record = object.in_force().map(|record| {
        if record.form.as_ref() == Some(&form_of(object)) {
            InForce::as_written()
        } else {
            record.clone()
        }
    });
    object.keep_of_status(record);
}

macro_rules! stays_in_force {
    ($kind:ty, $spec:ty, $status:ty $(, { $($more:tt)* })?) => {
        impl StaysInForce for $kind {
            type Spec = $spec;

            fn spec(&self) -> &$spec {
                &self.spec
            }

            fn spec_mut(&mut self) -> &mut $spec {
                &mut self.spec
            }

            fn in_force(&self) -> Option<&InForce> {
                self.status.as_ref()?.in_force.as_ref()
            }

            fn keep_of_status(&mut self, in_force: Option<InForce>) {
                self.status = in_force.map(|in_force| {
                    let mut status = <$status>::default();
                    status.in_force = Some(in_force);
                    status
                });
            }

            $($($more)*)?
        }
    };
}

stays_in_force!(
    v1beta1::IPAddressPool,
    v1beta1::IPAddressPoolSpec,
    v1beta1::IPAddressPoolStatus,
    {
        const READS_LABELS: bool = true;
        const ANNOTATIONS: &[&str] = &OF_A_POOL;
    }
);
stays_in_force!(
    v1beta1::L2Advertisement,
    v1beta1::L2AdvertisementSpec,
    v1beta1::L2AdvertisementStatus,
    {
        const ANNOTATIONS: &[&str] = &OF_AN_L2_ADVERTISEMENT;
    }
);
stays_in_force!(
    v1beta1::BGPAdvertisement,
    v1beta1::BGPAdvertisementSpec,
    v1beta1::BGPAdvertisementStatus
);
stays_in_force!(
    v1beta1::Community,
    v1beta1::CommunitySpec,
    v1beta1::CommunityStatus
);
stays_in_force!(
    v1beta2::BGPPeer,
    v1beta2::BGPPeerSpec,
    v1beta2::BGPPeerStatus,
    {
        const ANNOTATIONS: &[&str] = &OF_A_BGP_PEER;

        fn password(spec: &mut v1beta2::BGPPeerSpec) -> Option<&mut Option<String>> {
            Some(&mut spec.password)
        }
    }
);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn peer(spec: &serde_json::Value) -> v1beta2::BGPPeer {
        serde_json::from_value(json!({
            "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": {"name": "router"}, "spec": spec,
        }))
        .unwrap()
    }

    /// As it is after an edit to `now`, when it was in force as `before`.
    fn edited<K: StaysInForce>(before: &K, mut now: K) -> K {
        now.keep_of_status(Some(InForce {
            observed_generation: Some(3),
            observed: fingerprint(&form_of(before)),
            form: Some(form_of(before)),
        }));
        now
    }

    #[test]
    fn a_password_is_not_written_down_and_the_one_of_now_is_used() {
        let spec = |address: &str, password: Option<&str>| {
            let mut spec = json!({"myASN": 1, "peerASN": 2, "peerAddress": address});
            spec["password"] = json!(password);
            peer(&spec)
        };
        let before = spec("10.0.0.1", Some("hush"));
        assert!(!form_of(&before).contains("hush"));
        let former = in_form(&edited(&before, spec("nowhere", Some("new one")))).unwrap();
        assert_eq!(former.spec, spec("10.0.0.1", Some("new one")).spec);
        for none in [None, Some("")] {
            assert_eq!(in_form(&edited(&before, spec("nowhere", none))), None);
        }
        let without = spec("10.0.0.1", None);
        let former = in_form(&edited(&without, spec("nowhere", Some("hush")))).unwrap();
        assert_eq!(
            former.spec, without.spec,
            "there was none, so there is none"
        );
    }

    #[test]
    fn what_is_read_of_the_metadata_of_a_pool_is_written_down() {
        let pool = |metadata: serde_json::Value| -> v1beta1::IPAddressPool {
            serde_json::from_value(json!({
                "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": metadata,
                "spec": {"addresses": ["10.0.0.0/24"]},
            }))
            .unwrap()
        };
        let before = pool(
            json!({"name": "p", "labels": {"team": "a"}, "annotations": {
            "ferrolb.io/reuse-hold": "10m", "example.com/owner": "me"}}),
        );
        let now = pool(
            json!({"name": "p", "labels": {"team": "b"}, "annotations": {"ferrolb.io/exclude": "nonsense"}}),
        );
        let former = in_form(&edited(&before, now)).unwrap();
        let metadata = serde_json::to_value(&former.metadata).unwrap();
        let expected = json!({"name": "p", "labels": {"team": "a"}, "annotations": {"ferrolb.io/reuse-hold": "10m"}});
        assert_eq!(metadata, expected);
    }

    #[test]
    fn what_is_read_of_the_annotations_of_an_advertisement_is_written_down() {
        let advertisement = |annotations: serde_json::Value| -> v1beta1::L2Advertisement {
            serde_json::from_value(json!({
                "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
                "metadata": {"name": "a", "labels": {"team": "a"}, "annotations": annotations},
            }))
            .unwrap()
        };
        let before =
            advertisement(json!({"ferrolb.io/refresh-interval": "5s", "example.com/owner": "me"}));
        let now = advertisement(json!({"ferrolb.io/refresh-interval": "soon"}));
        let former = in_form(&edited(&before, now)).unwrap();
        let metadata = serde_json::to_value(&former.metadata).unwrap();
        let expected = json!({"name": "a", "labels": {"team": "a"}, "annotations": {"ferrolb.io/refresh-interval": "5s"}});
        assert_eq!(metadata, expected);
    }

    #[test]
    fn who_only_reads_keeps_of_a_status_what_the_object_does_not_say_itself() {
        let now = peer(&json!({"myASN": 1, "peerASN": 2, "peerAddress": "10.0.0.1"}));
        let mut same = edited(&now, now.clone());
        keep_what_is_in_force(&mut same);
        assert_eq!(same.in_force(), Some(&InForce::default()));
        assert_eq!(in_form(&same).unwrap().spec, now.spec);
        let before = peer(&json!({"myASN": 1, "peerASN": 3, "peerAddress": "10.0.0.1"}));
        let mut other = edited(&before, now.clone());
        let record = other.in_force().cloned();
        keep_what_is_in_force(&mut other);
        assert_eq!(other.in_force(), record.as_ref());
        let mut never = now;
        keep_what_is_in_force(&mut never);
        assert_eq!((never.in_force(), in_form(&never)), (None, None));
    }

    #[test]
    fn a_form_that_cannot_be_read_is_none() {
        let mut object = peer(&json!({"myASN": 1}));
        object.keep_of_status(Some(InForce {
            form: Some("{\"spec\": 7}".to_owned()),
            ..InForce::default()
        }));
        assert_eq!(in_form(&object), None);
    }
}
