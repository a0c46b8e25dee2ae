//! What the list keeps, and how an event looks.

use std::sync::Arc;
use std::time::Duration;

use super::*;

#[test]
fn events_come_back_in_order_after_the_one_that_is_known() {
    let events = Events::default();
    let first = events.record(Kind::VrrpMaster, "web", "no master was heard");
    let second = events.record(Kind::QuorumLost, "http", "weight 0 of 1");
    assert_eq!(second, first + 1);
    let page = events.since(first, 10);
    assert_eq!(page.last_id, second);
    assert_eq!(page.events.len(), 1);
    assert_eq!(page.events[0].kind, "quorum.lost");
    assert_eq!(page.events[0].object, "http");
    assert_eq!(events.since(second, 10).events, []);
    assert_eq!(ids(&events.newest(1)), [second]);
    assert_eq!(ids(&events.newest(9)), [first, second]);
    assert_eq!(ids(&events.since(0, 1)), [first]);
}

#[test]
fn the_oldest_go_when_the_list_is_full() {
    let events = Events::default();
    let first = events.record(Kind::VrrpMaster, "web", "");
    for _ in 0..CAPACITY {
        events.record(Kind::VrrpBackup, "web", "");
    }
    let page = events.since(0, usize::MAX);
    assert_eq!(page.events.len(), CAPACITY);
    assert_eq!(page.events[0].id, first + 1);
    assert_eq!(page.last_id, first + CAPACITY as u64);
}

#[test]
fn an_identifier_from_the_future_begins_anew() {
    let events = Events::default();
    let id = events.record(Kind::VrrpMaster, "web", "");
    assert_eq!(ids(&events.since(id + 1000, 10)), [id]);
}

#[tokio::test]
async fn a_follower_wakes_when_something_happens_and_not_before() {
    let events = Arc::new(Events::default());
    let known = events.last_id();
    let waiting = tokio::time::timeout(Duration::from_millis(20), events.wait(known));
    assert!(waiting.await.is_err());
    let follower = tokio::spawn({
        let events = Arc::clone(&events);
        async move {
            events.wait(known).await;
            events.since(known, 10)
        }
    });
    let id = events.record(Kind::Switchover, "web", "ordered");
    assert_eq!(ids(&follower.await.unwrap()), [id]);
}

#[test]
fn every_kind_has_a_dotted_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Kind::ALL.map(Kind::name).into();
    assert_eq!(names.len(), Kind::ALL.len());
    for name in [
        "vrrp.master",
        "vrrp.backup",
        "vrrp.fault",
        "real_server.down",
        "real_server.up",
        "quorum.lost",
        "quorum.gained",
    ] {
        assert!(names.contains(name), "{name} was promised");
    }
}

#[test]
fn an_event_survives_its_way_as_json() {
    let events = Events::default();
    events.record(Kind::AddressConflict, "10.0.0.1", "claimed");
    let page = events.newest(1);
    let json = serde_json::to_value(&page).unwrap();
    assert_eq!(json["events"][0]["kind"], "address.conflict");
    let at = json["events"][0]["at"].as_str().unwrap();
    assert!(at.ends_with('Z') && at.contains('T'), "{at}");
    let back: Page = serde_json::from_value(json).unwrap();
    assert_eq!(back.events[0].message, "claimed");
    assert_eq!(back.last_id, page.last_id);
}

#[test]
fn the_line_for_people_has_time_kind_object_and_an_indented_rest() {
    let event = Event {
        id: 1,
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        kind: "config.refused".into(),
        object: "vipd.toml".to_owned(),
        message: "nothing changed:\nline \x1b[31mtwo".to_owned(),
        cause: String::new(),
        consequence: "".into(),
        fields: Fields::default(),
    };
    let line = event.line();
    let (at, rest) = line.split_at(19);
    assert!(at.starts_with("2027-01-1"), "{line}");
    assert_eq!(
        rest,
        "  config.refused    vipd.toml         nothing changed:\n    line ·[31mtwo"
    );
}

fn ids(page: &Page) -> Vec<u64> {
    page.events.iter().map(|event| event.id).collect()
}

#[test]
fn an_event_says_why_and_what_follows_and_one_of_an_older_daemon_is_read() {
    let events = Events::default();
    events.record(Kind::QuorumLost, "http", "weight 0 of 1");
    let details = Details {
        cause: Some("no master was heard".to_owned()),
        fields: Fields::of([("priority", 150.into())]),
    };
    events.record_with(Kind::VrrpMaster, "web", "master, was backup", details);
    let page = serde_json::to_value(events.newest(2)).unwrap();
    assert_eq!(page["events"][0]["cause"], "weight 0 of 1");
    assert_eq!(page["events"][1]["cause"], "no master was heard");
    assert_eq!(page["events"][1]["fields"]["priority"], 150);
    for event in page["events"].as_array().unwrap() {
        assert_ne!(event["consequence"], "");
    }
    let old =
        r#"{"id":1,"at":"2026-11-21T00:00:00Z","kind":"vrrp.master","object":"a","message":"b"}"#;
    let old: Event = serde_json::from_str(old).unwrap();
    assert_eq!((old.message.as_str(), old.cause.as_str()), ("b", ""));
    assert_eq!(old.fields, Fields::default());
    let back: Page = serde_json::from_value(page).unwrap();
    assert_eq!(back.events[1].fields.get("priority"), Some(&150.into()));
    assert_eq!(back.events[1].fields.get("from"), None);
}

#[test]
fn identifiers_go_on_after_those_of_the_run_before_even_if_the_clock_was_set_back() {
    let before = Events::default();
    before.record(Kind::VrrpMaster, "web", "");
    let mut old = before.newest(1).events;
    old[0].id += 10_000_000_000;
    let last = old[0].id;
    let events = Events::after(old);
    assert_eq!(events.last_id(), last);
    assert_eq!(events.record(Kind::VrrpBackup, "web", ""), last + 1);
    assert_eq!(ids(&events.newest(9)), [last, last + 1]);
}
