//! What readers of a store see, and when.

use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn listed(writer: &mut StoreWriter<u32>, objects: &[(&str, &str, u32)]) {
    writer.list_begins();
    for (name, version, value) in objects {
        writer.listed(key(name), version, Some(*value));
    }
    writer.list_done();
}

fn names(changes: &crate::Changes) -> Vec<&str> {
    changes.keys.iter().map(|key| key.name()).collect()
}

#[test]
fn nothing_is_visible_before_the_first_list_is_complete() {
    let (mut writer, store) = store::<u32>("Thing");
    let feed = store.subscribe();
    writer.list_begins();
    writer.listed(key("a"), "1", Some(1));
    assert!(!store.is_ready() && store.is_empty() && feed.take().is_empty());
    writer.list_done();
    assert!(store.is_ready());
    assert!(feed.take().all);
    assert_eq!(*store.get(&key("a")).unwrap(), 1);
}

#[test]
fn a_list_reports_what_appeared_changed_and_vanished_and_nothing_else() {
    let (mut writer, store) = store("Thing");
    listed(
        &mut writer,
        &[("changed", "1", 1), ("same", "2", 2), ("vanished", "3", 3)],
    );
    let feed = store.subscribe();
    assert!(
        feed.take().all,
        "a feed on a complete store starts with everything"
    );
    let before = store.get(&key("same")).unwrap();
    listed(
        &mut writer,
        &[("changed", "4", 10), ("same", "5", 2), ("new", "6", 6)],
    );
    assert_eq!(names(&feed.take()), ["changed", "new", "vanished"]);
    assert!(store.get(&key("vanished")).is_none());
    let after = store.get(&key("same")).unwrap();
    assert!(
        std::ptr::eq(before.value(), after.value()),
        "an unchanged projection is not held twice"
    );
    assert_eq!(after.resource_version(), "5");
}

#[test]
fn a_list_that_breaks_off_changes_nothing() {
    let (mut writer, store) = store("Thing");
    listed(&mut writer, &[("a", "1", 1)]);
    let feed = store.subscribe();
    feed.take();
    writer.list_begins();
    writer.listed(key("b"), "2", Some(2));
    listed(&mut writer, &[("a", "3", 1)]);
    assert!(feed.take().is_empty());
    assert!(store.get(&key("b")).is_none());
}

#[test]
fn an_event_that_changes_nothing_we_read_wakes_nobody_but_moves_the_version() {
    let (mut writer, store) = store("Thing");
    listed(&mut writer, &[("a", "1", 1)]);
    let feed = store.subscribe();
    feed.take();
    writer.applied(key("a"), "2", Some(1));
    assert!(feed.take().is_empty());
    assert_eq!(store.get(&key("a")).unwrap().resource_version(), "2");
    writer.applied(key("a"), "3", Some(7));
    assert_eq!(names(&feed.take()), ["a"]);
}

#[test]
fn an_object_that_the_projection_no_longer_wants_is_gone() {
    let (mut writer, store) = store("Thing");
    listed(&mut writer, &[("a", "1", 1)]);
    let feed = store.subscribe();
    feed.take();
    writer.applied(key("a"), "2", None);
    writer.applied(key("never-wanted"), "3", None);
    assert_eq!(names(&feed.take()), ["a"]);
    assert!(store.is_empty());
}

#[test]
fn a_snapshot_stays_as_it_was_taken() {
    let (mut writer, store) = store("Thing");
    listed(&mut writer, &[("a", "1", 1)]);
    let snapshot = store.snapshot();
    writer.applied(key("a"), "2", Some(2));
    writer.deleted(&key("a"));
    assert_eq!(**snapshot.get(&key("a")).unwrap(), 1);
    assert!(store.is_empty());
}

#[test]
fn a_broken_object_keeps_its_last_good_projection_and_is_listed_until_mended_or_deleted() {
    let (mut writer, store) = store("Thing");
    listed(&mut writer, &[("a", "1", 1)]);
    let feed = store.subscribe();
    feed.take();
    let broken = |error: &str, version: &str| Broken {
        error: error.to_owned(),
        uid: "u".to_owned(),
        generation: Some(2),
        resource_version: version.to_owned(),
    };
    writer.applied_broken(key("a"), broken("missing field `spec`", "2"));
    assert_eq!(names(&feed.take()), ["a"]);
    // A status that was written on it is no news, but the next write must name the version.
    writer.applied_broken(key("a"), broken("missing field `spec`", "3"));
    assert!(feed.take().is_empty());
    assert_eq!(
        store.broken(),
        BTreeMap::from([(key("a"), broken("missing field `spec`", "3"))])
    );
    assert_eq!(*store.get(&key("a")).unwrap(), 1);

    writer.list_begins();
    writer.listed_broken(key("a"), broken("missing field `spec`", "4"));
    writer.listed_broken(key("b"), broken("invalid type", "4"));
    writer.list_done();
    assert_eq!(names(&feed.take()), ["b"]);
    assert_eq!(
        *store.get(&key("a")).unwrap(),
        1,
        "a list keeps the last good projection too"
    );

    writer.applied(key("a"), "5", Some(1));
    writer.deleted(&key("b"));
    assert_eq!(names(&feed.take()), ["a", "b"]);
    assert!(store.broken().is_empty());
}
