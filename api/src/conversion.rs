//! How is a BGPPeer of one version said in the other, without loss?
//!
//! Both versions name alike what both have. What only v1beta2 can say travels in the annotation
//! [`BGP_PEER_V1BETA2`] of the v1beta1 form and is put back on the way up, where the annotation is then taken off. The
//! rules, in the order in which they decide:
//!
//! 1. What the v1beta1 object says itself stands.
//! 2. A field that travelled comes back, unless somebody gave the v1beta1 object its alternative meanwhile: peerASN for
//!    dynamicASN, peerAddress for interface, password for passwordSecret. Then the edit wins.
//! 3. v1beta1 requires peerASN and peerAddress. Where v1beta2 has none they are 0 and empty, and go again if they still are.
//! 4. In v1beta1 a time of zero and port 0 mean "unset": MetalLB's type cannot tell the two apart and writes zeros for what
//!    nobody set. MetalLB's conversion makes explicit zeros of them (reference 1.5), which turns keepalives off, so that a
//!    peer that went silent is never noticed; here they stay unset (reference 9, row 30). A zero that v1beta2 says
//!    travels, so it is still there after a detour through v1beta1.
//!
//! No password travels: of a password beside a passwordSecret the annotation says only that it was there. So both come back
//! whatever the password is then, and who gave both (valid only where the passwordSecret is empty) still has both.
//!
//! An annotation that was not written here, or was damaged since, is left where it is and means nothing ([`is_luggage`]). To
//! refuse the conversion in its place would save the fields of one peer at the cost of all: the API server answers no list of
//! BGPPeers of which it cannot convert one, so that operator and speakers would know none. Whoever writes such an object is told by
//! the webhook, which finds the annotation still there. The API server lets a conversion change labels and annotations, but
//! nothing else of the metadata.

use serde_json::{Map, Value, json};

use crate::annotations::BGP_PEER_V1BETA2;
use crate::duration;

const V1BETA1: &str = "metallb.io/v1beta1";
const V1BETA2: &str = "metallb.io/v1beta2";
const KIND: &str = "BGPPeer";

/// What v1beta1 has, under the same names as v1beta2.
const IN_BOTH: [&str; 12] = [
    "myASN",
    "peerASN",
    "peerAddress",
    "sourceAddress",
    "peerPort",
    "holdTime",
    "keepaliveTime",
    "routerID",
    "nodeSelectors",
    "password",
    "bfdProfile",
    "ebgpMultiHop",
];

/// Fields of v1beta2 beside the field of both that excludes them.
const ALTERNATIVES: [(&str, &str); 3] = [
    ("dynamicASN", "peerASN"),
    ("interface", "peerAddress"),
    ("passwordSecret", "password"),
];

/// Times of which v1beta1 cannot tell zero from unset.
const TIMES: [&str; 2] = ["holdTime", "keepaliveTime"];

/// Why an object cannot be converted. None of these is about what a person wrote into a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConversionError {
    /// It is no JSON object, or its metadata or annotations are none.
    #[error("{0} is not a JSON object")]
    NotAnObject(&'static str),
    /// Another kind than the one that has two versions.
    #[error("only BGPPeer of metallb.io has versions to convert between; this is {0:?}")]
    OtherKind(String),
    /// A version that does not exist.
    #[error("there is no version {0:?} of BGPPeer, only metallb.io/v1beta1 and metallb.io/v1beta2")]
    UnknownVersion(String),
}

/// Says `object`, a BGPPeer of either version, in the version `desired_api_version`, such as `metallb.io/v1beta2`.
///
/// # Errors
///
/// Only for what is not a BGPPeer of one of the two versions at all.
pub fn convert_bgp_peer(
    mut object: Value,
    desired_api_version: &str,
) -> Result<Value, ConversionError> {
    let root = object
        .as_object_mut()
        .ok_or(ConversionError::NotAnObject("the object"))?;
    let text = |key: &str| root.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("kind") != KIND {
        return Err(ConversionError::OtherKind(text("kind").to_owned()));
    }
    match (text("apiVersion"), desired_api_version) {
        (V1BETA1, V1BETA1) | (V1BETA2, V1BETA2) => return Ok(object),
        (V1BETA1, V1BETA2) => to_v1beta2(root)?,
        (V1BETA2, V1BETA1) => to_v1beta1(root)?,
        (V1BETA1 | V1BETA2, unknown) | (unknown, _) => {
            return Err(ConversionError::UnknownVersion(unknown.to_owned()));
        }
    }
    root.insert("apiVersion".to_owned(), desired_api_version.into());
    Ok(object)
}

