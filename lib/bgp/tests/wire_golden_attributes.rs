//! Octet by octet, what becomes of attributes that peers send and we never do: four-octet AS numbers beside two-octet ones
//! (RFC 6793), AS 0 (RFC 7607), what route reflectors add (RFC 4456).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod octets;

use ferrolb_bgp::wire::{AsPath, AsSegment, Context, DecodeError, Message, Update};
use octets::{hex, message};

fn read_update(body: &str, context: &Context) -> Result<Update, DecodeError> {
    match Message::decode(&message(2, body), context)? {
        Message::Update(update) => Ok(*update),
        other => panic!("{other:?}"),
    }
}

#[test]
fn as_0_in_a_path_makes_a_withdrawal_and_as_0_of_an_aggregator_is_left_out() {
    let hop = "40 03 04 c0000201";
    let read = |attributes: &str, context: &Context| {
        let octets = hex(attributes).len();
        read_update(
            &format!("0000 {octets:04x} {attributes} 18 cb0071"),
            context,
        )
        .unwrap()
    };
    let wide = Context::default();
    let narrow = Context {
        four_octet_as: false,
        ..wide
    };
    let path = |update: Update| update.fault.map(|fault| fault.kind);
    let attributes = format!("40 01 01 00  40 02 0a 02 02 0000fc00 00000000  {hop}");
    assert_eq!(path(read(&attributes, &wide)), Some(2));
    let attributes = format!("40 01 01 00  40 02 04 01 01 0000  {hop}");
    assert_eq!(path(read(&attributes, &narrow)), Some(2));
    let attributes = format!("40 01 01 00  40 02 00  {hop}  c0 07 08 00000000 c0000201");
    let update = read(&attributes, &wide);
    assert_eq!((update.attributes.aggregator, update.fault), (None, None));
    // The path of four-octet numbers is left out, and that of two stays.
    let attributes = format!("40 01 01 00  40 02 04 02 01 5ba0  {hop}  c0 11 06 02 01 00000000");
    let update = read(&attributes, &narrow);
    assert_eq!(update.attributes.as_path, Some(AsPath::of(23456)));
    assert_eq!(update.fault, None);
}

/// RFC 6793 section 4.2.3.
#[test]
fn four_octet_numbers_beside_two_octet_ones_take_their_place_or_are_left_out() {
    let narrow = Context {
        four_octet_as: false,
        ..Context::default()
    };
    let read = |attributes: &str| {
        let attributes = format!("40 01 01 00  40 03 04 c0000201  {attributes}");
        let octets = hex(&attributes).len();
        let update = format!("0000 {octets:04x} {attributes} 18 cb0071");
        let update = read_update(&update, &narrow).unwrap();
        assert_eq!(update.fault, None);
        let aggregator = update.attributes.aggregator.map(|a| a.asn);
        (update.attributes.as_path.unwrap(), aggregator)
    };
    let path = "40 02 06 02 02 fc00 5ba0";
    let path4 = "c0 11 0a 02 02 0000fc00 fa56ea00";
    let wide = AsPath(vec![AsSegment::Sequence(vec![64512, 4_200_000_000])]);
    let narrow = AsPath(vec![AsSegment::Sequence(vec![64512, 23456])]);
    let trans = "c0 07 06 5ba0 c0000201";
    let aggregator4 = "c0 12 08 fa56ea00 c0000201";
    // The attributes in whatever order.
    assert_eq!(
        read(&format!("{aggregator4} {path4} {path} {trans}")),
        (wide.clone(), Some(4_200_000_000))
    );
    // Whoever put its own number in knew nothing of AS4_PATH.
    let own = "c0 07 06 fde8 c0000201";
    assert_eq!(
        read(&format!("{path} {path4} {own} {aggregator4}")),
        (narrow.clone(), Some(65000))
    );
    assert_eq!(
        read(&format!("{path} {path4} {own}")),
        (wide.clone(), Some(65000))
    );
    // Alone it says nothing, and malformed it is left out.
    assert_eq!(read(&format!("{path} {aggregator4}")), (narrow, None));
    assert_eq!(
        read(&format!("{path} {path4} {trans} c0 12 07 fa56ea00 c00002")),
        (wide.clone(), Some(23456))
    );
    // Segments of a confederation have no place in it (section 6).
    let confederate = "c0 11 10 03 01 00000001 02 02 0000fc00 fa56ea00";
    assert_eq!(read(&format!("{path} {confederate}")), (wide, None));
    // In AS_PATH they stay in front of, or beside, what stays.
    let path = "40 02 0e 03 01 0001 02 02 fc00 5ba0 03 01 0002";
    let expected = [
        AsSegment::ConfederationSequence(vec![1]),
        AsSegment::Sequence(vec![64512, 4_200_000_000]),
    ];
    assert_eq!(read(&format!("{path} {path4}")).0.0, expected);
}

