//! The file: what a restart finds, and what a disk that fails does to it.

use std::time::Instant;

use super::*;

#[tokio::test]
async fn what_happened_before_a_restart_is_there_after_it() {
    let folder = Folder::new("restart");
    let events = Arc::new(Events::default());
    let mut store = Store::start(Arc::clone(&events), &folder.0);
    events.record(Kind::VrrpMaster, "web", "one");
    events.record(Kind::QuorumLost, "http", "two\nlines");
    store.finish().await;
    let (before, result) = read(&folder.0);
    assert_eq!(result, Ok(()));
    assert_eq!(before.len(), 2);
    assert_eq!(before[1].message, "two\nlines");
    assert_eq!(before, shortened(&events));
    let again = Events::after(before);
    assert_eq!(again.newest(9).events[0].object, "web");
}

#[tokio::test]
async fn a_disk_that_fails_is_one_event_and_nothing_is_lost_when_it_is_back() {
    let folder = Folder::new("broken");
    fs::write(&folder.0, "a file in the way").unwrap();
    let events = Arc::new(Events::default());
    let mut store = Store::start(Arc::clone(&events), &folder.0);
    events.record(Kind::VrrpMaster, "web", "one");
    wait_for(&events, "state.unwritable").await;
    events.record(Kind::VrrpBackup, "web", "two");
    fs::remove_file(&folder.0).unwrap();
    wait_for(&events, "state.written").await;
    store.finish().await;
    let kinds: Vec<_> = read(&folder.0)
        .0
        .into_iter()
        .map(|event| event.kind)
        .collect();
    let wanted = [
        "vrrp.master",
        "state.unwritable",
        "vrrp.backup",
        "state.written",
    ];
    assert_eq!(kinds, wanted);
}

#[tokio::test]
async fn another_folder_is_used_at_once() {
    let (one, two) = (Folder::new("one"), Folder::new("two"));
    let events = Arc::new(Events::default());
    let mut store = Store::start(Arc::clone(&events), &one.0);
    store.set(&two.0);
    events.record(Kind::VrrpMaster, "web", "one");
    store.finish().await;
    assert!(!one.0.exists());
    assert_eq!(read(&two.0).0.len(), 1);
}

#[test]
fn a_full_file_becomes_the_old_one_and_both_stay_bounded() {
    let folder = Folder::new("bounded");
    let events = Events::default();
    let message = "x".repeat(4096);
    for _ in 0..CAPACITY {
        let id = events.record(Kind::IpvsRepaired, "ipvs", &message);
        append(&folder.0, &events.since(id - 1, 1).events).unwrap();
    }
    for name in [FILE, OLD_FILE] {
        let size = fs::metadata(folder.0.join(name)).unwrap().len();
        assert!(size <= FILE_MAX + 16_384, "{name} has {size} bytes");
    }
    let (read, result) = read(&folder.0);
    assert_eq!(result, Ok(()));
    assert_eq!(read.last().unwrap().id, events.last_id());
    assert!(read.len() > 128 && read.is_sorted_by_key(|event| event.id));
}

#[test]
fn a_line_that_was_cut_off_costs_only_itself() {
    let folder = Folder::new("cut");
    let events = Events::default();
    for _ in 0..3 {
        events.record(Kind::VrrpMaster, "web", "whole");
    }
    let all = shortened(&events);
    append(&folder.0, &all[..2]).unwrap();
    let path = folder.0.join(FILE);
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() - 20]).unwrap();
    append(&folder.0, &all[2..]).unwrap();
    let ids: Vec<u64> = read(&folder.0).0.iter().map(|event| event.id).collect();
    assert_eq!(ids, [all[0].id, all[2].id]);
}

#[test]
fn a_fifo_or_a_folder_in_its_place_is_an_error_and_no_wait() {
    let folder = Folder::new("fifo");
    fs::create_dir_all(&folder.0).unwrap();
    assert_eq!(read(&folder.0), (vec![], Ok(())));
    let path = folder.0.join(FILE);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let events = Events::default();
    events.record(Kind::VrrpMaster, "web", "");
    assert!(append(&folder.0, &events.newest(1).events).is_err());
    assert!(read(&folder.0).1.unwrap_err().contains(FILE));
}

async fn wait_for(events: &Events, kind: &str) {
    let begun = Instant::now();
    while !events
        .newest(9)
        .events
        .iter()
        .any(|event| event.kind == kind)
    {
        assert!(begun.elapsed() < Duration::from_secs(60), "no {kind}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The events as a file has them: to the millisecond.
fn shortened(events: &Events) -> Vec<Event> {
    let text = serde_json::to_string(&events.newest(CAPACITY).events).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A place that is gone at the end, whatever was made there.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let pid = std::process::id();
        Folder(std::env::temp_dir().join(format!("vipd-events-{name}-{pid}")))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        let _ = fs::remove_file(&self.0);
    }
}
