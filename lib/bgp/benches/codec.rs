//! How long do messages take to write and to read, beside two independent implementations? One route, as many as an UPDATE
//! of 4,096 octets holds, and an OPEN.
//!
//! Each writes from its own values to whole messages, and reads whole messages into values of its own. That all three write
//! the same octets is checked first.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use ferrolb_bgp::Family;
use ferrolb_bgp::wire::{
    AddPath, AsPath, Capability, Community, Context, Message, NextHop, Open, Origin,
    PathAttributes, Template,
};
use ipnet::IpNet;
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use rustbgpd_wire::{
    AsPathSegment, Ipv4NlriEntry, Ipv4Prefix, Ipv4UnicastMode, PathAttribute, UpdateMessage,
};

const AS: u32 = 64512;
const COMMUNITY: u32 = 0xfc00_0064;
const HOP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// How many routes the UPDATEs have.
const ROUTES: [u32; 2] = [1, 800];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for count in ROUTES {
        updates(&mut criterion, count);
    }
    opens(&mut criterion);
    criterion.final_summary();
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + number)
}

/// What the speaker does: attributes and prefixes to a message.
fn write_update(attributes: &PathAttributes, nets: &[IpNet]) -> Vec<u8> {
    let family = Family::Ipv4Unicast;
    let hop = NextHop::Body(HOP);
    let template = Template::new(family, attributes, hop, &Context::default()).unwrap();
    let mut out = Vec::new();
    template.pack(&mut out, nets).unwrap();
    out
}

fn write_update_rustbgpd(attributes: &[PathAttribute], routes: &[Ipv4NlriEntry]) -> Bytes {
    let body = Ipv4UnicastMode::Body;
    let update = UpdateMessage::try_build(routes, &[], attributes, true, false, body).unwrap();
    let message = rustbgpd_wire::Message::Update(update);
    rustbgpd_wire::encode_message(&message).unwrap().freeze()
}

fn write_netgauze(message: &BgpMessage) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(&mut out).unwrap();
    out
}

fn read_netgauze(frame: &[u8], context: &mut BgpParsingContext) -> BgpMessage {
    BgpMessage::parse(&mut SliceReader::new(frame), context).unwrap()
}

fn netgauze_context() -> BgpParsingContext {
    BgpParsingContext::new(
        true,
        HashMap::new(),
        HashMap::new(),
        false,
        false,
        true,
        true,
    )
}

fn updates(criterion: &mut Criterion, count: u32) {
    let attributes = PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some(AsPath::of(AS)),
        communities: vec![Community(COMMUNITY)],
        ..PathAttributes::default()
    };
    let nets: Vec<IpNet> = (0..count)
        .map(|number| IpNet::new(IpAddr::V4(address(number)), 32).unwrap())
        .collect();
    let their_attributes = [
        PathAttribute::Origin(rustbgpd_wire::Origin::Igp),
        PathAttribute::AsPath(rustbgpd_wire::AsPath {
            segments: vec![AsPathSegment::AsSequence(vec![AS])],
        }),
        PathAttribute::NextHop(HOP),
        PathAttribute::Communities(vec![COMMUNITY]),
    ];
    let their_routes: Vec<Ipv4NlriEntry> = (0..count)
        .map(|number| Ipv4NlriEntry {
            path_id: 0,
            prefix: Ipv4Prefix {
                addr: address(number),
                len: 32,
            },
        })
        .collect();

    let frame = write_update(&attributes, &nets);
    assert_eq!(
        write_update_rustbgpd(&their_attributes, &their_routes),
        frame
    );
    let mut context = netgauze_context();
    let netgauze = read_netgauze(&frame, &mut context);
    assert_eq!(write_netgauze(&netgauze), frame);

    let mut group = criterion.benchmark_group(format!("writing an UPDATE of {count}"));
    group.throughput(Throughput::Elements(count.into()));
    group.bench_function("ferrolb", |bencher| {
        bencher.iter(|| write_update(black_box(&attributes), black_box(&nets)));
    });
    group.bench_function("rustbgpd", |bencher| {
        bencher
            .iter(|| write_update_rustbgpd(black_box(&their_attributes), black_box(&their_routes)));
    });
    group.bench_function("netgauze", |bencher| {
        bencher.iter(|| write_netgauze(black_box(&netgauze)));
    });
    group.finish();

    let mut group = criterion.benchmark_group(format!("reading an UPDATE of {count}"));
    group.throughput(Throughput::Elements(count.into()));
    group.bench_function("ferrolb", |bencher| {
        bencher.iter(|| Message::decode(black_box(&frame), &Context::default()).unwrap());
    });
    let bytes = Bytes::from(frame.clone());
    group.bench_function("rustbgpd", |bencher| {
        bencher.iter(|| {
            let message = rustbgpd_wire::decode_message(&mut black_box(&bytes).clone(), 4096);
            let rustbgpd_wire::Message::Update(raw) = message.unwrap() else {
                panic!("an UPDATE")
            };
            raw.parse(true, false, &[]).unwrap()
        });
    });
    group.bench_function("netgauze", |bencher| {
        bencher.iter(|| read_netgauze(black_box(&frame), &mut context));
    });
    group.finish();
}

fn opens(criterion: &mut Criterion) {
    // What a session offers.
    let open = Message::Open(Open::new(
        AS,
        90,
        HOP,
        vec![
            Capability::multiprotocol(Family::Ipv4Unicast),
            Capability::multiprotocol(Family::Ipv6Unicast),
            Capability::RouteRefresh,
            Capability::ExtendedMessage,
            Capability::FourOctetAs(AS),
            Capability::AddPath(Family::ALL.map(AddPath::sends).to_vec()),
            Capability::EnhancedRouteRefresh,
        ],
    ));
    let frame = open.encode(&Context::default()).unwrap();
    let bytes = Bytes::from(frame.clone());
    let rustbgpd = rustbgpd_wire::decode_message(&mut bytes.clone(), 4096).unwrap();
    let netgauze = read_netgauze(&frame, &mut netgauze_context());
    // They may divide capabilities into parameters in another way; the capabilities are the same.
    for theirs in [
        rustbgpd_wire::encode_message(&rustbgpd).unwrap().to_vec(),
        write_netgauze(&netgauze),
    ] {
        let read = Message::decode(&theirs, &Context::default());
        assert_eq!(read.as_ref(), Ok(&open));
    }

    let mut group = criterion.benchmark_group("writing an OPEN");
    group.bench_function("ferrolb", |bencher| {
        bencher.iter(|| black_box(&open).encode(&Context::default()).unwrap());
    });
    group.bench_function("rustbgpd", |bencher| {
        bencher.iter(|| rustbgpd_wire::encode_message(black_box(&rustbgpd)).unwrap());
    });
    group.bench_function("netgauze", |bencher| {
        bencher.iter(|| write_netgauze(black_box(&netgauze)));
    });
    group.finish();

    let mut group = criterion.benchmark_group("reading an OPEN");
    group.bench_function("ferrolb", |bencher| {
        bencher.iter(|| Message::decode(black_box(&frame), &Context::default()).unwrap());
    });
    group.bench_function("rustbgpd", |bencher| {
        bencher
            .iter(|| rustbgpd_wire::decode_message(&mut black_box(&bytes).clone(), 4096).unwrap());
    });
    group.bench_function("netgauze", |bencher| {
        bencher.iter(|| read_netgauze(black_box(&frame), &mut netgauze_context()));
    });
    group.finish();
}