/// RFC 7606 section 5.2.
#[test]
fn a_malformed_attribute_without_a_route_ends_the_session_and_beside_one_it_does_not() {
    let bad = "40 01 01 03";
    let read = |withdrawn: &str, attributes: &str, announced: &str| {
        let (w, a) = (hex(withdrawn).len(), hex(attributes).len());
        let update = format!("{w:04x} {withdrawn} {a:04x} {attributes} {announced}");
        read_update(&update, &Context::default()).map(|update| update.fault.map(|f| f.kind))
    };
    let path_and_hop = "40 02 00  40 03 04 c0000201";
    let elsewhere = "80 0e 05 0001 85 00 00";
    let unreach = "80 0f 08 0002 01 20 20010db8";
    assert_eq!(
        read("", &format!("{bad} {path_and_hop}"), "18 cb0071"),
        Ok(Some(1))
    );
    assert_eq!(read("", &format!("{elsewhere} {bad}"), ""), Ok(Some(1)));
    for (withdrawn, attributes) in [
        ("", bad.to_owned()),
        ("18 cb0071", bad.to_owned()),
        ("", format!("{unreach} {bad}")),
        ("", "40 01 08 00".to_owned()),
    ] {
        let refused = read(withdrawn, &attributes, "").unwrap_err();
        let answer = refused.notification().unwrap();
        assert_eq!((answer.code, answer.subcode), (3, 1), "{attributes}");
    }
    // What is left out is no reason.
    assert_eq!(read("18 cb0071", "40 06 01 00", ""), Ok(None));
}

/// RFC 7606 sections 7.9 and 7.10.
#[test]
fn what_route_reflectors_add_counts_within_the_as_alone() {
    let read = |attribute: &str, internal: bool| {
        let attributes = format!("40 01 01 00  40 02 00  40 03 04 c0000201  {attribute}");
        let octets = hex(&attributes).len();
        let context = Context {
            internal,
            ..Context::default()
        };
        let update = format!("0000 {octets:04x} {attributes} 18 cb0071");
        let update = read_update(&update, &context).unwrap();
        let kinds = update.attributes.other.iter().map(|other| other.kind);
        (
            update.fault.map(|fault| fault.kind),
            kinds.collect::<Vec<_>>(),
        )
    };
    for (attribute, kind) in [("80 09 04 c0000202", 9), ("80 0a 08 c0000203 c0000204", 10)] {
        assert_eq!(read(attribute, true), (None, vec![kind]));
        assert_eq!(read(attribute, false), (None, vec![]));
    }
    for (attribute, kind) in [
        ("80 09 03 c00002", 9),
        ("80 0a 00", 10),
        ("80 0a 05 c000020300", 10),
        ("c0 09 04 c0000202", 9),
    ] {
        assert_eq!(read(attribute, true), (Some(kind), vec![]), "{attribute}");
        assert_eq!(read(attribute, false), (None, vec![]), "{attribute}");
    }
}