/// Whether `text` in the annotation [`BGP_PEER_V1BETA2`] is what is written there, so that a conversion takes the fields from it.
#[must_use]
pub fn is_luggage(text: &str) -> bool {
    Luggage::read(text).is_some()
}

/// What travels in the annotation.
#[derive(Clone, Debug, Default, PartialEq)]
struct Luggage {
    /// Fields that only v1beta2 has, and zeros that are meant.
    spec: Map<String, Value>,
    /// The fields of both that exclude one in `spec`, as they were when it set out.
    beside: Map<String, Value>,
    /// What v1beta1 requires and v1beta2 did not have.
    absent: Vec<String>,
    /// What the annotation was before: something that looks like luggage on a v1beta2 object was put there by somebody.
    annotation: Option<String>,
}

impl Luggage {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn write(self) -> String {
        let mut text = Map::new();
        let mut put = |key: &str, value: Value, empty: bool| {
            if !empty {
                text.insert(key.to_owned(), value);
            }
        };
        let Self {
            spec,
            beside,
            absent,
            annotation,
        } = self;
        let (no_spec, no_beside, none_absent) =
            (spec.is_empty(), beside.is_empty(), absent.is_empty());
        put("spec", Value::Object(spec), no_spec);
        put("beside", Value::Object(beside), no_beside);
        put("absent", json!(absent), none_absent);
        put("annotation", json!(annotation), annotation.is_none());
        Value::Object(text).to_string()
    }

    /// Nothing where the text is not what [`write`](Self::write) writes.
    fn read(text: &str) -> Option<Self> {
        let Ok(Value::Object(text)) = serde_json::from_str(text) else {
            return None;
        };
        let mut luggage = Self::default();
        for (key, value) in text {
            match (key.as_str(), value) {
                ("spec", Value::Object(spec)) => luggage.spec = spec,
                ("beside", Value::Object(beside)) => luggage.beside = beside,
                ("absent", Value::Array(names)) => {
                    for name in names {
                        luggage.absent.push(name.as_str()?.to_owned());
                    }
                }
                ("annotation", Value::String(before)) => luggage.annotation = Some(before),
                _ => return None,
            }
        }
        Some(luggage).filter(|luggage| !luggage.is_empty())
    }
}

fn to_v1beta1(root: &mut Map<String, Value>) -> Result<(), ConversionError> {
    let mut luggage = Luggage::default();
    if let Some(Value::Object(spec)) = root.get_mut("spec") {
        for (name, value) in std::mem::take(spec) {
            if IN_BOTH.contains(&name.as_str()) {
                if TIMES.contains(&name.as_str()) && is_zero_time(&value) {
                    luggage.spec.insert(name.clone(), value.clone());
                }
                spec.insert(name, value);
            } else {
                luggage.spec.insert(name, value);
            }
        }
        for (field, other) in ALTERNATIVES {
            if let Some(value) = spec.get(other).filter(|value| is_given(value))
                && luggage.spec.contains_key(field)
            {
                luggage.beside.insert(other.to_owned(), trace(other, value));
            }
        }
        for (field, filler) in required() {
            if !spec.contains_key(field) {
                spec.insert(field.to_owned(), filler);
                luggage.absent.push(field.to_owned());
            }
        }
    }
    let before = annotations(root)?.and_then(|all| all.get(BGP_PEER_V1BETA2)?.as_str());
    luggage.annotation = before
        .filter(|text| !luggage.is_empty() || Luggage::read(text).is_some())
        .map(ToOwned::to_owned);
    if !luggage.is_empty() {
        set_annotation(root, &luggage.write())?;
    }
    Ok(())
}

