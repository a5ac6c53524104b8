//! Whatever frames arrive, nothing panics, hangs or grows, only what is held is answered for, and claims make no storm.
//!
//! The input is a script: a byte that chooses, a length, and a frame of that length. In between time goes on and addresses
//! are announced, handed over and withdrawn, so that claims meet every standing.
#![no_main]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ferrolb_neighbor::{
    Before, Claimant, Effect, MacAddr, OnConflict, Ownership, Responder, Standing, Terms, Verdict,
};
use libfuzzer_sys::fuzz_target;

/// The addresses that are in the seeds.
fn addresses() -> [IpAddr; 2] {
    ["192.0.2.10", "2001:db8::10"].map(|ip| ip.parse().expect("an address"))
}

/// How many gratuitous rounds are sent: whoever sends looks first whether the address is still held.
/// Every other question leaves.
fn announced(ownership: &mut Ownership, now: Instant) -> usize {
    let mut count = 0;
    let mut effects = 0;
    while let Some(effect) = ownership.poll_effect() {
        effects += 1;
        match effect {
            Effect::Announce(ip) => {
                count += usize::from(ownership.standing(ip) == Some(Standing::Held));
            }
            Effect::Conflict { mac, .. } => assert!(!mac.is_zero()),
            Effect::Probe(ip) if effects % 2 == 0 => ownership.asked(ip, now),
            Effect::Probe(_) | Effect::Standing(_) | Effect::Resolved(_) => {}
        }
    }
    assert!(effects < 64);
    count
}

fuzz_target!(|data: &[u8]| {
    let responder = Responder {
        mac: MacAddr(2, 0, 0, 0, 0, 1),
        link_local: Some("fe80::1".parse().expect("an address")),
    };
    let mut now = Instant::now();
    let mut ownership = Ownership::new(1);
    let mut rest = data;
    while let Some((&[choice, length], following)) = rest.split_first_chunk() {
        let (frame, following) = following.split_at(usize::from(length).min(following.len()));
        rest = following;
        let ip = addresses()[usize::from(choice >> 7)];
        match choice % 8 {
            0 => {
                now += Duration::from_millis(u64::from(length) * 20);
                ownership.tick(now);
                announced(&mut ownership, now);
            }
            1 | 2 => {
                let terms = Terms {
                    refresh: (length % 2 == 0).then_some(Duration::from_secs(1)),
                    on_conflict: if length % 3 == 0 {
                        OnConflict::Withhold
                    } else {
                        OnConflict::Warn
                    },
                };
                let before = if choice % 8 == 1 {
                    Before::Nobody
                } else {
                    Before::TheCluster
                };
                ownership.announce(ip, terms, before, now);
            }
            3 => match length % 8 {
                0 | 1 => ownership.hand_over(ip, now),
                2 => ownership.withdraw(ip),
                3 => ownership.set_alone(true, now),
                4 => ownership.set_alone(false, now),
                5 => ownership.announce_all_again(now),
                6 => {
                    ownership.refresh_all(now);
                    ownership.refresh(ip, now);
                    ownership.announce_again(ip, now);
                }
                _ => ownership.hand_over_all(now),
            },
            _ => {
                let verdict = responder.answer(frame, |ip| ownership.standing(ip));
                match verdict {
                    Verdict::Reply(reply) => {
                        assert_eq!(ownership.standing(reply.ip), Some(Standing::Held));
                        assert!(reply.frame.len() <= 86);
                        assert_eq!(reply.frame[0] & 1, 0, "an answer goes to one station");
                    }
                    Verdict::Claim(claim) => {
                        assert!(ownership.standing(claim.ip).is_some());
                        announced(&mut ownership, now);
                        let by = if length % 2 == 0 {
                            Claimant::Node
                        } else {
                            Claimant::Stranger
                        };
                        // As many as come in a moment make one defence at most.
                        for _ in 0..20 {
                            ownership.claimed(claim.ip, claim.mac, by, now);
                        }
                        assert!(announced(&mut ownership, now) <= 1);
                    }
                    Verdict::Ignored | Verdict::Dropped(_) => {}
                }
            }
        }
        announced(&mut ownership, now);
    }
});
