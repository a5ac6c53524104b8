//! What holds for every message: it survives writing and reading, and nothing that arrives makes the reader fall over.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{context, message, v4_net, v6_net};
use ferrolb_bgp::Family;
use ferrolb_bgp::wire::{
    AsPath, Context, Message, NextHop, Origin, PathAttributes, Template, frame_length,
    pack_withdrawals,
};
use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Every message in a stream of whole messages, none of which is longer than the peer takes.
fn messages(mut stream: &[u8], context: &Context) -> Vec<Message> {
    let mut all = Vec::new();
    while let Some(length) = frame_length(stream).unwrap() {
        assert!(length <= context.longest_message());
        all.push(Message::decode(&stream[..length], context).unwrap());
        stream = &stream[length..];
    }
    assert!(stream.is_empty());
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_written_is_read_back((context, message) in message()) {
        let bytes = match message.encode(&context) {
            Ok(bytes) => bytes,
            Err(error) => { prop_assert!(matches!(message, Message::Update(_)), "{error}"); return Ok(()) }
        };
        prop_assert_eq!(frame_length(&bytes), Ok(Some(bytes.len())));
        prop_assert_eq!(Message::decode(&bytes, &context).unwrap(), message);
    }

    #[test]
    fn nothing_that_arrives_makes_the_reader_panic(bytes in vec(any::<u8>(), 0..300), context in context()) {
        let _ = frame_length(&bytes);
        let _ = Message::decode(&bytes, &context);
        // And with a right header in front, so that the bodies are reached.
        for kind in 1..=5u8 {
            let mut frame = vec![0xff; 16];
            frame.extend_from_slice(&u16::try_from(19 + bytes.len()).unwrap().to_be_bytes());
            frame.push(kind);
            frame.extend_from_slice(&bytes);
            if let Err(error) = Message::decode(&frame, &context) {
                let answer = error.notification();
                let right = answer.is_none_or(|answer| match answer.code {
                    1..=3 => true,
                    7 => context.enhanced_refresh && answer.subcode == 1 && answer.data == frame,
                    _ => false,
                });
                prop_assert!(right);
            }
        }
    }

    #[test]
    fn a_message_with_some_octets_changed_does_not_either(
        (context, message) in message(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        if let Ok(mut bytes) = message.encode(&context) {
            for (at, octet) in changes {
                let at = at.index(bytes.len());
                bytes[at] = octet;
            }
            let _ = Message::decode(&bytes, &context).map_err(|error| (error.to_string(), error.notification()));
            // The same with the header repaired, and cut off somewhere.
            bytes.truncate(19 + cut.index(bytes.len() - 18));
            let length = u16::try_from(bytes.len()).unwrap();
            bytes[..16].fill(0xff);
            bytes[16..18].copy_from_slice(&length.to_be_bytes());
            bytes[18] = message.message_type() as u8;
            let _ = Message::decode(&bytes, &context).map(|message| message.encode(&context));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn packed_routes_arrive_complete_in_order_and_in_legal_messages(
        v4 in btree_set(v4_net(), 0..2500),
        v6 in btree_set(v6_net(), 0..600),
        over_v6 in any::<bool>(),
        agreed in context(),
    ) {
        let context = Context { four_octet_as: true, internal: false, ..agreed };
        let attributes = PathAttributes {
            origin: Some(Origin::Igp),
            as_path: Some(AsPath::of(64512)),
            ..PathAttributes::default()
        };
        let v6_hop = NextHop::Multiprotocol { global: Ipv6Addr::LOCALHOST, link_local: None };
        let v4_hop = if over_v6 { v6_hop } else { NextHop::Body(Ipv4Addr::LOCALHOST) };
        for (family, hop, prefixes) in [
            (Family::Ipv4Unicast, v4_hop, v4.into_iter().map(IpNet::V4).collect::<Vec<_>>()),
            (Family::Ipv6Unicast, v6_hop, v6.into_iter().map(IpNet::V6).collect()),
        ] {
            let template = Template::new(family, &attributes, hop, &context).unwrap();
            let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
            let (mut done, mut gone) = (0, 0);
            while done < prefixes.len() {
                done += template.pack(&mut announced, &prefixes[done..]).unwrap();
            }
            while gone < prefixes.len() {
                gone += pack_withdrawals(&mut withdrawn, family, &prefixes[gone..], &context).unwrap();
            }
            let mut told = Vec::new();
            for message in messages(&announced, &context) {
                let Message::Update(update) = message else { panic!() };
                prop_assert_eq!(update.fault, None);
                told.extend(update.announced.into_iter().map(IpNet::V4));
                told.extend(update.mp_reach.into_iter().flat_map(|reach| reach.prefixes));
            }
            prop_assert_eq!(&told, &prefixes);
            let mut taken_back = Vec::new();
            for message in messages(&withdrawn, &context) {
                let Message::Update(update) = message else { panic!() };
                taken_back.extend(update.withdrawn.into_iter().map(IpNet::V4));
                taken_back.extend(update.mp_unreach.into_iter().flat_map(|unreach| unreach.prefixes));
            }
            prop_assert_eq!(&taken_back, &prefixes);
        }
    }
}
