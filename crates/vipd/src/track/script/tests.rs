//! Real scripts, as real users.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use health::program::{GRACE, User};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

use super::*;
use crate::track::{Tracker, Wanted};

/// How often what is waited for is looked at.
const LOOK: Duration = Duration::from_millis(20);

#[tokio::test]
async fn the_words_say_how_a_script_ended() {
    let folder = Folder::new("words");
    fs::write(folder.0.join("plain"), "exit 0").unwrap();
    let none = folder.0.join("none").display().to_string();
    let plain = folder.0.join("plain").display().to_string();
    let (cannot, denied) = (
        format!("cannot run {none}: No such file or directory"),
        format!("cannot run {plain} as root: Permission denied"),
    );
    for (command, expected) in [
        (vec!["/bin/true"], Ok(())),
        (vec!["/bin/sh", "-c", "exit 3"], Err("exit status 3")),
        (
            vec!["/bin/sh", "-c", "kill -9 $$"],
            Err("killed by signal 9"),
        ),
        // No shell comes in between: these are words to echo.
        (vec!["/bin/echo", ";", "false", "$(false)"], Ok(())),
        (vec![&none], Err(&*cannot)),
        (vec![&plain], Err(&*denied)),
        (vec![], Err("the command is empty")),
    ] {
        let got = once(&script(&command)).await;
        assert_eq!(got, expected.map_err(str::to_owned), "{command:?}");
    }
    let stranger = TrackScript {
        user: "no-such-user".to_owned(),
        ..script(&["/bin/true"])
    };
    let expected = "user no-such-user does not exist in /etc/passwd";
    assert_eq!(once(&stranger).await, Err(expected.to_owned()));
}

#[tokio::test]
async fn a_script_is_its_user_in_the_root_folder_with_nothing_of_the_daemon() {
    let folder = Folder::new("user");
    let file = folder.writable("out");
    let test = format!(
        "exec > {}; id -u; id -g; id -G; pwd; env | grep -v '^PATH=\\|^PWD=\\|^_=\\|^SHLVL='; \
         readlink /proc/self/fd/0 /proc/self/fd/2; \
         for fd in /proc/$$/fd/*; do readlink $fd; done | grep 'socket\\|anon_inode'; \
         ps -o pgid= -p $$ | tr -d ' ' | sed s/^$$\\$/own-group/; true",
        file.display()
    );
    let nobody = TrackScript {
        user: "nobody".to_owned(),
        ..script(&["/bin/bash", "-c", &test])
    };
    assert_eq!(once(&nobody).await, Ok(()));
    let entry = User::named("nobody").unwrap();
    let (user, group) = (entry.id, entry.group);
    let expected = format!("{user}\n{group}\n{group}\n/\n/dev/null\n/dev/null\n");
    let got = fs::read_to_string(&file).unwrap();
    let rest = got
        .strip_prefix(&expected)
        .unwrap_or_else(|| panic!("{got}"));
    assert_eq!(rest, "own-group\n", "no socket of the daemon");
}

