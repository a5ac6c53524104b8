//! Whatever arrives at the membership socket, nothing panics, hangs or grows, and without the secret nobody becomes a member.
//!
//! The input is a script: a byte that chooses, a length, a datagram. Datagrams go to a member with a secret and to one
//! without, where their content reaches the decoders; in between time goes on, so that what was said has its effects.
#![no_main]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ferrolb_membership::{LONGEST_DATAGRAM, Membership, Node, Output, Timing};
use libfuzzer_sys::fuzz_target;

/// The address that is in the seeds.
fn node() -> Node {
    Node::new("own", SocketAddr::from(([10, 0, 0, 0], 7946)), 1)
}

fn drain(member: &mut Membership) -> Vec<Vec<u8>> {
    let outputs = std::iter::from_fn(|| member.poll_output());
    let sent: Vec<_> = outputs
        .filter_map(|output| match output {
            Output::Send { bytes, .. } => Some(bytes),
            _ => None,
        })
        .collect();
    assert!(sent.iter().all(|bytes| bytes.len() <= LONGEST_DATAGRAM));
    sent
}

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let mut plain = Membership::new(node(), None, [1; 32], Timing::default(), now);
    let mut sealed = Membership::new(node(), Some(b"secret"), [2; 32], Timing::default(), now);
    let mut rest = data;
    while let Some((&[choice, length], following)) = rest.split_first_chunk() {
        let (datagram, following) = following.split_at(usize::from(length).min(following.len()));
        rest = following;
        match choice % 8 {
            // Long enough for every timer but those that forget.
            0 => now += Duration::from_millis(u64::from(length) * 10),
            1 => {
                now = plain.deadline().max(now);
                let _ = plain.tick(now);
            }
            2 => plain.expect_answers(now),
            3 => {
                // Sealed by the member itself: it must not listen to its own words.
                let _ = sealed.announce_to(now, SocketAddr::from(([10, 0, 0, choice], 7946)));
                for bytes in drain(&mut sealed) {
                    assert!(sealed.handle_datagram(now, &bytes).is_err());
                }
            }
            _ => {
                let _ = plain.handle_datagram(now, datagram);
                let _ = sealed.handle_datagram(now, datagram);
            }
        }
        let _ = sealed.tick(now);
        let (answers, others) = (drain(&mut plain), drain(&mut sealed));
        // One datagram makes a member speak to a few others at most.
        assert!(answers.len() < 2000 && others.len() < 16);
        assert_eq!(*sealed.names(), BTreeSet::from(["own".to_owned()]));
        assert!(plain.names().len() <= data.len() + 1);
    }
});