fn to_v1beta2(root: &mut Map<String, Value>) -> Result<(), ConversionError> {
    let text = annotations(root)?.and_then(|all| all.get(BGP_PEER_V1BETA2)?.as_str());
    let luggage = text.and_then(Luggage::read);
    if let Some(luggage) = &luggage {
        match &luggage.annotation {
            Some(before) => set_annotation(root, before)?,
            None => remove_annotation(root),
        }
    }
    let luggage = luggage.unwrap_or_default();
    let Some(Value::Object(spec)) = root.get_mut("spec") else {
        return Ok(());
    };
    if spec.get("peerPort").and_then(Value::as_i64) == Some(0) {
        spec.remove("peerPort");
    }
    for (field, filler) in required() {
        if luggage.absent.iter().any(|absent| absent == field) && spec.get(field) == Some(&filler) {
            spec.remove(field);
        }
    }
    for time in TIMES {
        if spec.get(time).is_some_and(is_zero_time) {
            match luggage.spec.get(time).filter(|meant| is_zero_time(meant)) {
                Some(meant) => spec.insert(time.to_owned(), meant.clone()),
                None => spec.remove(time),
            };
        }
    }
    for (name, value) in luggage.spec {
        let edited = ALTERNATIVES
            .iter()
            .filter(|(field, _)| *field == name)
            .any(|(_, other)| {
                spec.get(*other).is_some_and(|now| {
                    is_given(now) && luggage.beside.get(*other) != Some(&trace(other, now))
                })
            });
        if !edited && !IN_BOTH.contains(&name.as_str()) && !spec.contains_key(&name) {
            spec.insert(name, value);
        }
    }
    Ok(())
}

/// What v1beta1 requires that v1beta2 may lack, and what stands there then, as MetalLB's conversion writes it.
fn required() -> [(&'static str, Value); 2] {
    [("peerASN", json!(0)), ("peerAddress", json!(""))]
}

/// What is written down of a field to tell later whether somebody edited it. Everybody who may read the object reads this,
/// and annotations are copied to places that fields are not: of a password, no more than that there was one.
fn trace(field: &str, value: &Value) -> Value {
    match field {
        "password" => json!(true),
        _ => value.clone(),
    }
}

/// Whether a field says anything; see [`given`](crate::given).
fn is_given(value: &Value) -> bool {
    !(value.is_null() || value.as_i64() == Some(0) || value.as_str() == Some(""))
}

fn is_zero_time(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| duration::parse(text).is_ok_and(|time| time.is_zero()))
}

fn annotations(root: &Map<String, Value>) -> Result<Option<&Map<String, Value>>, ConversionError> {
    let metadata = match root.get("metadata") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(metadata)) => metadata,
        Some(_) => return Err(ConversionError::NotAnObject("metadata")),
    };
    match metadata.get("annotations") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(annotations)) => Ok(Some(annotations)),
        Some(_) => Err(ConversionError::NotAnObject("metadata.annotations")),
    }
}

fn set_annotation(root: &mut Map<String, Value>, text: &str) -> Result<(), ConversionError> {
    let metadata = object_at(root, "metadata").ok_or(ConversionError::NotAnObject("metadata"))?;
    object_at(metadata, "annotations")
        .ok_or(ConversionError::NotAnObject("metadata.annotations"))?
        .insert(BGP_PEER_V1BETA2.to_owned(), text.into());
    Ok(())
}

/// The object under `key`, made where there is none.
fn object_at<'a>(
    parent: &'a mut Map<String, Value>,
    key: &str,
) -> Option<&'a mut Map<String, Value>> {
    let value = parent.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// Takes the annotation off, and the list of annotations with the last of them.
fn remove_annotation(root: &mut Map<String, Value>) {
    let Some(Value::Object(metadata)) = root.get_mut("metadata") else {
        return;
    };
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove(BGP_PEER_V1BETA2);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
}
