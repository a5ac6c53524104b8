//! What an L2Advertisement says of interfaces, and by its annotations, over whole objects.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::v1beta1::L2Advertisement;
use ferrolb_rules::{AllObjects, Configuration, LastGood, OnConflict};
use serde_json::{Value, json};

fn advertisement(annotations: Value, spec: Value) -> L2Advertisement {
    let metadata = json!({"name": "office", "uid": "1", "annotations": annotations});
    serde_json::from_value(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": metadata, "spec": spec,
    }))
    .unwrap()
}

fn read(object: L2Advertisement, before: &mut LastGood) -> (Configuration, Vec<(String, String)>) {
    let (configuration, refusals) = before.read(&AllObjects {
        l2_advertisements: vec![Arc::new(object)],
        ..AllObjects::default()
    });
    let refusals = refusals
        .into_iter()
        .map(|refusal| (refusal.field, refusal.reason));
    (configuration, refusals.collect())
}

#[test]
fn annotations_say_how_often_and_what_about_conflicts() {
    let said = |annotations: Value| {
        let object = advertisement(annotations, json!({}));
        let (configuration, refusals) = read(object, &mut LastGood::default());
        assert_eq!(refusals, []);
        let read = &configuration.l2_advertisements[0];
        (read.refresh, read.on_conflict)
    };
    let seconds = |number| Some(Duration::from_secs(number));
    assert_eq!(said(json!({})), (seconds(60), OnConflict::Warn));
    for (text, refresh) in [
        ("0", None),
        ("0s", None),
        ("1s", seconds(1)),
        (" 1m30s ", seconds(90)),
        ("24h", seconds(86_400)),
        ("1500ms", Some(Duration::from_millis(1500))),
    ] {
        let read = said(json!({"ferrolb.io/refresh-interval": text}));
        assert_eq!(read, (refresh, OnConflict::Warn), "{text}");
    }
    for (text, on_conflict) in [
        ("warn", OnConflict::Warn),
        ("withhold", OnConflict::Withhold),
    ] {
        let read = said(json!({"ferrolb.io/address-conflict": text}));
        assert_eq!(read, (seconds(60), on_conflict), "{text}");
    }
    assert!(OnConflict::Warn < OnConflict::Withhold);
}

#[test]
fn an_annotation_that_means_nothing_is_refused_with_the_remedy() {
    const OF_AN_INTERVAL: &str =
        "write a duration from 1s to 24h such as 60s, 0 for never, or remove the annotation";
    const OF_A_CONFLICT: &str =
        "is neither warn nor withhold; write one of them, or remove the annotation for warn";
    let interval = "ferrolb.io/refresh-interval";
    let conflict = "ferrolb.io/address-conflict";
    for (key, text, reason) in [
        (
            interval,
            "999ms",
            format!("\"999ms\" is shorter than 1s; {OF_AN_INTERVAL}"),
        ),
        (
            interval,
            "24h1ns",
            format!("\"24h1ns\" is longer than 24h; {OF_AN_INTERVAL}"),
        ),
        (
            interval,
            "60",
            format!(
                "\"60\" is not a duration: each number needs one of the units ns, us, ms, s, m, h; {OF_AN_INTERVAL}"
            ),
        ),
        (
            interval,
            "",
            format!(
                "an empty text is not a duration; write one such as 90s or 1m30s; {OF_AN_INTERVAL}"
            ),
        ),
        (conflict, "Warn", format!("\"Warn\" {OF_A_CONFLICT}")),
        (conflict, "", format!("\"\" {OF_A_CONFLICT}")),
    ] {
        let object = advertisement(json!({key: text}), json!({}));
        let (configuration, refusals) = read(object, &mut LastGood::default());
        assert_eq!(
            refusals,
            [(format!("metadata.annotations[{key}]"), reason)],
            "{key}: {text}"
        );
        assert_eq!(configuration.l2_advertisements, []);
    }
}

#[test]
fn a_pattern_that_does_not_compile_leaves_the_former_interfaces_in_force() {
    let mut last_good = LastGood::default();
    let good = advertisement(json!({}), json!({"interfaces": ["br0", "/eth[0-9]+/"]}));
    let (before, refusals) = read(good, &mut last_good);
    assert_eq!(refusals, []);
    let interfaces = &before.l2_advertisements[0].interfaces;
    assert!(interfaces.contain("eth7") && !interfaces.contain("eth7.5"));
    let bad = advertisement(
        json!({}),
        json!({"interfaces": ["br0", "/eth[0-9/", "/eth(/"]}),
    );
    let (still, refusals) = read(bad, &mut last_good);
    assert_eq!(still, before);
    let fields: Vec<&str> = refusals.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["spec.interfaces[1]", "spec.interfaces[2]"]);
    assert!(
        refusals[0].1.contains("\"/eth[0-9/\" is no pattern"),
        "{refusals:?}"
    );
}
