//! All routes again, because the peer asks (RFC 2918), and where that begins and ends (RFC 7313).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod router;

use ferrolb_bgp::wire::Context;
use ferrolb_bgp::{AdjRibOut, Attributes, Export, Families, Family, Negotiated};
use router::{Router, desired, export, negotiated, net, up, with_community};

/// To a peer that wants to be told where a repetition begins and ends.
fn enhanced() -> Export {
    Export::new(
        64512,
        &Negotiated {
            enhanced_refresh: true,
            ..negotiated()
        },
    )
}

/// Two routes of one UPDATE and one of another family.
fn three() -> [(&'static str, Attributes); 3] {
    ["10.0.0.1/32", "10.0.0.2/32", "2001:db8:1::/64"].map(|prefix| (prefix, with_community(1)))
}

#[test]
fn a_refresh_sends_all_of_one_family_again_without_withdrawing() {
    let routes = [
        ("10.0.0.1/32", Attributes::default()),
        ("2001:db8:1::/64", Attributes::default()),
    ];
    let (mut rib, mut router) = up(export(), &routes);
    rib.refresh(Family::Ipv4Unicast);
    let batches = router.drain(&mut rib, &Context::default());
    assert_eq!(
        (
            batches.len(),
            batches[0].announced_again,
            batches[0].updates
        ),
        (1, 1, 1)
    );
    assert!(router.withdrawn.is_empty());
    // A route that vanishes before its refresh was sent is still withdrawn.
    rib.refresh(Family::Ipv4Unicast);
    rib.set_desired(&desired(&[]));
    router.drain(&mut rib, &Context::default());
    assert!(router.routes.is_empty());
}

#[test]
fn a_refresh_outlives_a_change_that_is_taken_back() {
    let (mut rib, mut router) = up(export(), &[("10.0.0.1/32", with_community(1))]);
    rib.refresh(Family::Ipv4Unicast);
    rib.set(net("10.0.0.1/32"), Some(&with_community(2)));
    rib.set(net("10.0.0.1/32"), Some(&with_community(1)));
    assert_eq!(rib.pending(), 1);
    let batches = router.drain(&mut rib, &Context::default());
    assert_eq!((batches.len(), batches[0].announced_again), (1, 1));
    assert_eq!(rib.next_batch(1), None);
}

#[test]
fn a_repetition_has_a_beginning_and_an_end_where_the_peer_wants_to_know_and_only_there() {
    let (mut rib, mut router) = up(enhanced(), &three());
    router.said();
    rib.refresh(Family::Ipv4Unicast);
    router.drain(&mut rib, &Context::default());
    assert_eq!(
        router.said(),
        [
            "begin ipv4-unicast",
            "2 of ipv4-unicast",
            "end ipv4-unicast"
        ]
    );
    rib.refresh(Family::Ipv6Unicast);
    rib.refresh(Family::Ipv4Unicast);
    router.drain(&mut rib, &Context::default());
    assert_eq!(
        router.said(),
        [
            "begin ipv4-unicast",
            "2 of ipv4-unicast",
            "end ipv4-unicast",
            "begin ipv6-unicast",
            "1 of ipv6-unicast",
            "end ipv6-unicast"
        ]
    );
    let (mut rib, mut router) = up(export(), &three());
    router.said();
    rib.refresh(Family::Ipv4Unicast);
    router.drain(&mut rib, &Context::default());
    assert_eq!(router.said(), ["2 of ipv4-unicast"]);
}

#[test]
fn the_repetition_of_no_routes_at_all_is_told_too() {
    let (mut rib, mut router) = up(enhanced(), &[]);
    router.said();
    rib.refresh(Family::Ipv6Unicast);
    router.drain(&mut rib, &Context::default());
    assert_eq!(router.said(), ["begin ipv6-unicast", "end ipv6-unicast"]);
}

#[test]
fn a_request_before_end_of_rib_is_answered_after_it() {
    for fetched in [false, true] {
        let mut rib = AdjRibOut::new();
        rib.set_desired(&desired(&three()));
        rib.established(enhanced());
        let mut router = Router::default();
        if fetched {
            router.take(&rib.next_batch(1).unwrap(), &Context::default());
        }
        rib.refresh(Family::Ipv4Unicast);
        router.drain(&mut rib, &Context::default());
        assert_eq!(
            router.said(),
            [
                "2 of ipv4-unicast",
                "marker ipv4-unicast",
                "begin ipv4-unicast",
                "2 of ipv4-unicast",
                "end ipv4-unicast",
                "1 of ipv6-unicast",
                "marker ipv6-unicast"
            ],
            "{fetched}"
        );
    }
}

#[test]
fn a_request_during_a_repetition_begins_it_anew_and_both_end_as_one() {
    let routes = [
        ("10.0.0.1/32", with_community(1)),
        ("10.0.0.2/32", with_community(2)),
    ];
    let (mut rib, mut router) = up(enhanced(), &routes);
    router.said();
    rib.refresh(Family::Ipv4Unicast);
    for _ in 0..2 {
        router.take(&rib.next_batch(1).unwrap(), &Context::default());
    }
    assert_eq!(router.said(), ["begin ipv4-unicast", "1 of ipv4-unicast"]);
    rib.refresh(Family::Ipv4Unicast);
    router.drain(&mut rib, &Context::default());
    assert_eq!(
        router.said(),
        [
            "begin ipv4-unicast",
            "1 of ipv4-unicast",
            "1 of ipv4-unicast",
            "end ipv4-unicast"
        ]
    );
    assert_eq!(router.routes.len(), 2);
}

#[test]
fn changes_during_a_repetition_are_part_of_it() {
    let (mut rib, mut router) = up(enhanced(), &three());
    router.said();
    rib.refresh(Family::Ipv4Unicast);
    router.take(&rib.next_batch(1).unwrap(), &Context::default());
    rib.set(net("10.0.0.1/32"), None);
    rib.set(net("10.0.0.3/32"), Some(&with_community(1)));
    router.drain(&mut rib, &Context::default());
    assert_eq!(
        router.said(),
        [
            "begin ipv4-unicast",
            "2 of ipv4-unicast",
            "withdraw 10.0.0.1/32",
            "end ipv4-unicast"
        ]
    );
    assert_eq!(router.routes.len(), 3);
}

#[test]
fn a_peer_that_asks_a_thousand_times_at_once_is_told_once() {
    for export in [export(), enhanced()] {
        let bounded = export.context.enhanced_refresh;
        let (mut rib, mut router) = up(export, &three());
        router.said();
        (0..1000).for_each(|_| rib.refresh(Family::Ipv4Unicast));
        router.drain(&mut rib, &Context::default());
        let said = router.said();
        let told = said.iter().filter(|line| line.contains(" of ")).count();
        assert_eq!(
            (told, said.len()),
            (1, if bounded { 3 } else { 1 }),
            "{said:?}"
        );
        // What it asks for after that is another round.
        rib.refresh(Family::Ipv4Unicast);
        router.drain(&mut rib, &Context::default());
        assert_eq!(router.said(), said);
    }
}

#[test]
fn a_withdrawal_that_is_taken_back_after_the_request_is_repeated_with_the_rest() {
    let (mut rib, mut router) = up(enhanced(), &three());
    router.said();
    rib.set(net("10.0.0.1/32"), None);
    rib.refresh(Family::Ipv4Unicast);
    rib.set(net("10.0.0.1/32"), Some(&with_community(1)));
    router.drain(&mut rib, &Context::default());
    assert_eq!(
        router.said(),
        [
            "begin ipv4-unicast",
            "2 of ipv4-unicast",
            "end ipv4-unicast"
        ]
    );
    assert_eq!(router.routes.len(), 3);
}

#[test]
fn a_repetition_ends_with_its_session() {
    let (mut rib, mut router) = up(enhanced(), &three());
    rib.refresh(Family::Ipv4Unicast);
    router.take(&rib.next_batch(1).unwrap(), &Context::default());
    rib.down();
    rib.established(enhanced());
    let mut router = Router::default();
    router.drain(&mut rib, &Context::default());
    assert_eq!(
        router.said(),
        [
            "2 of ipv4-unicast",
            "marker ipv4-unicast",
            "1 of ipv6-unicast",
            "marker ipv6-unicast"
        ]
    );
}

#[test]
fn a_request_for_a_family_that_the_session_does_not_carry_is_not_answered() {
    let families = Families {
        ipv4: true,
        ipv6: false,
    };
    for enhanced_refresh in [false, true] {
        let export = Export::new(
            64512,
            &Negotiated {
                families,
                enhanced_refresh,
                ..negotiated()
            },
        );
        let (mut rib, _) = up(export, &three());
        rib.refresh(Family::Ipv6Unicast);
        assert_eq!(rib.next_batch(1), None);
    }
}

/// Announcements go first, and however many keep coming a withdrawal does not wait for ever.
#[test]
fn a_withdrawal_has_its_turn_while_the_peer_asks_and_routes_change_all_the_time() {
    for asks in [true, false] {
        let (mut rib, mut router) = up(export(), &three());
        router.said();
        rib.set(net("10.0.0.1/32"), None);
        rib.refresh(Family::Ipv4Unicast);
        let mut rounds = 0;
        while router.routes.contains_key(&net("10.0.0.1/32")) {
            for number in 2..6 {
                let prefix = net(&format!("10.0.0.{number}/32"));
                rib.set(prefix, Some(&with_community(number * 100 + rounds)));
            }
            router.take(&rib.next_batch(1).unwrap(), &Context::default());
            if asks {
                rib.refresh(Family::Ipv4Unicast);
            }
            rounds += 1;
            assert!(rounds < 20, "{:?}", router.said());
        }
    }
}
