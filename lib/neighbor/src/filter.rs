//! Which frames wake us? Classic BPF programs for the sockets' filters, as data.
//!
//! A packet socket sees every frame of its interface. The kernel runs these few instructions for each, and only what
//! is about an address of ours is copied and wakes the process, so that the node's own traffic and the questions of a busy
//! segment cost nothing here. Frames that may be malformed pass: the responder judges and counts them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockFilter {
    /// Operation, addressing mode and operand size.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
pub(crate) const LOAD_BYTE: u16 = 0x30;
const LOAD_LENGTH: u16 = 0x80;
pub(crate) const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_GREATER: u16 = 0x25;
const JUMP_IF_ANY_BIT: u16 = 0x45;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

/// Offsets from here on ask the kernel about the frame instead of reading it (`SKF_AD_OFF`).
const ANCILLARY: u32 = 0xffff_f000;
/// `SKF_AD_PKTTYPE`.
const PACKET_TYPE: u32 = ANCILLARY + 4;
/// `SKF_AD_VLAN_TAG_PRESENT`: the tag that the hardware took out of the frame.
const VLAN_TAG: u32 = ANCILLARY + 48;
/// `PACKET_OTHERHOST`; types below it are addressed to us, to all or to a group.
const OTHER_HOST: u32 = 3;
/// `PACKET_OUTGOING`, and what is no received frame either from there on.
const OUTGOING: u32 = 4;
/// More than any frame that is answered.
const WHOLE_FRAME: u32 = 2048;

pub(crate) const fn load(code: u16, k: u32) -> SockFilter {
    SockFilter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

pub(crate) const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> SockFilter {
    SockFilter { code, jt, jf, k }
}

pub(crate) const fn keep(bytes: u32) -> SockFilter {
    SockFilter {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: bytes,
    }
}

/// What is left of a frame whose VLAN tag was taken out of it: one byte, which no proper frame is, tells it apart.
pub(crate) const TAGGED: u32 = 1;
/// Ranges of addresses that a filter compares with, one after the other. More are joined over the smallest gaps between
/// them; what lies in the gaps passes, and the responder ignores it.
const RANGES: usize = 48;

/// Where the end of a program is to be jumped to, until its place is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Keep the frame, unless it is tagged or for another station.
    Judge,
    Drop,
}

/// A program under construction.
struct Program {
    instructions: Vec<SockFilter>,
    /// Unconditional jumps to an end.
    jumps: Vec<(usize, End)>,
}

impl Program {
    fn new() -> Self {
        Self {
            instructions: Vec::new(),
            jumps: Vec::new(),
        }
    }

    fn add(&mut self, instruction: SockFilter) {
        self.instructions.push(instruction);
    }

    fn go(&mut self, end: End) {
        self.jumps.push((self.instructions.len(), end));
        self.add(load(JUMP, 0));
    }

    /// Goes to an end unless the comparison holds.
    fn require(&mut self, code: u16, k: u32, otherwise: End) {
        self.add(jump(code, k, 1, 0));
        self.go(otherwise);
    }

    /// Goes to an end if the comparison holds.
    fn unless(&mut self, code: u16, k: u32, then: End) {
        self.add(jump(code, k, 0, 1));
        self.go(then);
    }

    /// Keeps the frame if the word at `offset` is in one of the ranges.
    fn keep_if_within(&mut self, offset: u32, ranges: &[(u32, u32)]) {
        self.add(load(LOAD_WORD, offset));
        for (index, (first, last)) in ranges.iter().enumerate() {
            // The ranges are sorted: what lies before one lies in none.
            let behind = 3 * (ranges.len() - index) - 1;
            let behind = u8::try_from(behind).expect("the ranges are few");
            self.add(jump(JUMP_IF_AT_LEAST, *first, 0, behind));
            self.add(jump(JUMP_IF_GREATER, *last, 1, 0));
            self.go(End::Judge);
        }
    }

    fn finish(mut self) -> Vec<SockFilter> {
        let judge = self.instructions.len();
        self.instructions.extend([
            load(LOAD_WORD, VLAN_TAG),
            jump(JUMP_IF_EQUAL, 0, 0, 5),
            load(LOAD_WORD, PACKET_TYPE),
            jump(JUMP_IF_AT_LEAST, OTHER_HOST, 1, 0),
            keep(WHOLE_FRAME),
            // Broadcast or multicast, and yet for another: of a VLAN that this interface does not have. The kernel says so and
            // takes the tag away before such a socket sees the frame.
            load(LOAD_BYTE, 0),
            jump(JUMP_IF_ANY_BIT, 1, 0, 1),
            keep(TAGGED),
            keep(0),
        ]);
        let drop = self.instructions.len() - 1;
        for (at, end) in self.jumps {
            let target = match end {
                End::Judge => judge,
                End::Drop => drop,
            };
            if let Some(instruction) = self.instructions.get_mut(at) {
                instruction.k = u32::try_from(target - at - 1).expect("a program is short");
            }
        }
        self.instructions
    }
}

