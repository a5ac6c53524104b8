use std::collections::VecDeque;
use std::time::Duration;

use super::*;

fn now() -> Instant {
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin")]
    Instant::now()
}

fn addr(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], 7946))
}

/// An envelope, and what it took in.
struct Node {
    envelope: Envelope,
    addr: SocketAddr,
    taken: Vec<Vec<u8>>,
    dropped: Vec<DropReason>,
}

impl Node {
    fn new(number: usize, started: u64, secret: Option<&[u8]>) -> Self {
        let random = u128::from(started) << 64 | number as u128;
        Self {
            envelope: Envelope::new(addr(number), started, secret, random.to_be_bytes()),
            addr: addr(number),
            taken: Vec::new(),
            dropped: Vec::new(),
        }
    }

    fn sealed(number: usize, started: u64) -> Self {
        Self::new(number, started, Some(b"secret"))
    }

    /// A content says who has sent it, as the real ones do.
    fn say(&mut self, now: Instant, to: SocketAddr, word: u8) -> Vec<Datagram> {
        let content = [vec![1, word], postcard_addr(self.addr)].concat();
        self.envelope.send(now, to, &content)
    }

    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Vec<Datagram> {
        let mut send = Vec::new();
        let judged = self
            .envelope
            .open(now, datagram)
            .and_then(|(content, seen)| {
                if content[0] == GREETING {
                    let greeting: Greeting = postcard::from_bytes(&content[1..]).unwrap();
                    let who = (greeting.addr, greeting.generation);
                    return self
                        .envelope
                        .admit(now, seen, who, Some(&greeting), &mut send);
                }
                let from = postcard::from_bytes(&content[2..]).unwrap();
                self.envelope.admit(now, seen, (from, 1), None, &mut send)?;
                self.taken.push(vec![content[1]]);
                Ok(())
            });
        self.dropped.extend(judged.err());
        send
    }
}

fn postcard_addr(addr: SocketAddr) -> Vec<u8> {
    postcard::to_extend(&addr, Vec::new()).unwrap()
}

/// Carries datagrams to and fro until nobody says anything more; returns all that was said.
fn deliver(now: Instant, flying: Vec<Datagram>, nodes: &mut [&mut Node]) -> Vec<Datagram> {
    let mut said = Vec::new();
    let mut flying = VecDeque::from(flying);
    while let Some((to, datagram)) = flying.pop_front() {
        said.push((to, datagram.clone()));
        assert!(said.len() < 10_000, "they speak without end");
        let node = nodes.iter_mut().find(|node| node.addr == to);
        flying.extend(node.map_or(Vec::new(), |node| node.receive(now, &datagram)));
    }
    said
}

/// Two that know each other.
fn acquainted(now: Instant) -> (Node, Node) {
    let (mut a, mut b) = (Node::sealed(1, 100), Node::sealed(2, 100));
    let said = a.say(now, b.addr, 0);
    deliver(now, said, &mut [&mut a, &mut b]);
    let said = b.say(now, a.addr, 0);
    deliver(now, said, &mut [&mut a, &mut b]);
    assert_eq!((a.taken.len(), b.taken.len()), (1, 1));
    assert_eq!((a.dropped.len(), b.dropped.len()), (0, 0));
    (a, b)
}

#[test]
fn what_is_said_before_two_know_each_other_arrives_after_a_greeting_each_way() {
    let now = now();
    let (mut a, mut b) = (Node::sealed(1, 1), Node::sealed(2, 1));
    let flying = [a.say(now, b.addr, 7), a.say(now, b.addr, 8)].concat();
    let said = deliver(now, flying, &mut [&mut a, &mut b]);
    assert_eq!(b.taken, [[7], [8]]);
    assert!(b.dropped.is_empty() && a.dropped.is_empty());
    assert_eq!(said.len(), 6, "two greetings, their answers, two words");
}

#[test]
fn among_acquainted_a_word_is_one_datagram_that_adds_its_overhead() {
    let now = now();
    let (mut a, mut b) = acquainted(now);
    let said = a.say(now, b.addr, 9);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].1.len(), 2 + postcard_addr(a.addr).len() + OVERHEAD);
    deliver(now, said, &mut [&mut b]);
    assert_eq!(b.taken.last().unwrap(), &[9]);
}

#[test]
fn the_same_word_is_never_sealed_the_same_way_twice() {
    let now = now();
    let (mut a, b) = acquainted(now);
    assert_ne!(a.say(now, b.addr, 1), a.say(now, b.addr, 1));
}