#[tokio::test]
async fn at_the_timeout_the_verdict_is_there_and_grandchildren_go() {
    let folder = Folder::new("timeout");
    let file = folder.writable("ids");
    let test = format!("sleep 60 & echo $! $$ > {}; wait", file.display());
    let slow = TrackScript {
        timeout: Duration::from_millis(300),
        ..script(&["/bin/sh", "-c", &test])
    };
    assert_eq!(once(&slow).await, Err("timed out after 300ms".to_owned()));
    all_gone(&file).await;
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed_after_the_grace_and_the_verdict_does_not_wait() {
    let folder = Folder::new("stubborn");
    let file = folder.writable("ids");
    let test = format!(
        "trap '' TERM; sleep 60 & echo $! $$ > {}; wait; sleep 60",
        file.display()
    );
    let stubborn = TrackScript {
        timeout: Duration::from_millis(300),
        ..script(&["/bin/sh", "-c", &test])
    };
    let began = Instant::now();
    let mut concluded = None;
    run(&stubborn, |result| {
        concluded = Some((result, began.elapsed()))
    })
    .await;
    let (result, after) = concluded.unwrap();
    assert_eq!(result, Err("timed out after 300ms".to_owned()));
    assert!(after < GRACE, "{after:?}");
    assert!(began.elapsed() >= GRACE, "{:?}", began.elapsed());
    all_gone(&file).await;
}

#[tokio::test]
async fn what_a_script_leaves_in_its_group_goes_with_it() {
    let folder = Folder::new("leaves");
    let file = folder.writable("ids");
    let test = format!("sleep 60 & echo $! > {}", file.display());
    assert_eq!(once(&script(&["/bin/sh", "-c", &test])).await, Ok(()));
    all_gone(&file).await;
}

#[tokio::test]
async fn the_first_run_decides_and_then_rise_and_fall_do() {
    check(2, 3, "+", "+");
    check(2, 3, "-", "-");
    check(2, 3, "-++", "-.+");
    check(2, 3, "+--+---", "+.....-");
    check(1, 1, "+-+-", "+-+-");
    check(3, 1, "-++-+++", "-.....+");
}

#[test]
fn another_reason_of_a_failure_is_news_and_the_same_is_not() {
    let mut belief = Belief::new(&script(&[]));
    let mut record = |why: &str| belief.record(Err(why.to_owned())).map(|it| it.detail);
    assert_eq!(record("exit status 1").as_deref(), Some("exit status 1"));
    assert_eq!(record("exit status 1"), None);
    assert_eq!(record("timed out").as_deref(), Some("timed out"));
}

#[tokio::test]
async fn a_tracker_runs_at_the_interval_and_over_a_reload_only_what_changed_starts_anew() {
    let folder = Folder::new("reload");
    let [same, old, new] = ["same", "old", "new"].map(|name| folder.writable(name));
    let count = |file: &Path| format!("echo $$ >> {}; sleep 60", file.display());
    let endless = |file: &Path| TrackScript {
        timeout: Duration::from_secs(60),
        ..script(&["/bin/sh", "-c", &count(file)])
    };
    let verdict = folder.writable("verdict");
    fs::write(&verdict, "0").unwrap();
    let flag = TrackScript {
        name: "flag".to_owned(),
        interval: Duration::from_millis(20),
        ..script(&[
            "/bin/sh",
            "-c",
            &format!("exit `cat {}`", verdict.display()),
        ])
    };
    let (sender, mut reports) = unbounded_channel();
    let mut tracker = Tracker::start(move |report| drop(sender.send(report)));
    let mut wanted = Wanted {
        scripts: BTreeMap::from([
            ("same".to_owned(), endless(&same)),
            ("changes".to_owned(), endless(&old)),
            ("goes".to_owned(), endless(&old)),
            ("flag".to_owned(), flag),
        ]),
        ..Wanted::default()
    };
    tracker.set(&wanted);
    assert_eq!(next(&mut reports).await, ("flag".to_owned(), true));
    fs::write(&verdict, "1").unwrap();
    assert_eq!(next(&mut reports).await, ("flag".to_owned(), false));
    while ids(&old).len() < 2 || ids(&same).is_empty() {
        sleep(LOOK).await;
    }
    wanted.scripts.remove("goes");
    wanted.scripts.insert("changes".to_owned(), endless(&new));
    tracker.set(&wanted);
    all_gone(&old).await;
    let reaped = async {
        while ids(&old).iter().any(|id| is_listed(*id)) {
            sleep(LOOK).await;
        }
    };
    timeout(Duration::from_secs(5), reaped).await.unwrap();
    while ids(&new).is_empty() {
        sleep(LOOK).await;
    }
    assert_eq!(ids(&same).len(), 1, "it runs once, undisturbed");
    assert!(is_alive(ids(&same)[0]));
    drop(tracker);
    all_gone(&same).await;
    all_gone(&new).await;
}

/// Runs pass (`+`) or fail (`-`); after each, what is news: `+`, `-` or nothing (`.`).
fn check(rise: u32, fall: u32, runs: &str, expected: &str) {
    let mut belief = Belief::new(&TrackScript {
        rise,
        fall,
        ..script(&[])
    });
    let news: String = runs
        .chars()
        .map(|run| {
            let result = if run == '+' {
                Ok(())
            } else {
                Err(String::new())
            };
            match belief.record(result) {
                Some(outcome) if outcome.ok => '+',
                Some(_) => '-',
                None => '.',
            }
        })
        .collect();
    assert_eq!(news, expected, "rise {rise}, fall {fall}, {runs}");
}

fn script(command: &[&str]) -> TrackScript {
    TrackScript {
        name: "test".to_owned(),
        command: command.iter().map(ToString::to_string).collect(),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(10),
        rise: 1,
        fall: 1,
        user: "root".to_owned(),
    }
}

async fn once(script: &TrackScript) -> Result<(), String> {
    let mut concluded = None;
    run(script, |result| concluded = Some(result)).await;
    concluded.unwrap()
}

async fn next(reports: &mut UnboundedReceiver<Report>) -> (String, bool) {
    match timeout(Duration::from_secs(10), reports.recv()).await {
        Ok(Some(Report::Script { name, outcome })) => (name, outcome.ok),
        other => panic!("{other:?}"),
    }
}

/// The process ids that a script has written down.
fn ids(file: &Path) -> Vec<u32> {
    let text = fs::read_to_string(file).unwrap();
    text.split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

/// Waits until none of the processes that wrote themselves down lives any more, and that soon.
async fn all_gone(file: &Path) {
    let ids = ids(file);
    assert!(!ids.is_empty());
    let gone = async {
        while ids.iter().any(|id| is_alive(*id)) {
            sleep(LOOK).await;
        }
    };
    let soon = timeout(Duration::from_secs(5), gone).await;
    soon.unwrap_or_else(|_| panic!("one of {ids:?} lives"));
}

/// A zombie is dead.
fn is_alive(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// A zombie is.
fn is_listed(id: u32) -> bool {
    Path::new(&format!("/proc/{id}")).exists()
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("vipd-track-script-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    /// An empty file that every user may write.
    fn writable(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}
