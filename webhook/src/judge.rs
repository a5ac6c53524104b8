//! Which rules an object is held against, by its kind and by what happens to it.

use ferrolb_api::annotations::OF_A_POOL;
use ferrolb_api::v1beta1::{
    BFDProfile, BGPAdvertisement, Community, IPAddressPool, L2Advertisement,
};
use ferrolb_api::v1beta2::BGPPeer;
use ferrolb_rules::{
    Configuration, Objects, Refusal, advertisements, check_bfd_profile, check_community, peers,
    pools,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::known::Known;
use crate::review::{Answer, Operation, Question};

/// What MetalLB says about a field that stopped to matter; scripts and people know the sentence (reference 2.2).
const DISABLE_MP: &str =
    "disable mp is deprecated and has no effect since it's the default behavior now";

/// A kind with a path of its own (reference 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `/validate-metallb-io-v1beta1-ipaddresspool`
    IPAddressPool,
    /// `/validate-metallb-io-v1beta1-l2advertisement`
    L2Advertisement,
    /// `/validate-metallb-io-v1beta1-bgpadvertisement`
    BGPAdvertisement,
    /// `/validate-metallb-io-v1beta2-bgppeer`
    BGPPeer,
    /// `/validate-metallb-io-v1beta1-bfdprofile`
    BFDProfile,
    /// `/validate-metallb-io-v1beta1-community`
    Community,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::IPAddressPool,
        Self::L2Advertisement,
        Self::BGPAdvertisement,
        Self::BGPPeer,
        Self::BFDProfile,
        Self::Community,
    ];

    /// The kind's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::IPAddressPool => "IPAddressPool",
            Self::L2Advertisement => "L2Advertisement",
            Self::BGPAdvertisement => "BGPAdvertisement",
            Self::BGPPeer => "BGPPeer",
            Self::BFDProfile => "BFDProfile",
            Self::Community => "Community",
        }
    }

    /// The path that the API server calls.
    pub fn path(self) -> String {
        let version = if self == Self::BGPPeer {
            "v1beta2"
        } else {
            "v1beta1"
        };
        format!(
            "/validate-metallb-io-{version}-{}",
            self.name().to_lowercase()
        )
    }
}

/// Answers one question. `namespace` is the one whose objects count.
pub fn judge(kind: Kind, question: &Question, known: &Known, namespace: &str) -> Answer {
    match question.operation {
        Operation::Create if question.namespace != namespace => {
            Answer::Forbidden(format!("resource must be created in {namespace} namespace"))
        }
        Operation::Create => judge_object(kind, question, known),
        Operation::Update if question.namespace != namespace => Answer::Allowed {
            warnings: vec![format!(
                "only objects in the {namespace} namespace have an effect; this one has none"
            )],
        },
        // Finalizers must go whatever the object says, and what touches nothing that is read breaks no rule anew.
        Operation::Update if is_going(&question.object) || reads_the_same(question) => {
            Answer::yes()
        }
        Operation::Update => judge_object(kind, question, known),
        Operation::Delete if kind == Kind::BFDProfile && question.namespace == namespace => {
            judge_removal_of_profile(question, known)
        }
        Operation::Delete | Operation::Connect => Answer::yes(),
    }
}

fn judge_object(kind: Kind, question: &Question, known: &Known) -> Answer {
    let object = &question.object;
    match kind {
        Kind::IPAddressPool => with(kind, object, |pool: &IPAddressPool| {
            known
                .pools
                .with(|others| pools::check_pool(pool, others.values().map(|other| &**other)))
        }),
        Kind::L2Advertisement => with(kind, object, |advertisement: &L2Advertisement| {
            advertisements::check_l2(advertisement)
        }),
        Kind::BGPAdvertisement => with(kind, object, |advertisement: &BGPAdvertisement| {
            let snapshot = known.pools.snapshot();
            let pools: Vec<&IPAddressPool> = snapshot.values().map(|pool| &**pool).collect();
            let (configuration, _) = Configuration::from_objects(&Objects {
                pools: &pools,
                ..Objects::default()
            });
            let others = known.bgp_advertisements.snapshot();
            let others = others.values().map(|other| &**other);
            advertisements::check_bgp(advertisement, configuration.pools.values(), others)
        }),
        Kind::BGPPeer => {
            let mut answer = with(kind, object, |peer: &BGPPeer| peers::check_peer(peer));
            if let Answer::Allowed { warnings } = &mut answer
                && object.pointer("/spec/disableMP") == Some(&Value::Bool(true))
            {
                warnings.push(DISABLE_MP.to_owned());
            }
            answer
        }
        Kind::BFDProfile => with(kind, object, |profile: &BFDProfile| {
            check_bfd_profile(profile)
        }),
        Kind::Community => with(kind, object, |community: &Community| {
            let snapshot = known.communities.snapshot();
            check_community(community, snapshot.values().map(|other| &**other))
        }),
    }
}

fn with<K: DeserializeOwned>(
    kind: Kind,
    object: &Value,
    check: impl FnOnce(&K) -> Vec<Refusal>,
) -> Answer {
    match K::deserialize(object) {
        Ok(object) => {
            let mut refusals = check(&object);
            refusals.sort();
            match refusals.as_slice() {
                [] => Answer::yes(),
                [refusal] => Answer::Forbidden(refusal.to_string()),
                refusals => Answer::Forbidden(listed(refusals)),
            }
        }
        Err(error) => {
            let name = object
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            Answer::Undecodable(format!("{} {name:?} cannot be read: {error}", kind.name()))
        }
    }
}

/// Every problem at once: whoever applies the object mends them in one go.
fn listed(refusals: &[Refusal]) -> String {
    let mut text = format!("{} problems:", refusals.len());
    for refusal in refusals {
        text.push_str("\n- ");
        text.push_str(&refusal.to_string());
    }
    text
}

fn judge_removal_of_profile(question: &Question, known: &Known) -> Answer {
    let user = known.bfd_profile_of_peer.with(|peers| {
        peers
            .iter()
            .find(|(_, profile)| ***profile == question.name)
            .map(|(peer, _)| peer.name().to_owned())
    });
    match user {
        Some(peer) => Answer::Forbidden(format!(
            "failed to delete BFDProfile {}, used by BGPPeer {peer}; remove spec.bfdProfile there first",
            question.name
        )),
        None => Answer::yes(),
    }
}

fn is_going(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|time| !time.is_null())
}

fn reads_the_same(question: &Question) -> bool {
    let (new, old) = (&question.object, &question.old_object);
    let annotation = |object: &Value, key: &str| {
        let annotations = object.pointer("/metadata/annotations");
        annotations
            .and_then(|annotations| annotations.get(key))
            .cloned()
    };
    !old.is_null()
        && new.get("spec") == old.get("spec")
        && OF_A_POOL
            .iter()
            .all(|key| annotation(new, key) == annotation(old, key))
}
