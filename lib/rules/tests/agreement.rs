//! What is said of an object before it is stored is what is said of it afterwards.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use ferrolb_api::{StaysInForce, keep_what_is_in_force};
use ferrolb_rules::{AllObjects, Known, LastGood, Refusal, Verdict};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// One object: its kind, one of few names, when it was created, and what it says.
#[derive(Clone, Debug)]
struct Written {
    kind: &'static str,
    name: String,
    created: u32,
    spec: Value,
}

impl Written {
    fn read<K: DeserializeOwned>(&self) -> Arc<K> {
        let version = match self.kind {
            "BGPPeer" => "v1beta2",
            _ => "v1beta1",
        };
        let object = json!({
            "apiVersion": format!("metallb.io/{version}"), "kind": self.kind,
            "metadata": {
                "name": self.name, "namespace": "metallb-system", "uid": format!("{}-{}", self.kind, self.name),
                "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", self.created),
            },
            "spec": self.spec,
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn verdict(&self, known: &Known) -> Verdict {
        match self.kind {
            "IPAddressPool" => known.pool(&self.read()),
            "BGPAdvertisement" => known.bgp_advertisement(&self.read()),
            "BGPPeer" => known.peer(&self.read()),
            "L2Advertisement" => known.l2_advertisement(&self.read()),
            "BFDProfile" => known.bfd_profile(&self.read()),
            _ => known.community(&self.read()),
        }
    }
}

fn all(written: &[Written]) -> AllObjects {
    fn of<K: DeserializeOwned>(kind: &str, written: &[Written]) -> Vec<Arc<K>> {
        let of = written.iter().filter(|object| object.kind == kind);
        of.map(Written::read).collect()
    }
    AllObjects {
        pools: of("IPAddressPool", written),
        l2_advertisements: of("L2Advertisement", written),
        bgp_advertisements: of("BGPAdvertisement", written),
        peers: of("BGPPeer", written),
        bfd_profiles: of("BFDProfile", written),
        communities: of("Community", written),
    }
}

const KINDS: [&str; 5] = [
    "IPAddressPool",
    "L2Advertisement",
    "BGPAdvertisement",
    "BGPPeer",
    "Community",
];

/// The same objects with statuses that say what is in force of each.
fn recorded(mut objects: AllObjects, last_good: &LastGood, reduced: bool) -> AllObjects {
    fn record<K: StaysInForce + kube::Resource<DynamicType = ()>>(
        all: &mut [Arc<K>],
        last_good: &LastGood,
        reduced: bool,
    ) {
        for object in all {
            let object = Arc::make_mut(object);
            let kind = KINDS.into_iter().find(|kind| *kind == K::kind(&()));
            let form = last_good.in_force(kind.unwrap(), object);
            object.keep_of_status(form);
            if reduced {
                keep_what_is_in_force(object);
            }
        }
    }
    record(&mut objects.pools, last_good, reduced);
    record(&mut objects.l2_advertisements, last_good, reduced);
    record(&mut objects.bgp_advertisements, last_good, reduced);
    record(&mut objects.peers, last_good, reduced);
    record(&mut objects.communities, last_good, reduced);
    objects
}

/// `objects` with the statuses that they have in `recorded`, as who only reads them keeps those.
fn with_statuses_of(mut objects: AllObjects, recorded: &AllObjects) -> AllObjects {
    fn copy<K: StaysInForce>(all: &mut [Arc<K>], recorded: &[Arc<K>]) {
        for object in all {
            let name = object.name_any();
            let known = recorded.iter().find(|other| other.name_any() == name);
            let object = Arc::make_mut(object);
            object.keep_of_status(known.and_then(|known| known.in_force().cloned()));
            keep_what_is_in_force(object);
        }
    }
    copy(&mut objects.pools, &recorded.pools);
    copy(&mut objects.l2_advertisements, &recorded.l2_advertisements);
    copy(
        &mut objects.bgp_advertisements,
        &recorded.bgp_advertisements,
    );
    copy(&mut objects.peers, &recorded.peers);
    copy(&mut objects.communities, &recorded.communities);
    objects
}

fn texts(all: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(all, 0..=all.len().min(3)).prop_shuffle()
}

fn spec(kind: &'static str) -> BoxedStrategy<Value> {
    const ADDRESSES: &[&str] = &[
        "10.0.0.0/24",
        "10.0.0.128/25",
        "10.0.1.0/28",
        "10.0.1.8-10.0.2.3",
        "10.0.3.9-10.0.3.1",
        "fd00::/112",
        "fd00::10-fd00::20",
        "10.0.4.0/33",
    ];
    const POOLS: &[&str] = &["a", "b", "missing"];
    const NODES: &[&str] = &["red", "green"];
    let nodes = texts(NODES).prop_map(|labels| {
        let selectors = labels
            .into_iter()
            .map(|label| json!({"matchLabels": {"rack": label}}));
        Value::Array(selectors.collect())
    });
    match kind {
        "IPAddressPool" => (texts(ADDRESSES), any::<bool>())
            .prop_map(|(addresses, auto)| json!({"addresses": addresses, "autoAssign": auto}))
            .boxed(),
        "L2Advertisement" => (texts(POOLS), select(&[1, 100, 101][..]))
            .prop_map(|(pools, weight)| {
                json!({"ipAddressPools": pools, "preferredNodeSelectors": [{"weight": weight, "preference": {}}]})
            })
            .boxed(),
        "BGPAdvertisement" => (
            texts(POOLS),
            select(&[24, 28, 32, 33][..]),
            select(&[100, 200][..]),
            texts(&["x", "y", "1:2", "9:9:9"]),
            nodes,
        )
            .prop_map(|(pools, length, preference, communities, nodes)| {
                json!({
                    "ipAddressPools": pools, "aggregationLength": length, "localPref": preference,
                    "communities": communities, "nodeSelectors": nodes,
                })
            })
            .boxed(),
        "BGPPeer" => (
            select(&["10.9.0.1", "10.9.0.2", "nowhere"][..]),
            select(&["30s", "1s"][..]),
            nodes,
        )
            .prop_map(|(address, hold, nodes)| {
                json!({
                    "myASN": 1, "peerASN": 2, "peerAddress": address, "holdTime": hold, "nodeSelectors": nodes,
                })
            })
            .boxed(),
        "BFDProfile" => select(&[9, 10, 300][..])
            .prop_map(|interval| json!({"receiveInterval": interval}))
            .boxed(),
        _ => (
            texts(&["x", "y", "z"]),
            select(&["1:1", "1:2", "large:1"][..]),
        )
            .prop_map(|(names, value)| {
                let aliases = names.into_iter().map(|name| json!({"name": name, "value": value}));
                json!({"communities": aliases.collect::<Vec<_>>()})
            })
            .boxed(),
    }
}

fn written() -> impl Strategy<Value = Written> {
    const KINDS: [&str; 6] = [
        "IPAddressPool",
        "IPAddressPool",
        "BGPAdvertisement",
        "BGPPeer",
        "Community",
        "L2Advertisement",
    ];
    let kind = prop_oneof![8 => select(&KINDS[..]), 1 => Just("BFDProfile")];
    kind.prop_flat_map(|kind| {
        (select(&["a", "b", "c", "d"][..]), 0..60u32, spec(kind)).prop_map(
            move |(name, created, spec)| Written {
                kind,
                name: name.to_owned(),
                created,
                spec,
            },
        )
    })
}

/// An alias that is not defined is an error only once nobody defines it (reference 2.2).
fn may_come_later(refusal: &Refusal) -> bool {
    refusal
        .reason
        .contains("no Community object defines this alias")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]
    /// A history of objects that are written one after the other, some of them past every check.
    #[test]
    fn the_verdict_before_is_the_verdict_afterwards(
        history in prop::collection::vec(written(), 1..14),
        unchecked in prop::collection::vec(any::<bool>(), 14),
    ) {
        let (mut stored, mut last_good): (Vec<Written>, _) = (Vec::new(), LastGood::default());
        for (mut object, unchecked) in history.into_iter().zip(unchecked) {
            let known = Known::new(all(&stored), &mut last_good, None);
            let place = stored.iter().position(|other| (other.kind, &other.name) == (object.kind, &object.name));
            if let Some(place) = place {
                object.created = stored[place].created;
            } else {
                // Nothing is created before what is there.
                object.created = stored.iter().map(|other| other.created).max().unwrap_or(0) + 1;
            }
            let before: Vec<Refusal> = object.verdict(&known).refusals;
            let mut then = stored.clone();
            match place {
                Some(place) => then[place] = object.clone(),
                None => then.push(object.clone()),
            }
            let (_, refusals) = last_good.clone().read(&all(&then));
            let mut afterwards: Vec<Refusal> = refusals
                .into_iter()
                .filter(|refusal| refusal.kind == object.kind && refusal.name == object.name)
                .collect();
            afterwards.sort();
            let undefined = afterwards.iter().any(may_come_later);
            afterwards.retain(|refusal| !may_come_later(refusal));
            if undefined {
                // It stays as it was, and which pools its new form does not fit is only looked at once it is complete.
                prop_assert!(before.iter().all(|refusal| refusal.field != "spec.communities"), "{before:?}");
            } else {
                // One that cannot be read stays as it was, and what that does not fit is told beside.
                let unread = |refusal: &Refusal| !before.is_empty() && object.kind == "BGPAdvertisement"
                    && !before.contains(refusal) && refusal.reason.contains("of pool");
                afterwards.retain(|refusal| !unread(refusal));
                prop_assert_eq!(&before, &afterwards, "{:?} beside {:?}", object, stored);
            }
            if before.is_empty() || unchecked {
                stored = then;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    /// A process that starts, at rest or beside an edit that nobody has seen yet, goes on with what was in force. `reduced` is
    /// what those keep of a status that only read it.
    #[test]
    fn who_starts_anew_goes_on_with_what_was_in_force(
        history in prop::collection::vec(written(), 1..14),
        reduced in any::<bool>(),
    ) {
        let (mut stored, mut last_good): (Vec<Written>, _) = (Vec::new(), LastGood::of_the_writer());
        for mut object in history {
            match stored.iter().position(|other| (other.kind, &other.name) == (object.kind, &object.name)) {
                Some(place) => {
                    object.created = stored[place].created;
                    stored[place] = object;
                }
                None => stored.push(object),
            }
            let edited = recorded(all(&stored), &last_good, reduced);
            let begun = LastGood::default().read(&edited);
            let went_on = last_good.read(&all(&stored));
            prop_assert_eq!(&begun, &went_on, "beside an edit, {:?}", stored);
            let at_rest = recorded(all(&stored), &last_good, reduced);
            let mut anew = LastGood::default();
            let begun = anew.read(&at_rest);
            prop_assert_eq!(&begun, &last_good.clone().read(&all(&stored)), "at rest, {:?}", stored);
            let again = recorded(all(&stored), &anew, reduced);
            prop_assert_eq!(format!("{at_rest:?}"), format!("{again:?}"), "it writes down the same");
        }
    }

    /// Of several edits a watch may show the last alone, and not to all alike: once the writer has seen all of them and its
    /// statuses are read, all have the same in force.
    #[test]
    fn who_saw_other_edits_comes_to_the_same(
        history in prop::collection::vec((written(), any::<bool>(), any::<bool>()), 1..14),
    ) {
        let mut stored: Vec<Written> = Vec::new();
        let (mut writer, mut follower) = (LastGood::of_the_writer(), LastGood::default());
        let mut recorded_so_far = AllObjects::default();
        for (mut object, writer_sees, follower_sees) in history {
            match stored.iter().position(|other| (other.kind, &other.name) == (object.kind, &object.name)) {
                Some(place) => {
                    object.created = stored[place].created;
                    stored[place] = object;
                }
                None => {
                    object.created = stored.iter().map(|other| other.created).max().unwrap_or(0) + 1;
                    stored.push(object);
                }
            }
            if writer_sees {
                writer.read(&all(&stored));
                recorded_so_far = recorded(all(&stored), &writer, false);
            }
            if follower_sees {
                follower.read(&with_statuses_of(all(&stored), &recorded_so_far));
            }
        }
        let decided = writer.read(&all(&stored));
        let seen = recorded(all(&stored), &writer, true);
        prop_assert_eq!(follower.read(&seen).0, decided.0, "{:?}", stored);
    }
}
