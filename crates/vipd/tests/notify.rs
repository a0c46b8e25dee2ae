//! `[[notify]]` with real programs and a real HTTP server.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use vipd::config::Config;
use vipd::events::{Details, Events, Fields, Kind};
use vipd::notify::{Notifier, spool};

const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "zQ7wK9xJ4vT2bN8m";

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_the_event_as_json_and_as_variables_in_order() {
    let folder = Folder::new("command");
    let script =
        "{ cat; echo; echo \"$VIPD_DIRECTOR $VIPD_EVENT $VIPD_OBJECT $VIPD_PRIORITY\"; } >> OUT";
    let config = folder.command(script, "events = ['vrrp.*']\nobjects = ['web']");
    let events = Arc::new(Events::default());
    let mut notifier = Notifier::start(&config, &events);
    for (kind, object) in [
        (Kind::VrrpRival, "web"),
        (Kind::VrrpMaster, "inside"),
        (Kind::QuorumLost, "web"),
        (Kind::VrrpMaster, "web"),
    ] {
        let details = Details {
            cause: Some("silence".to_owned()),
            fields: Fields::of([("priority", 150.into())]),
        };
        events.record_with(kind, object, "words", details);
    }
    let lines = folder.lines(4).await;
    let first: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(first["kind"], "vrrp.rival");
    assert_eq!(first["director"], "lb1");
    assert_eq!(first["cause"], "silence");
    assert_eq!(first["fields"]["priority"], 150);
    assert_eq!(lines[1], "lb1 vrrp.rival web 150");
    assert_eq!(lines[3], "lb1 vrrp.master web 150");
    notifier.finish().await;
    assert_eq!(folder.lines(4).await.len(), 4);
    assert_eq!(notifier.counts()["a"].told, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_hangs_delays_nobody_else_is_killed_and_old_news_are_left_out() {
    let folder = Folder::new("hang");
    let script = "echo $VIPD_OBJECT $VIPD_EVENT >> OUT; [ $VIPD_OBJECT != slow ] || \
                  [ $VIPD_EVENT = vrrp.master ] || exec sleep 1000";
    let config = folder.command(script, "events = ['*']\ntimeout = '1s'");
    let events = Arc::new(Events::default());
    let notifier = Notifier::start(&config, &events);
    events.record(Kind::VrrpFault, "slow", "");
    folder.lines(1).await;
    let begun = Instant::now();
    // While it hangs: of these only the last is news.
    events.record(Kind::VrrpBackup, "slow", "");
    events.record(Kind::VrrpFault, "slow", "");
    events.record(Kind::AddressRepaired, "slow", "");
    events.record(Kind::VrrpMaster, "slow", "");
    events.record(Kind::VrrpMaster, "quick", "");
    let lines = folder.lines(2).await;
    assert!(lines.contains(&"quick vrrp.master".to_owned()), "{lines:?}");
    assert!(
        begun.elapsed() < Duration::from_millis(900),
        "{:?}",
        begun.elapsed()
    );
    wait_for(&events, |e| {
        e.kind == "notify.failed" && e.message.contains("not done in 1s")
    })
    .await;
    let lines = folder.lines(3).await;
    assert_eq!(lines[2], "slow address.repaired");
    let lines = folder.lines(4).await;
    assert_eq!(lines[3], "slow vrrp.master");
    wait_for(&events, |e| e.kind == "notify.recovered").await;
    assert_eq!(notifier.counts()["a"].coalesced, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_made_for_keepalived_gets_its_four_arguments() {
    let folder = Folder::new("keepalived");
    let lines = "events = ['*']\nkeepalived_arguments = true";
    let config = folder.command("echo \"$#: $*\" >> OUT", lines);
    let events = Arc::new(Events::default());
    let mut notifier = Notifier::start(&config, &events);
    let tell = |kind, object: &str, from: &str| {
        let fields = Fields::of([("priority", 150.into()), ("from", from.into())]);
        let details = Details {
            cause: None,
            fields,
        };
        events.record_with(kind, object, "", details);
    };
    tell(Kind::VrrpInitialize, "VI 1", "initialize");
    tell(Kind::VrrpRival, "VI 1", "master");
    for (nth, kind) in [
        Kind::VrrpBackup,
        Kind::VrrpMaster,
        Kind::VrrpFault,
        Kind::VrrpInitialize,
    ]
    .into_iter()
    .enumerate()
    {
        tell(kind, "VI 1", "backup");
        folder.lines(nth + 1).await;
    }
    tell(Kind::SyncGroupFault, "G1", "master");
    folder.lines(5).await;
    notifier.finish().await;
    let wanted = ["BACKUP", "MASTER", "FAULT", "STOP"];
    // Behind the script's own arguments.
    let mut wanted = wanted
        .map(|state| format!("4: INSTANCE VI 1 {state} 150"))
        .to_vec();
    wanted.push("4: GROUP G1 FAULT 150".to_owned());
    assert_eq!(folder.lines(5).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_until_it_takes_it_and_its_failing_is_one_event() {
    let folder = Folder::new("webhook");
    let target = Target::start(2).await;
    let config = folder.webhook(target.address, "events = ['quorum.*']");
    let events = Arc::new(Events::default());
    let mut notifier = Notifier::start(&config, &events);
    events.record(Kind::QuorumLost, "http", "weight 0 of 1");
    target.wait_for(1).await;
    let (told, authorization) = target.told()[0].clone();
    assert_eq!(told["kind"], "quorum.lost");
    assert_eq!(told["director"], "lb1");
    assert_eq!(authorization, format!("Bearer {TOKEN}"));
    wait_for(&events, |e| e.kind == "notify.recovered").await;
    let page = events.newest(99);
    let failed = page
        .events
        .iter()
        .filter(|event| event.kind == "notify.failed");
    let failed: Vec<_> = failed.map(|event| event.message.as_str()).collect();
    let words =
        "webhook: answered 503 Service Unavailable (about quorum.lost http); it is tried again";
    assert_eq!(failed, [words]);
    let counts = notifier.counts()["a"];
    assert_eq!((counts.told, counts.failed, counts.waiting), (1, 2, 0));
    notifier.finish().await;
    assert!(!folder.0.join("state").join(spool::FILE).exists());
    assert!(!serde_json::to_string(&page).unwrap().contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_has_not_taken_is_told_after_a_restart_and_only_the_newest_of_a_state() {
    let folder = Folder::new("restart");
    let target = Target::start(u32::MAX).await;
    let config = folder.webhook(target.address, "events = ['*']");
    let events = Arc::new(Events::default());
    let mut notifier = Notifier::start(&config, &events);
    for (kind, object) in [
        (Kind::QuorumLost, "http"),
        (Kind::QuorumGained, "http"),
        (Kind::AddressRepaired, "10.0.0.1"),
        (Kind::QuorumLost, "https"),
    ] {
        events.record(kind, object, "");
    }
    wait_for(&events, |event| event.kind == "notify.failed").await;
    notifier.finish().await;
    let file = folder.0.join("state").join(spool::FILE);
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains(TOKEN), "{text}");
    target.fail(0);
    let events = Arc::new(Events::default());
    let mut notifier = Notifier::start(&config, &events);
    target.wait_for(3).await;
    notifier.finish().await;
    let mut told: Vec<(String, String)> = target
        .told()
        .iter()
        .map(|(told, _)| (told["kind"].to_string(), told["object"].to_string()))
        .collect();
    told.sort();
    let wanted = [
        ("\"address.repaired\"", "\"10.0.0.1\""),
        ("\"quorum.gained\"", "\"http\""),
        ("\"quorum.lost\"", "\"https\""),
    ];
    assert_eq!(
        told,
        wanted.map(|(kind, object)| (kind.to_owned(), object.to_owned()))
    );
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_who_is_told() {
    let folder = Folder::new("reload");
    let config = folder.command("echo one $VIPD_EVENT >> OUT", "events = ['vrrp.*']");
    let events = Arc::new(Events::default());
    let mut notifier = Notifier::start(&config, &events);
    events.record(Kind::VrrpMaster, "web", "");
    folder.lines(1).await;
    let config = folder.command("echo two $VIPD_EVENT >> OUT", "events = ['quorum.*']");
    notifier.set(&config);
    // The change and what happens next come by different ways.
    while folder.lines(1).await.len() < 2 {
        events.record(Kind::QuorumLost, "http", "");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(folder.lines(2).await[1], "two quorum.lost");
    notifier.set(&Config::parse("", "empty").unwrap());
    while !notifier.counts().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    notifier.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_more_objects_than_the_list_of_events_holds_is_told_to_the_last_one() {
    let folder = Folder::new("burst");
    let target = Target::start(0).await;
    let config = folder.webhook(target.address, "events = ['real_server.*']");
    let events = Arc::new(Events::default());
    let notifier = Notifier::start(&config, &events);
    for n in 0..3_000 {
        events.record(
            Kind::RealServerDown,
            format!("http/10.0.{}.{}:80", n / 250, n % 250),
            "",
        );
    }
    target.wait_for(3_000).await;
    let begun = Instant::now();
    while notifier.counts()["a"].told < 3_000 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", notifier.counts());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let counts = notifier.counts()["a"];
    assert_eq!((counts.told, counts.dropped, counts.waiting), (3_000, 0, 0));
}

async fn wait_for(events: &Events, wanted: impl Fn(&vipd::events::Event) -> bool) {
    let begun = Instant::now();
    while !events.newest(99).events.iter().any(&wanted) {
        assert!(begun.elapsed() < PATIENCE, "{:#?}", events.newest(99));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A web server that refuses the first requests and keeps the others.
struct Target {
    address: SocketAddr,
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    refuse: AtomicU32,
    told: Mutex<Vec<(Value, String)>>,
}

impl Target {
    async fn start(refuse: u32) -> Target {
        let kept = Arc::new(Kept::default());
        kept.refuse.store(refuse, Ordering::SeqCst);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/hook", post(take))
            .with_state(Arc::clone(&kept));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Target { address, kept }
    }

    fn fail(&self, refuse: u32) {
        self.kept.refuse.store(refuse, Ordering::SeqCst);
    }

    fn told(&self) -> Vec<(Value, String)> {
        self.kept.told.lock().unwrap().clone()
    }

    async fn wait_for(&self, count: usize) {
        let begun = Instant::now();
        while self.kept.told.lock().unwrap().len() < count {
            assert!(
                begun.elapsed() < PATIENCE,
                "{} of {count}",
                self.told().len()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn take(State(kept): State<Arc<Kept>>, headers: HeaderMap, body: String) -> StatusCode {
    let left = |left: u32| left.checked_sub(1);
    if kept
        .refuse
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
        .is_ok()
    {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let authorization = headers["authorization"].to_str().unwrap().to_owned();
    let told = serde_json::from_str(&body).unwrap();
    kept.told.lock().unwrap().push((told, authorization));
    StatusCode::NO_CONTENT
}

/// A place that is gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = format!("vipd-notify-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn out(&self) -> PathBuf {
        self.0.join("out")
    }

    /// A shell script in which `OUT` is a file.
    fn command(&self, script: &str, lines: &str) -> Config {
        let script = script.replace("OUT", &self.out().display().to_string());
        let user = whoami();
        self.config(&format!(
            "{lines}\nuser = '{user}'\ncommand = ['/bin/sh', '-c', '''{script}''', 'sh']"
        ))
    }

    fn webhook(&self, address: SocketAddr, lines: &str) -> Config {
        self.config(&format!(
            "{lines}\nwebhook = 'http://{address}/hook?token={TOKEN}'\n\
             headers = {{ Authorization = 'Bearer {TOKEN}' }}"
        ))
    }

    fn config(&self, lines: &str) -> Config {
        let state = self.0.join("state");
        let text = format!(
            "[global]\nname = 'lb1'\nstate_dir = {state:?}\n[[notify]]\nname = 'a'\n{lines}\n"
        );
        Config::parse(&text, "notify.toml").unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The lines that scripts have written, once there are so many.
    async fn lines(&self, count: usize) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let text = fs::read_to_string(self.out()).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.len() >= count {
                return lines;
            }
            assert!(begun.elapsed() < PATIENCE, "{lines:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Who runs the tests: nobody else may be asked to run something.
fn whoami() -> String {
    let id = rustix::process::getuid().as_raw().to_string();
    let users = fs::read_to_string(Path::new("/etc/passwd")).unwrap();
    let mut users = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    users.find(|user| user[2] == id).unwrap()[0].to_owned()
}
