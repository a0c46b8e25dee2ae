use super::*;

const KEY: &str = "10.0.0.9:1";

#[test]
fn what_was_ordered_comes_back_from_the_file() {
    let directory = Directory::new("back");
    assert_eq!(Overrides::read(&directory.0), Ok(Overrides::default()));
    let overrides = Overrides::default()
        .with("web", key(KEY), 1, Change::Drain)
        .with("web", key(KEY), 1, Change::Weight(7))
        .with("in \"side\"/ü", key("[2001:db8::1]:80"), 1, Change::Disable);
    overrides.write(&directory.0).unwrap();
    assert_eq!(Overrides::read(&directory.0), Ok(overrides.clone()));
    let one = overrides.of("web", key(KEY));
    assert_eq!(one.out, Some(Out::Draining));
    assert_eq!(one.weight.map(|weight| weight.ordered), Some(7));
    let names: Vec<_> = fs::read_dir(&directory.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, [FILE]);
}

#[test]
fn enable_takes_back_drain_and_disable_but_leaves_the_weight() {
    let drained = Overrides::default().with("web", key(KEY), 1, Change::Drain);
    let disabled = drained.with("web", key(KEY), 1, Change::Disable);
    assert_eq!(disabled.of("web", key(KEY)).out, Some(Out::Disabled));
    assert!(disabled.with("web", key(KEY), 1, Change::Enable).is_empty());
    let weighted = disabled.with("web", key(KEY), 1, Change::Weight(0));
    let enabled = weighted.with("web", key(KEY), 1, Change::Enable);
    assert_eq!(enabled.of("web", key(KEY)).out, None);
    assert!(enabled.of("web", key(KEY)).weight.is_some());
    assert!(enabled.with("web", key(KEY), 1, Change::Reset).is_empty());
    assert_eq!(enabled.of("other", key(KEY)), Override::default());
}

#[test]
fn orders_are_taken_back_of_one_of_those_of_a_virtual_server_or_of_all() {
    let overrides = Overrides::default()
        .with("web", key(KEY), 1, Change::Drain)
        .with("web", key("10.0.0.8:1"), 1, Change::Weight(7))
        .with("dns", key(KEY), 1, Change::Disable);
    let scope = |server: Option<&str>, real: Option<&str>| Scope {
        virtual_server: server.map(str::to_owned),
        real_server: real.map(str::to_owned),
    };
    let left = |scope| {
        let (left, gone) = overrides.without(&scope);
        let left = left.view(false).real_servers;
        let left: Vec<String> = left
            .iter()
            .map(|ordered| format!("{}/{}", ordered.virtual_server, ordered.real_server))
            .collect();
        (left, gone.len())
    };
    let all = ["dns/10.0.0.9:1", "web/10.0.0.8:1", "web/10.0.0.9:1"].map(str::to_owned);
    assert_eq!(left(scope(None, None)), (vec![], 3));
    assert_eq!(left(scope(Some("web"), None)), (vec![all[0].clone()], 2));
    let one = left(scope(Some("web"), Some(KEY)));
    assert_eq!(one, (all[..2].to_vec(), 1));
    assert_eq!(left(scope(Some("none"), None)), (all.to_vec(), 0));
    let page = overrides.view(true).page();
    assert!(
        page.contains("web/10.0.0.8:1: weight 7 instead of 1"),
        "{page}"
    );
    assert!(page.contains("maintenance is on"), "{page}");
}

#[test]
fn a_file_that_is_no_list_of_orders_is_named_with_the_reason() {
    let directory = Directory::new("nonsense");
    fs::create_dir_all(&directory.0).unwrap();
    for text in [
        "",
        "{}",
        "[{}]",
        "[{\"virtual_server\": \"web\", \"real_server\": \"10.0.0.9\"}]",
        "[{\"virtual_server\": \"web\", \"real_server\": \"10.0.0.9:1\", \"weight\": -1}]",
        "[{\"virtual_server\": \"web\", \"real_server\": \"10.0.0.9:1\", \"state\": \"gone\"}]",
    ] {
        fs::write(directory.0.join(FILE), text).unwrap();
        let why = Overrides::read(&directory.0).unwrap_err();
        assert!(why.contains(FILE), "{why}");
    }
    fs::write(directory.0.join(FILE), [0xff, 0xfe]).unwrap();
    assert!(Overrides::read(&directory.0).is_err());
}

#[test]
fn a_weight_that_ipvs_cannot_hold_is_cut_to_what_it_can() {
    let directory = Directory::new("large");
    fs::create_dir_all(&directory.0).unwrap();
    let text = "[{\"virtual_server\": \"web\", \"real_server\": \"10.0.0.9:1\", \
                 \"weight\": 4294967295, \"configured_weight\": 1}]";
    fs::write(directory.0.join(FILE), text).unwrap();
    let read = Overrides::read(&directory.0).unwrap();
    let weight = read.of("web", key(KEY)).weight.unwrap();
    assert_eq!(weight.ordered, 2_147_483_647);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let directory = Directory::new("file");
    fs::write(&directory.0, "in the way").unwrap();
    assert!(
        Overrides::default()
            .write(&directory.0.join("state"))
            .is_err()
    );
}

#[test]
fn orders_outlive_a_reload_but_not_the_real_server_or_a_changed_weight() {
    let config = crate::desired::testbed::config(|_| {});
    let (known, other) = (key("10.0.0.9:1"), key("10.0.0.9:2"));
    let overrides = Overrides::default()
        .with("web", known, 1, Change::Drain)
        .with("web", known, 1, Change::Weight(5))
        .with("web", other, 3, Change::Weight(6))
        .with("web", key("10.0.0.9:77"), 1, Change::Drain)
        .with("gone", known, 1, Change::Drain);
    let (kept, dropped) = overrides.under(&config);
    let wanted = Overrides::default()
        .with("web", known, 1, Change::Drain)
        .with("web", known, 1, Change::Weight(5));
    assert_eq!(kept, wanted);
    let objects: Vec<&str> = dropped.iter().map(|(object, _)| object.as_str()).collect();
    let gone = ["gone/10.0.0.9:1", "web/10.0.0.9:2", "web/10.0.0.9:77"];
    assert_eq!(objects, gone);
    assert!(dropped[1].1.starts_with("weight 1: the configuration"));
    assert_eq!(kept.under(&config), (kept.clone(), Vec::new()));
}

fn key(text: &str) -> DestinationKey {
    DestinationKey(text.parse().unwrap())
}

/// A place that is gone at the end, whatever was made there.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let pid = std::process::id();
        Directory(std::env::temp_dir().join(format!("vipd-overrides-{name}-{pid}")))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        let _ = fs::remove_file(&self.0);
    }
}
