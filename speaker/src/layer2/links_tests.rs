use rtnetlink::packet_route::link::LinkHeader;

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn usual() -> LinkFlags {
    LinkFlags::Up | LinkFlags::Broadcast | LinkFlags::Running
}

fn link(index: u32, name: &str, flags: LinkFlags, more: &[LinkAttribute]) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header = LinkHeader {
        index,
        flags,
        ..LinkHeader::default()
    };
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(MAC.to_vec()),
    ];
    message.attributes.extend_from_slice(more);
    message
}

fn address(index: u32, ip: &str, flags: AddressFlags) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Address(ip.parse().unwrap()),
        AddressAttribute::Flags(flags),
    ];
    message
}

fn table() -> Table {
    Table {
        excluded: RegexSet::new(["^veth.*"]).unwrap(),
        ..Table::default()
    }
}

fn names(table: &Table) -> Vec<String> {
    table.usable().into_values().map(|link| link.name).collect()
}

#[test]
fn the_rules_of_usable_interfaces_hold() {
    let cases: [(&str, LinkFlags, &[LinkAttribute], bool); 7] = [
        ("eth0", usual(), &[], true),
        ("eth0", LinkFlags::Up | LinkFlags::Broadcast, &[], true),
        ("veth1", usual(), &[], false),
        ("eth0", LinkFlags::Broadcast, &[], false),
        ("eth0", usual() | LinkFlags::Noarp, &[], false),
        ("eth0", usual(), &[LinkAttribute::Controller(7)], false),
        ("tun0", LinkFlags::Up | LinkFlags::Pointopoint, &[], false),
    ];
    for (name, flags, more, usable) in cases {
        let mut table = table();
        table.apply(RouteNetlinkMessage::NewLink(link(1, name, flags, more)));
        assert_eq!(
            !table.usable().is_empty(),
            usable,
            "{name} {flags:?} {more:?}"
        );
    }
}

#[test]
fn an_interface_without_an_ethernet_address_is_not_used() {
    let mut table = table();
    let mut message = link(1, "wg0", usual(), &[]);
    message.attributes.truncate(1);
    table.apply(RouteNetlinkMessage::NewLink(message));
    assert!(table.usable().is_empty());
}

#[test]
fn an_interface_that_becomes_a_bridge_port_goes_and_comes_back() {
    let mut table = table();
    table.apply(RouteNetlinkMessage::NewLink(link(1, "eth0", usual(), &[])));
    assert_eq!(names(&table), ["eth0"]);
    table.apply(RouteNetlinkMessage::NewLink(link(
        1,
        "eth0",
        usual(),
        &[LinkAttribute::Controller(2)],
    )));
    assert!(names(&table).is_empty());
    table.apply(RouteNetlinkMessage::NewLink(link(1, "eth0", usual(), &[])));
    assert_eq!(names(&table), ["eth0"]);
    // The bridge's own farewell to its port does not mean that the interface is gone.
    let mut farewell = link(1, "eth0", usual(), &[]);
    farewell.header.interface_family = AddressFamily::Bridge;
    table.apply(RouteNetlinkMessage::DelLink(farewell));
    assert_eq!(names(&table), ["eth0"]);
}

#[test]
fn ndp_needs_a_link_local_address_that_is_proven() {
    let mut table = table();
    table.apply(RouteNetlinkMessage::NewLink(link(1, "eth0", usual(), &[])));
    let link_local = |table: &Table| table.usable()[&1].link_local;
    table.apply(RouteNetlinkMessage::NewAddress(address(
        1,
        "fe80::1",
        AddressFlags::Tentative,
    )));
    table.apply(RouteNetlinkMessage::NewAddress(address(
        1,
        "2001:db8::1",
        AddressFlags::Permanent,
    )));
    assert_eq!(link_local(&table), None);
    table.apply(RouteNetlinkMessage::NewAddress(address(
        1,
        "fe80::1",
        AddressFlags::Permanent,
    )));
    assert_eq!(link_local(&table), Some("fe80::1".parse().unwrap()));
    table.apply(RouteNetlinkMessage::DelAddress(address(
        1,
        "fe80::1",
        AddressFlags::Permanent,
    )));
    assert_eq!(link_local(&table), None);
}

#[test]
fn a_link_local_address_survives_other_news_of_its_interface() {
    let mut table = table();
    table.apply(RouteNetlinkMessage::NewAddress(address(
        1,
        "fe80::1",
        AddressFlags::Permanent,
    )));
    table.apply(RouteNetlinkMessage::NewLink(link(1, "eth0", usual(), &[])));
    table.apply(RouteNetlinkMessage::NewLink(link(
        1,
        "eth0",
        LinkFlags::Up | LinkFlags::Broadcast,
        &[],
    )));
    let usable = table.usable();
    assert!(usable[&1].link_local.is_some());
    assert!(!usable[&1].running);
    table.apply(RouteNetlinkMessage::DelLink(link(1, "eth0", usual(), &[])));
    assert!(table.usable().is_empty());
}

#[test]
fn a_point_to_point_link_with_a_link_local_address_speaks_ndp_only() {
    let mut table = table();
    table.apply(RouteNetlinkMessage::NewLink(link(
        1,
        "p2p0",
        LinkFlags::Up | LinkFlags::Pointopoint,
        &[],
    )));
    table.apply(RouteNetlinkMessage::NewAddress(address(
        1,
        "fe80::1",
        AddressFlags::Permanent,
    )));
    let usable = table.usable();
    assert!(!usable[&1].arp);
    assert!(usable[&1].link_local.is_some());
}

fn event(message: RouteNetlinkMessage) -> Message {
    let payload = NetlinkPayload::InnerMessage(message);
    let message = rtnetlink::packet_core::NetlinkMessage::new(Default::default(), payload);
    (message, rtnetlink::sys::SocketAddr::new(0, 0))
}

#[tokio::test]
async fn after_a_loss_of_events_older_ones_do_not_undo_what_is_listed() {
    let (sender, mut messages) = futures::channel::mpsc::unbounded();
    let down = RouteNetlinkMessage::NewLink(link(1, "eth0", LinkFlags::Broadcast, &[]));
    let other = RouteNetlinkMessage::NewLink(link(2, "eth1", usual(), &[]));
    let mut table = table();
    table.apply(RouteNetlinkMessage::NewLink(link(1, "eth0", usual(), &[])));
    let listed = std::cell::Cell::new(0);
    let list = || async {
        listed.set(listed.get() + 1);
        // What was queued before the list comes before its end. That eth0 came up again was lost.
        if listed.get() == 1 {
            sender.unbounded_send(event(down.clone())).unwrap();
        } else {
            // What happens while it is listed may be missing in the list, and comes as an event.
            sender.unbounded_send(event(other.clone())).unwrap();
        }
        Ok::<_, FollowError>((vec![link(1, "eth0", usual(), &[])], Vec::new()))
    };
    list_anew(list, &mut messages, &mut table).await.unwrap();
    while let Some((message, _)) = messages.next().now_or_never().flatten() {
        let NetlinkPayload::InnerMessage(message) = message.payload else {
            unreachable!("there are only events");
        };
        table.apply(message);
    }
    assert_eq!(names(&table), ["eth0", "eth1"]);
}