/// Keeps ARP requests and replies that are addressed to us or to all and whose sender or target is one of `addresses`,
/// which are sorted; frames that end before they say what they are; and of tagged ones [`TAGGED`] bytes to be counted.
#[must_use]
pub fn arp_filter(addresses: impl IntoIterator<Item = Ipv4Addr>) -> Vec<SockFilter> {
    let ranges = ranges(addresses.into_iter().map(u32::from));
    let mut program = Program::new();
    program.add(load(LOAD_HALF, 12)); // EtherType
    program.require(JUMP_IF_EQUAL, 0x0806, End::Drop);
    program.add(load(LOAD_WORD, PACKET_TYPE));
    program.unless(JUMP_IF_AT_LEAST, OUTGOING, End::Drop);
    program.add(load(LOAD_LENGTH, 0));
    program.require(JUMP_IF_AT_LEAST, 42, End::Judge);
    program.keep_if_within(38, &ranges); // target
    program.keep_if_within(28, &ranges); // sender
    program.go(End::Drop);
    program.finish()
}

/// The same for Neighbor Solicitations and Advertisements that are addressed to us or to a group and are about one of
/// `addresses`, and ICMPv6 that ends before that. Of an address its last 32 bits are compared.
#[must_use]
pub fn neighbor_discovery_filter(addresses: impl IntoIterator<Item = Ipv6Addr>) -> Vec<SockFilter> {
    let last_bits = |ip: Ipv6Addr| u128::from(ip) as u32;
    let mut all: Vec<u32> = addresses.into_iter().map(last_bits).collect();
    all.sort_unstable();
    let ranges = ranges(all);
    let mut program = Program::new();
    program.add(load(LOAD_HALF, 12)); // EtherType
    program.require(JUMP_IF_EQUAL, 0x86dd, End::Drop);
    program.add(load(LOAD_BYTE, 20)); // next header
    program.require(JUMP_IF_EQUAL, 58, End::Drop);
    program.add(load(LOAD_WORD, PACKET_TYPE));
    program.unless(JUMP_IF_AT_LEAST, OUTGOING, End::Drop);
    program.add(load(LOAD_LENGTH, 0));
    program.require(JUMP_IF_AT_LEAST, 55, End::Judge);
    program.add(load(LOAD_BYTE, 54)); // ICMPv6 type: 135 or 136
    program.require(JUMP_IF_AT_LEAST, 135, End::Drop);
    program.unless(JUMP_IF_GREATER, 136, End::Drop);
    program.add(load(LOAD_LENGTH, 0));
    program.require(JUMP_IF_AT_LEAST, 78, End::Judge);
    program.keep_if_within(74, &ranges); // the end of the target
    program.go(End::Drop);
    program.finish()
}