#[test]
fn any_changed_bit_is_noticed() {
    let now = now();
    let (mut a, mut b) = acquainted(now);
    let (_, datagram) = a.say(now, b.addr, 1).remove(0);
    for bit in 0..datagram.len() * 8 {
        let mut changed = datagram.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(b.envelope.open(now, &changed).is_err(), "bit {bit}");
    }
}

#[test]
fn foreign_datagrams_are_named() {
    let now = now();
    let (mut a, mut other) = (Node::sealed(1, 1), Node::new(2, 1, Some(b"other")));
    let mut plain = Node::new(3, 1, None);
    let to = a.addr;
    let mut judge = |datagram: &[u8]| a.envelope.open(now, datagram).err();
    let other = other.say(now, to, 1).remove(0).1;
    assert_eq!(judge(&other), Some(DropReason::Authentication));
    assert_eq!(
        judge(&plain.say(now, to, 1)[0].1),
        Some(DropReason::Unencrypted)
    );
    assert_eq!(judge(&[]), Some(DropReason::Truncated));
    assert_eq!(judge(&[SEALED; OVERHEAD - 1]), Some(DropReason::Truncated));
    assert_eq!(judge(&[9, 9]), Some(DropReason::Version));
    let judged = plain.envelope.open(now, &other).err();
    assert_eq!(judged, Some(DropReason::Encrypted));
}

#[test]
fn a_datagram_is_taken_once_and_in_any_order() {
    let now = now();
    let (mut a, mut b) = acquainted(now);
    b.taken.clear();
    let said: Vec<_> = (0..5).flat_map(|word| a.say(now, b.addr, word)).collect();
    for (_, datagram) in said.iter().rev().chain(&said) {
        assert!(b.receive(now, datagram).is_empty());
    }
    assert_eq!(b.taken, [[4], [3], [2], [1], [0]]);
    assert_eq!(b.dropped, [DropReason::Replayed; 5]);
}

#[test]
fn a_first_greeting_that_is_replayed_is_answered_and_changes_nothing() {
    let now = now();
    let (mut a, mut b) = (Node::sealed(1, 1), Node::sealed(2, 1));
    let greeting = a.say(now, b.addr, 1);
    deliver(now, greeting.clone(), &mut [&mut a, &mut b]);
    for _ in 0..10 {
        let answer = b.receive(now, &greeting[0].1);
        assert_eq!(answer.len(), 1, "one for one");
        assert!(answer[0].1.len() <= greeting[0].1.len() + 8);
        assert!(a.receive(now, &answer[0].1).is_empty());
    }
    assert_eq!(b.taken, [[1]]);
}

#[test]
fn what_was_sealed_for_a_former_life_of_the_receiver_is_dropped() {
    let now = now();
    let (mut a, b) = acquainted(now);
    let word = a.say(now, b.addr, 5);
    let mut b = Node::sealed(2, 200);
    // It is answered, so that the sender learns of the new life and is understood from then on.
    deliver(now, word, &mut [&mut a, &mut b]);
    assert!(b.taken.is_empty());
    assert_eq!(b.dropped, [DropReason::OldEpoch]);
    let word = a.say(now, b.addr, 6);
    deliver(now, word, &mut [&mut a, &mut b]);
    assert_eq!(b.taken, [[6]]);
}

#[test]
fn what_a_former_life_of_the_sender_sealed_is_dropped_even_if_it_never_arrived_before() {
    let now = now();
    let (mut a, mut b) = acquainted(now);
    let held_back = a.say(now, b.addr, 5);
    let mut a = Node::sealed(1, 200);
    let word = a.say(now, b.addr, 6);
    deliver(now, word, &mut [&mut a, &mut b]);
    deliver(now, held_back, &mut [&mut a, &mut b]);
    assert_eq!(b.taken, [[0], [6]]);
    assert_eq!(b.dropped, [DropReason::OldEpoch]);
    let word = a.say(now, b.addr, 7);
    deliver(now, word, &mut [&mut a, &mut b]);
    assert_eq!(
        b.taken.last().unwrap(),
        &[7],
        "the present life is heard on"
    );
}

#[test]
fn a_clock_that_was_set_back_locks_nobody_out() {
    let now = now();
    let (_, mut b) = acquainted(now);
    let mut c = Node::sealed(3, 100);
    let mut a = Node::sealed(1, 50);
    for (word, other) in [(1, &mut b), (2, &mut c)] {
        let said = a.say(now, other.addr, word);
        deliver(now, said, &mut [&mut a, other]);
        assert_eq!(other.taken.last().unwrap(), &[word]);
    }
    // It can be answered too, by both.
    for (word, other) in [(3, &mut b), (4, &mut c)] {
        let said = other.say(now, a.addr, word);
        deliver(now, said, &mut [&mut a, other]);
        assert_eq!(a.taken.last().unwrap(), &[word]);
    }
}

