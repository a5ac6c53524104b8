//! Whatever arrives: no panic, and no memory without bound.

use foca::{Codec, Header, Member, Message, PostcardCodec, State};
use proptest::prelude::*;

use super::*;
use crate::runtime::MESSAGE;

fn plain(now: Instant) -> Membership {
    let own = Node::new("own", addr(0), 1);
    Membership::new(own, None, [3; 32], Timing::default(), now)
}

/// Gossip from `from` that says `state` of `about`.
fn gossip(from: &Node, about: impl IntoIterator<Item = Node>, state: State) -> Vec<u8> {
    let header = Header {
        src: from.clone(),
        src_incarnation: 0,
        dst: Node::new("own", addr(0), 1),
        message: Message::Gossip,
    };
    let members: Vec<_> = about.into_iter().collect();
    let mut datagram = vec![0, MESSAGE];
    PostcardCodec.encode_header(&header, &mut datagram).unwrap();
    datagram.extend((members.len() as u16).to_be_bytes());
    for node in members {
        let member = Member::new(node, 0, state);
        PostcardCodec.encode_member(&member, &mut datagram).unwrap();
    }
    datagram
}

#[test]
fn forged_members_do_not_grow_memory_without_end() {
    let now = Cluster::empty(10).now;
    let mut target = plain(now);
    let most = 300;
    target.most_known = most;
    let mut refused = 0;
    for number in 1..most + 200 {
        let forged = Node::new(name(number), addr(number), 1);
        let datagram = gossip(&forged, [], State::Alive);
        let judged = target.handle_datagram(now, &datagram);
        refused += usize::from(judged == Err(DropReason::Full));
        while target.poll_output().is_some() {}
    }
    assert_eq!(target.names().len(), most + 1);
    assert_eq!(refused, 199);
}

#[test]
fn one_address_with_lives_without_end_takes_one_timer() {
    let now = Cluster::empty(10).now;
    let mut target = plain(now);
    let from = Node::new("a", addr(1), 1);
    for generation in 0..10_000 {
        let of = Node::new("b", addr(2), generation);
        target
            .handle_datagram(now, &gossip(&from, [of], State::Down))
            .unwrap();
        while target.poll_output().is_some() {}
    }
    assert!(target.effects.timers() < 10, "{}", target.effects.timers());
}

#[test]
fn members_that_come_and_go_without_end_leave_no_timers() {
    let now = Cluster::empty(10).now;
    let mut target = plain(now);
    for generation in 0..10_000 {
        let from = Node::new("a", addr(1), generation * 2);
        let alive = gossip(&from, [], State::Alive);
        target.handle_datagram(now, &alive).unwrap();
        // Its next life says that this one is down, so that we know nobody for a moment.
        let of = Node::new("a", addr(1), generation * 2);
        let down = gossip(&from, [of], State::Down);
        target.handle_datagram(now, &down).unwrap();
        while target.poll_output().is_some() {}
    }
    assert!(target.effects.timers() < 20, "{}", target.effects.timers());
}

#[test]
fn what_is_too_long_is_not_read() {
    let now = Cluster::empty(10).now;
    let mut target = plain(now);
    let judged = target.handle_datagram(now, &[0; LONGEST_DATAGRAM + 1]);
    assert_eq!(judged, Err(DropReason::Oversized));
    let judged = target.handle_datagram(now, &[0; LONGEST_DATAGRAM]);
    assert_eq!(judged, Err(DropReason::Malformed));
}

proptest! {
    #[test]
    fn random_datagrams_never_panic(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8),
        version in 0_u8..3,
        kind in 0_u8..5,
    ) {
        let now = Cluster::empty(11).now;
        let own = Node::new("own", addr(9), 1);
        let mut sealed = Membership::new(own, Some(SECRET), [3; 32], Timing::default(), now);
        let mut plain = plain(now);
        for datagram in datagrams {
            let datagram: Vec<_> = [version, kind].into_iter().chain(datagram).collect();
            let _ = plain.handle_datagram(now, &datagram);
            let _ = sealed.handle_datagram(now, &datagram);
            prop_assert_eq!(sealed.names().len(), 1);
        }
    }
}