/// The ranges that sorted numbers fill, at most [`RANGES`].
fn ranges(sorted: impl IntoIterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in sorted {
        match ranges.last_mut() {
            Some((_, last)) if number <= last.saturating_add(1) => *last = number.max(*last),
            _ => ranges.push((number, number)),
        }
    }
    if ranges.len() > RANGES {
        let gap = |pair: &[(u32, u32)]| match pair {
            [(_, last), (first, _)] => first - last,
            _ => 0,
        };
        let mut gaps: Vec<u32> = ranges.windows(2).map(gap).collect();
        gaps.sort_unstable_by(|one, other| other.cmp(one));
        // As many gaps stay as there may be ranges less one; of equally wide ones the first.
        let narrowest = gaps.get(RANGES - 2).copied().unwrap_or_default();
        let mut wider = gaps.iter().filter(|gap| **gap > narrowest).count();
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, end))
                    if first - *end < narrowest
                        || (first - *end == narrowest && wider >= RANGES - 1) =>
                {
                    *end = last;
                }
                Some((_, end)) => {
                    wider += usize::from(first - *end == narrowest);
                    joined.push((first, last));
                }
                None => joined.push((first, last)),
            }
        }
        ranges = joined;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Received<'a> {
        frame: &'a [u8],
        packet_type: u32,
        tagged: bool,
    }

    /// What the kernel does, for the instructions in use.
    fn run(program: &[SockFilter], received: &Received<'_>) -> u32 {
        let mut accumulator = 0u32;
        let mut at = 0;
        loop {
            let SockFilter { code, jt, jf, k } = program[at];
            at += 1;
            let width = match code {
                LOAD_LENGTH => {
                    accumulator = u32::try_from(received.frame.len()).unwrap();
                    continue;
                }
                LOAD_WORD => 4,
                LOAD_HALF => 2,
                LOAD_BYTE => 1,
                JUMP_IF_EQUAL => {
                    at += usize::from(if accumulator == k { jt } else { jf });
                    continue;
                }
                JUMP_IF_AT_LEAST => {
                    at += usize::from(if accumulator >= k { jt } else { jf });
                    continue;
                }
                JUMP_IF_GREATER => {
                    at += usize::from(if accumulator > k { jt } else { jf });
                    continue;
                }
                JUMP_IF_ANY_BIT => {
                    at += usize::from(if accumulator & k > 0 { jt } else { jf });
                    continue;
                }
                JUMP => {
                    at += k as usize;
                    continue;
                }
                RETURN => return k,
                other => panic!("instruction {other:#x} is not in use"),
            };
            accumulator = match k {
                PACKET_TYPE => received.packet_type,
                VLAN_TAG => u32::from(received.tagged),
                offset => {
                    let offset = offset as usize;
                    let Some(bytes) = received.frame.get(offset..offset + width) else {
                        return 0;
                    };
                    bytes
                        .iter()
                        .fold(0, |value, &byte| value << 8 | u32::from(byte))
                }
            };
        }
    }

    fn frame(ethertype: [u8; 2], at_20: [u8; 2], at_54: u8) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&ethertype);
        frame[20..22].copy_from_slice(&at_20);
        frame[54] = at_54;
        frame
    }

    const ARP_TYPE: [u8; 2] = [0x08, 0x06];
    const IPV6: [u8; 2] = [0x86, 0xdd];

    const OURS: u8 = 7;

    /// Frames about 192.0.2.7 and 2001:db8::7 unless something else is written over it.
    fn arp_frame(operation: u8, target: u8, sender: u8) -> Vec<u8> {
        let mut frame = frame(ARP_TYPE, [0, operation], 0);
        frame[28..32].copy_from_slice(&[192, 0, 2, sender]);
        frame[38..42].copy_from_slice(&[192, 0, 2, target]);
        frame
    }

    fn ndp_frame(next_header: u8, kind: u8, target: u8) -> Vec<u8> {
        let mut frame = frame(IPV6, [next_header, 255], kind);
        frame.resize(86, 0);
        frame[77] = target;
        frame
    }

    fn arp_program() -> Vec<SockFilter> {
        arp_filter(["192.0.2.7".parse().unwrap()])
    }

    fn ndp_program() -> Vec<SockFilter> {
        neighbor_discovery_filter(["2001:db8::7".parse().unwrap()])
    }

    fn kept(program: &[SockFilter], frame: &[u8], packet_type: u32, tagged: bool) -> u32 {
        run(
            program,
            &Received {
                frame,
                packet_type,
                tagged,
            },
        )
    }

    #[test]
    fn only_arp_about_our_addresses_passes_the_arp_filter() {
        let (whole, tag) = (WHOLE_FRAME, TAGGED);
        let other = |ethertype| {
            let mut frame = arp_frame(1, OURS, 1);
            frame[12..14].copy_from_slice(ethertype);
            frame
        };
        let cases = [
            ("request", arp_frame(1, OURS, 1), 1, false, whole),
            ("request to us", arp_frame(1, OURS, 1), 0, false, whole),
            ("request to another", arp_frame(1, OURS, 1), 3, false, 0),
            ("our own frame", arp_frame(1, OURS, 1), 4, false, 0),
            ("request for others", arp_frame(1, 8, 1), 1, false, 0),
            ("tagged", arp_frame(1, OURS, 1), 1, true, tag),
            ("of a VLAN not here", arp_frame(1, OURS, 1), 3, true, tag),
            ("tagged by us", arp_frame(1, OURS, 1), 4, true, 0),
            ("tagged for others", arp_frame(1, 8, 1), 1, true, 0),
            (
                "reply from our address",
                arp_frame(2, 1, OURS),
                1,
                false,
                whole,
            ),
            ("reply to another", arp_frame(2, 1, OURS), 3, false, 0),
            ("reply of others", arp_frame(2, 1, 6), 1, false, 0),
            ("IPv4", other(&[0x08, 0x00]), 1, false, 0),
            ("tag inside the frame", other(&[0x81, 0x00]), 1, false, 0),
        ];
        for (what, frame, packet_type, tagged, bytes) in cases {
            let result = kept(&arp_program(), &frame, packet_type, tagged);
            assert_eq!(result, bytes, "{what}");
        }
    }

    #[test]
    fn only_neighbor_discovery_about_our_addresses_passes_the_ndp_filter() {
        let (whole, tag) = (WHOLE_FRAME, TAGGED);
        let cases = [
            ("solicitation", ndp_frame(58, 135, OURS), 2, false, whole),
            (
                "solicitation to us",
                ndp_frame(58, 135, OURS),
                0,
                false,
                whole,
            ),
            (
                "solicitation to another",
                ndp_frame(58, 135, OURS),
                3,
                false,
                0,
            ),
            (
                "solicitation for others",
                ndp_frame(58, 135, 8),
                2,
                false,
                0,
            ),
            ("our own", ndp_frame(58, 135, OURS), 4, false, 0),
            ("tagged", ndp_frame(58, 135, OURS), 2, true, tag),
            ("of a VLAN not here", ndp_frame(58, 135, OURS), 3, true, tag),
            ("advertisement", ndp_frame(58, 136, OURS), 2, false, whole),
            (
                "router advertisement",
                ndp_frame(58, 134, OURS),
                2,
                false,
                0,
            ),
            ("redirect", ndp_frame(58, 137, OURS), 2, false, 0),
            ("echo request", ndp_frame(58, 128, OURS), 2, false, 0),
            ("UDP", ndp_frame(17, 135, OURS), 0, false, 0),
            ("ARP", arp_frame(1, OURS, 1), 0, false, 0),
        ];
        for (what, frame, packet_type, tagged, bytes) in cases {
            let result = kept(&ndp_program(), &frame, packet_type, tagged);
            assert_eq!(result, bytes, "{what}");
        }
    }

    #[test]
    fn a_frame_that_ends_before_it_says_what_it_is_passes_to_be_counted() {
        let pass = |program: &[SockFilter], frame: &[u8]| kept(program, frame, 0, false) > 0;
        let arp = arp_frame(1, 8, 8);
        assert!(pass(&arp_program(), &arp[..41]));
        assert!(!pass(&arp_program(), &arp[..42]), "about others");
        let icmp = ndp_frame(58, 128, 8);
        assert!(pass(&ndp_program(), &icmp[..54]));
        assert!(!pass(&ndp_program(), &icmp[..55]), "an echo request");
        assert!(pass(&ndp_program(), &ndp_frame(58, 135, 8)[..77]));
        assert!(
            !pass(&ndp_program(), &ndp_frame(58, 135, 8)[..78]),
            "about others"
        );
        // What is not even known to be of the protocol is none of ours.
        assert!(!pass(&ndp_program(), &icmp[..20]));
        assert!(!pass(&arp_program(), &[0; 13]));
    }

    /// So the kernel shows them to a socket of one protocol: broadcast or multicast, for another station, without the tag.
    #[test]
    fn a_frame_of_a_vlan_that_is_not_configured_is_told_from_one_for_another_station() {
        for (program, mut frame) in [
            (arp_program(), arp_frame(1, OURS, 1)),
            (ndp_program(), ndp_frame(58, 135, OURS)),
        ] {
            assert_eq!(kept(&program, &frame, OTHER_HOST, false), 0);
            for group in [0xff, 0x33] {
                frame[0] = group;
                assert_eq!(kept(&program, &frame, OTHER_HOST, false), TAGGED);
            }
        }
    }

    #[test]
    fn nothing_passes_while_no_address_is_ours() {
        let (arp, ndp) = (arp_filter([]), neighbor_discovery_filter([]));
        assert_eq!(kept(&arp, &arp_frame(1, OURS, OURS), 1, false), 0);
        assert_eq!(kept(&ndp, &ndp_frame(58, 135, OURS), 1, false), 0);
    }

    proptest! {
        /// However many addresses there are: none of ours is lost, the program is short, and of few ranges nothing else passes.
        #[test]
        fn every_address_of_ours_passes(
            runs in proptest::collection::vec((any::<u32>(), 0..6u32), 0..300),
            others in proptest::collection::vec(any::<u32>(), 0..50),
        ) {
            let ours: std::collections::BTreeSet<u32> = runs
                .iter()
                .flat_map(|(first, more)| *first..=first.saturating_add(*more))
                .collect();
            let program = arp_filter(ours.iter().map(|ip| Ipv4Addr::from(*ip)));
            // The kernel takes 4,096 instructions.
            prop_assert!(program.len() < 400);
            let about = |ip: u32| {
                let mut frame = arp_frame(1, 0, 0);
                frame[28..32].copy_from_slice(&[0; 4]);
                frame[38..42].copy_from_slice(&ip.to_be_bytes());
                frame
            };
            for ip in &ours {
                prop_assert_eq!(kept(&program, &about(*ip), 1, false), WHOLE_FRAME);
            }
            if runs.len() <= RANGES {
                for ip in others.iter().filter(|ip| !ours.contains(ip)).filter(|_| !ours.contains(&0)) {
                    prop_assert_eq!(kept(&program, &about(*ip), 1, false), 0);
                }
            }
        }
    }
}
