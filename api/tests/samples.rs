//! Objects as MetalLB's users write them are read whole: every field lands in a typed field, and a rewritten object says the
//! same. The files under `samples/` cover each form that MetalLB's documentation shows; they can also be applied to a cluster.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test may read the files that it is about"
)]

use std::path::Path;

use ferrolb_api::{v1beta1, v1beta2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use validator::Validate;

/// Reads the object as its kind, checks its fields and writes it again. `None` for kinds of other groups.
fn rewritten(object: &Value) -> Option<Value> {
    fn as_kind<K: DeserializeOwned + Serialize>(object: &Value) -> (K, Value) {
        let typed: K = serde_json::from_value(object.clone())
            .unwrap_or_else(|error| panic!("{error}: {object}"));
        let json = serde_json::to_value(&typed).unwrap();
        (typed, json)
    }
    fn checked<S: Validate>(spec: &S, json: Value) -> Value {
        spec.validate()
            .unwrap_or_else(|errors| panic!("{errors}: {json}"));
        json
    }
    let version_and_kind = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    Some(match version_and_kind {
        ("metallb.io/v1beta1", "IPAddressPool") => {
            let (pool, json) = as_kind::<v1beta1::IPAddressPool>(object);
            checked(&pool.spec, json)
        }
        ("metallb.io/v1beta1", "L2Advertisement") => {
            let (advertisement, json) = as_kind::<v1beta1::L2Advertisement>(object);
            checked(&advertisement.spec, json)
        }
        ("metallb.io/v1beta1", "BGPAdvertisement") => {
            let (advertisement, json) = as_kind::<v1beta1::BGPAdvertisement>(object);
            checked(&advertisement.spec, json)
        }
        ("metallb.io/v1beta1", "BGPPeer") => {
            let (peer, json) = as_kind::<v1beta1::BGPPeer>(object);
            checked(&peer.spec, json)
        }
        ("metallb.io/v1beta2", "BGPPeer") => {
            let (peer, json) = as_kind::<v1beta2::BGPPeer>(object);
            checked(&peer.spec, json)
        }
        ("metallb.io/v1beta1", "BFDProfile") => {
            let (profile, json) = as_kind::<v1beta1::BFDProfile>(object);
            checked(&profile.spec, json)
        }
        ("metallb.io/v1beta1", "Community") => {
            let (community, json) = as_kind::<v1beta1::Community>(object);
            checked(&community.spec, json)
        }
        ("metallb.io/v1beta1" | "metallb.io/v1beta2", kind) => panic!("{kind} is not covered"),
        _ => return None,
    })
}

/// Everything in `given` is in `rewritten` with the same value; defaults may be there besides. A
/// null means absence in Kubernetes.
fn assert_kept(given: &Value, rewritten: &Value, path: &str) {
    match (given, rewritten) {
        (Value::Object(given), Value::Object(rewritten)) => {
            for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
                let path = format!("{path}.{key}");
                let kept = rewritten
                    .get(key)
                    .unwrap_or_else(|| panic!("{path} is lost"));
                assert_kept(value, kept, &path);
            }
        }
        (Value::Array(given), Value::Array(rewritten)) => {
            assert_eq!(given.len(), rewritten.len(), "{path}");
            for (index, (given, rewritten)) in given.iter().zip(rewritten).enumerate() {
                assert_kept(given, rewritten, &format!("{path}[{index}]"));
            }
        }
        (given, rewritten) => assert_eq!(given, rewritten, "{path}"),
    }
}

#[test]
fn every_sample_is_read_whole_and_rewritten_without_a_loss() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let mut objects = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for document in documents {
            if let Some(rewritten) = rewritten(&document) {
                assert_kept(&document, &rewritten, &path.display().to_string());
                objects += 1;
            }
        }
    }
    assert!(objects >= 24, "only {objects} objects were found");
}
