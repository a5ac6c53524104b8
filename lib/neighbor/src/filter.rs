//! Which frames wake us? Classic BPF programs for the sockets' filters, as data.
//!
//! A packet socket sees every frame of its interface. The kernel runs these few instructions for each, and only what
//! may need an answer is copied and wakes the process, so that the node's own traffic costs nothing here. Frames that
//! may be malformed pass: the responder judges and counts them.

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
const LOAD_BYTE: u16 = 0x30;
const LOAD_LENGTH: u16 = 0x80;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
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

const fn load(code: u16, k: u32) -> SockFilter {
    SockFilter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> SockFilter {
    SockFilter { code, jt, jf, k }
}

const fn keep(bytes: u32) -> SockFilter {
    SockFilter {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: bytes,
    }
}

/// What is left of a frame whose VLAN tag was taken out of it: one byte, which no proper frame is, tells it apart.
pub(crate) const TAGGED: u32 = 1;

/// Keeps ARP requests and replies that are addressed to us or to all, frames that end before they say what they are, and of
/// tagged ones [`TAGGED`] bytes to be counted.
pub const ARP: [SockFilter; 16] = [
    load(LOAD_HALF, 12), // EtherType
    jump(JUMP_IF_EQUAL, 0x0806, 0, 13),
    load(LOAD_WORD, PACKET_TYPE),
    jump(JUMP_IF_AT_LEAST, OUTGOING, 11, 0),
    load(LOAD_WORD, VLAN_TAG),
    jump(JUMP_IF_EQUAL, 0, 0, 8),
    load(LOAD_WORD, PACKET_TYPE),
    jump(JUMP_IF_AT_LEAST, OTHER_HOST, 7, 0),
    load(LOAD_LENGTH, 0),
    jump(JUMP_IF_AT_LEAST, 22, 0, 3),
    load(LOAD_HALF, 20), // ARP operation
    jump(JUMP_IF_EQUAL, 1, 1, 0),
    jump(JUMP_IF_EQUAL, 2, 0, 2),
    keep(WHOLE_FRAME),
    keep(TAGGED),
    keep(0),
];

/// The same for Neighbor Solicitations and Advertisements that are addressed to us or to a group, and ICMPv6 that ends
/// before its type.
pub const NEIGHBOR_DISCOVERY: [SockFilter; 18] = [
    load(LOAD_HALF, 12), // EtherType
    jump(JUMP_IF_EQUAL, 0x86dd, 0, 15),
    load(LOAD_BYTE, 20), // next header
    jump(JUMP_IF_EQUAL, 58, 0, 13),
    load(LOAD_WORD, PACKET_TYPE),
    jump(JUMP_IF_AT_LEAST, OUTGOING, 11, 0),
    load(LOAD_LENGTH, 0),
    jump(JUMP_IF_AT_LEAST, 55, 0, 3),
    load(LOAD_BYTE, 54), // ICMPv6 type
    jump(JUMP_IF_EQUAL, 135, 1, 0),
    jump(JUMP_IF_EQUAL, 136, 0, 6),
    load(LOAD_WORD, VLAN_TAG),
    jump(JUMP_IF_EQUAL, 0, 0, 3),
    load(LOAD_WORD, PACKET_TYPE),
    jump(JUMP_IF_AT_LEAST, OTHER_HOST, 2, 0),
    keep(WHOLE_FRAME),
    keep(TAGGED),
    keep(0),
];

#[cfg(test)]
mod tests {
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
    fn only_arp_to_us_or_to_all_passes_the_arp_filter() {
        let (whole, tag) = (WHOLE_FRAME, TAGGED);
        let cases = [
            ("request", ARP_TYPE, 1, 1, false, whole),
            ("request to us", ARP_TYPE, 1, 0, false, whole),
            ("request to another station", ARP_TYPE, 1, 3, false, 0),
            ("our own frame", ARP_TYPE, 1, 4, false, 0),
            ("tagged", ARP_TYPE, 1, 1, true, tag),
            (
                "of a VLAN that is not configured here",
                ARP_TYPE,
                1,
                3,
                true,
                tag,
            ),
            ("tagged by us", ARP_TYPE, 1, 4, true, 0),
            ("reply to us", ARP_TYPE, 2, 0, false, whole),
            ("reply to all", ARP_TYPE, 2, 1, false, whole),
            ("reply to another station", ARP_TYPE, 2, 3, false, 0),
            ("reverse ARP", ARP_TYPE, 3, 1, false, 0),
            ("IPv4", [0x08, 0x00], 1, 0, false, 0),
            ("tag inside the frame", [0x81, 0x00], 1, 1, false, 0),
        ];
        for (what, ethertype, operation, packet_type, tagged, bytes) in cases {
            let frame = frame(ethertype, [0, operation], 0);
            assert_eq!(kept(&ARP, &frame, packet_type, tagged), bytes, "{what}");
        }
    }

    #[test]
    fn only_neighbor_discovery_passes_the_ndp_filter() {
        let (whole, tag) = (WHOLE_FRAME, TAGGED);
        let cases = [
            ("solicitation to a group", IPV6, 58, 135, 2, false, whole),
            ("solicitation to us", IPV6, 58, 135, 0, false, whole),
            ("solicitation to another", IPV6, 58, 135, 3, false, 0),
            ("our own", IPV6, 58, 135, 4, false, 0),
            ("tagged", IPV6, 58, 135, 2, true, tag),
            ("of a VLAN not configured here", IPV6, 58, 135, 3, true, tag),
            ("advertisement", IPV6, 58, 136, 2, false, whole),
            ("echo request", IPV6, 58, 128, 0, false, 0),
            ("tagged echo request", IPV6, 58, 128, 0, true, 0),
            ("UDP", IPV6, 17, 135, 0, false, 0),
            ("ARP", ARP_TYPE, 58, 135, 0, false, 0),
        ];
        for (what, ethertype, next_header, kind, packet_type, tagged, bytes) in cases {
            let frame = frame(ethertype, [next_header, 255], kind);
            let result = kept(&NEIGHBOR_DISCOVERY, &frame, packet_type, tagged);
            assert_eq!(result, bytes, "{what}");
        }
    }

    #[test]
    fn a_frame_that_ends_before_it_says_what_it_is_passes_to_be_counted() {
        let pass = |program: &[SockFilter], frame: &[u8]| kept(program, frame, 0, false) > 0;
        let arp = frame(ARP_TYPE, [0, 3], 0);
        assert!(pass(&ARP, &arp[..21]));
        assert!(!pass(&ARP, &arp[..22]), "neither request nor reply");
        let icmp = frame(IPV6, [58, 255], 128);
        assert!(pass(&NEIGHBOR_DISCOVERY, &icmp[..54]));
        assert!(!pass(&NEIGHBOR_DISCOVERY, &icmp[..55]), "an echo request");
        // What is not even known to be of the protocol is none of ours.
        assert!(!pass(&NEIGHBOR_DISCOVERY, &icmp[..20]));
        assert!(!pass(&ARP, &[0; 13]));
    }
}