#[test]
fn two_nodes_at_one_address_do_not_greet_without_end() {
    let now = now();
    let (mut a, mut b) = acquainted(now);
    let mut twin = Node::sealed(1, 100);
    for word in 0..10 {
        let said = twin.say(now, b.addr, word);
        deliver(now, said, &mut [&mut twin, &mut b]);
        let said = a.say(now, b.addr, word);
        deliver(now, said, &mut [&mut a, &mut b]);
    }
}

#[test]
fn who_is_said_to_live_anew_is_greeted_before_it_is_spoken_to() {
    let now = now();
    let (mut a, b) = acquainted(now);
    a.envelope.heard_of(b.addr, 1);
    assert_eq!(a.say(now, b.addr, 1)[0].1.len(), 2 + 7 + OVERHEAD);
    a.envelope.heard_of(b.addr, 2);
    let mut b = Node::sealed(2, 200);
    let said = a.say(now, b.addr, 5);
    deliver(now, said, &mut [&mut a, &mut b]);
    assert_eq!(b.taken, [[5]]);
}

#[test]
fn an_epoch_speaks_for_one_address() {
    let now = now();
    let (mut a, mut b) = acquainted(now);
    b.taken.clear();
    a.addr = addr(9);
    let said = a.say(now, b.addr, 5);
    deliver(now, said, &mut [&mut b]);
    assert!(b.taken.is_empty());
    assert_eq!(b.dropped, [DropReason::Malformed]);
}

#[test]
fn forged_senders_are_not_remembered() {
    let now = now();
    let mut a = Node::sealed(1, 1);
    for number in 2..50 {
        let mut forger = Node::new(number, 1, Some(b"wrong"));
        let said = forger.say(now, a.addr, 1);
        deliver(now, said, &mut [&mut forger, &mut a]);
    }
    assert_eq!(a.envelope.sealed.as_ref().unwrap().senders.len(), 0);
}

#[test]
fn more_senders_than_are_remembered_begin_another_epoch_and_nothing_recorded_is_for_it() {
    let now = now();
    let mut a = Node::sealed(1, 1);
    let mut recorded = Vec::new();
    for number in 2..MOST_SENDERS + 10 {
        let mut other = Node::sealed(number, 1);
        let said = other.say(now, a.addr, 1);
        recorded.extend(deliver(now, said, &mut [&mut other, &mut a]));
    }
    assert!(a.envelope.sealed.as_ref().unwrap().senders.len() <= MOST_SENDERS);
    let (taken, dropped) = (a.taken.len(), a.dropped.len());
    assert_eq!((taken, dropped), (MOST_SENDERS + 8, 0));
    let own = a.addr;
    for (_, datagram) in recorded.iter().filter(|(to, _)| *to == own) {
        a.receive(now, datagram);
    }
    assert_eq!(a.taken.len(), taken);
}

#[test]
fn a_changed_secret_is_used_for_whoever_knows_it() {
    let now = now();
    let (mut a, mut b) = acquainted(now);
    assert!(a.envelope.change_secret(now, b"new"));
    // Nobody but a has it: b must still understand.
    let said = a.say(now, b.addr, 1);
    deliver(now, said, &mut [&mut a, &mut b]);
    assert!(b.envelope.change_secret(now, b"new"));
    for word in [2, 3] {
        let said = b.say(now, a.addr, word);
        deliver(now, said, &mut [&mut a, &mut b]);
        let said = a.say(now, b.addr, word);
        deliver(now, said, &mut [&mut a, &mut b]);
    }
    assert_eq!(b.taken, [[0], [1], [2], [3]]);
    assert!(b.dropped.is_empty() && a.dropped.is_empty());
    // Long after, only the new one is left.
    let later = now + ACCEPT_FORMER + Duration::from_secs(1);
    let said = b.say(later, a.addr, 4);
    deliver(later, said, &mut [&mut a, &mut b]);
    assert_eq!(a.taken.last().unwrap(), &[4]);
    let mut old = Node::sealed(3, 1);
    let said = old.say(later, a.addr, 5);
    a.dropped.clear();
    deliver(later, said, &mut [&mut old, &mut a]);
    assert_eq!(a.dropped, [DropReason::Authentication]);
}

#[test]
fn a_node_without_a_secret_gets_none_by_a_change() {
    let mut plain = Node::new(1, 1, None);
    assert!(!plain.envelope.change_secret(now(), b"new"));
    assert_eq!(plain.say(now(), addr(2), 1)[0].1[0], PLAIN);
}
