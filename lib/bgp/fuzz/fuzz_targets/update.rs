//! Whatever an UPDATE holds, it means the same after it was written and read again, and its routes can be packed.
//!
//! The input is an octet that says what was agreed on, and the body of the UPDATE.
#![no_main]

use ferrolb_bgp::Family;
use ferrolb_bgp::wire::{Message, NextHop, Template, frame_length, pack_withdrawals};
use ferrolb_bgp_fuzz::{context, frame, read};
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use std::net::{Ipv4Addr, Ipv6Addr};

fuzz_target!(|data: &[u8]| {
    let Some((&bits, body)) = data.split_first() else {
        return;
    };
    let context = context(bits);
    let Some(message) = read(&frame(2, body), &context) else {
        return;
    };
    let Message::Update(update) = message else {
        panic!("{message:?}");
    };
    if update.end_of_rib().is_some() {
        assert!(update.announced.is_empty() && update.withdrawn.is_empty());
    }
    let mut nets: Vec<IpNet> = update.announced.iter().copied().map(IpNet::V4).collect();
    nets.extend(update.withdrawn.iter().copied().map(IpNet::V4));
    nets.extend(update.mp_reach.iter().flat_map(|reach| &reach.prefixes));
    nets.extend(update.mp_unreach.iter().flat_map(|gone| &gone.prefixes));
    for family in Family::ALL {
        let of_family = |net: &&IpNet| Family::of(net) == family;
        let nets: Vec<IpNet> = nets.iter().filter(of_family).copied().collect();
        let hop = match family {
            Family::Ipv4Unicast if bits & 0x40 == 0 => NextHop::Body(Ipv4Addr::LOCALHOST),
            _ => NextHop::Multiprotocol {
                global: Ipv6Addr::LOCALHOST,
                link_local: (bits & 0x80 != 0).then_some(Ipv6Addr::LOCALHOST),
            },
        };
        // Attributes that fill a message leave no room for routes.
        let Ok(template) = Template::new(family, &update.attributes, hop, &context) else {
            continue;
        };
        let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
        let (mut done, mut gone) = (0, 0);
        while done < nets.len() {
            let more = template.pack(&mut announced, &nets[done..]);
            let more = more.expect("a template packs");
            assert!(more > 0);
            done += more;
        }
        while gone < nets.len() {
            let more = pack_withdrawals(&mut withdrawn, family, &nets[gone..], &context);
            let more = more.expect("withdrawals fit");
            assert!(more > 0);
            gone += more;
        }
        for (mut stream, announces) in [(&announced[..], true), (&withdrawn[..], false)] {
            let mut told = Vec::new();
            while let Some(length) = frame_length(stream).expect("whole messages") {
                let (frame, rest) = stream.split_at(length);
                stream = rest;
                let Some(Message::Update(update)) = read(frame, &context) else {
                    panic!("it reads what it packs");
                };
                if announces {
                    told.extend(update.announced.into_iter().map(IpNet::V4));
                    told.extend(update.mp_reach.into_iter().flat_map(|reach| reach.prefixes));
                } else {
                    told.extend(update.withdrawn.into_iter().map(IpNet::V4));
                    told.extend(update.mp_unreach.into_iter().flat_map(|gone| gone.prefixes));
                }
            }
            assert!(stream.is_empty());
            assert_eq!(told, nets);
        }
    }
});
