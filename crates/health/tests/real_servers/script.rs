//! The script probe, with real programs as real users.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use health::program::{GRACE, Program};
use health::{CheckKind, CheckSpec, Failure, Health, Passed, Probe, Runner, Weight};
use tokio::sync::mpsc::unbounded_channel;

use crate::spec;

/// How often what is waited for is looked at.
const LOOK: Duration = Duration::from_millis(20);

#[tokio::test]
async fn the_exit_status_is_the_outcome_and_may_be_a_weight() {
    let weight = |weight| {
        Ok(Passed {
            weight: Some(Weight::Absolute(weight)),
            ..Passed::default()
        })
    };
    let failed = |words: &str| Err(Failure::Script(words.to_owned()));
    for (command, outcome) in [
        ("exit 0", Ok(Passed::default())),
        ("echo all is well", Ok(Passed::default())),
        ("exit 2", weight(0)),
        ("exit 3", weight(1)),
        ("exit 255", weight(253)),
        ("exit 1", failed("exit status 1")),
        (
            "echo disk full; echo more; exit 1",
            failed("exit status 1: disk full"),
        ),
        (
            "printf 'no end of line'; exit 1",
            failed("exit status 1: no end of line"),
        ),
        ("kill -9 $$", failed("killed by signal 9")),
    ] {
        assert_eq!(run(&shell(command)).await, outcome, "{command}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_a_failure_with_its_name() {
    for (command, user, words) in [
        (
            vec!["/no/such"],
            "nobody",
            "cannot run /no/such: No such file or directory",
        ),
        (
            vec!["/etc/passwd"],
            "nobody",
            "cannot run /etc/passwd as nobody: Permission denied",
        ),
        (
            vec!["/bin/true"],
            "no-such-user",
            "user no-such-user does not exist in /etc/passwd",
        ),
        (vec![], "nobody", "the command is empty"),
    ] {
        let check = script(&command, user);
        let outcome = run(&check).await;
        assert_eq!(outcome, Err(Failure::Invalid(words.to_owned())));
    }
}

#[tokio::test]
async fn a_script_is_told_the_target_and_is_its_user() {
    let command = "echo $VIPD_TARGET_ADDRESS $VIPD_TARGET_PORT $(id -un) $(pwd); exit 1";
    let outcome = run(&script(&["/bin/sh", "-c", command], "nobody")).await;
    let words = "exit status 1: 10.0.0.21 80 nobody /";
    assert_eq!(outcome, Err(Failure::Script(words.to_owned())));
}

#[tokio::test]
async fn a_traced_script_tells_how_long_it_ran() {
    let (steps, outcome) = Probe::trace(&shell("sleep 0.2")).await;
    assert_eq!(outcome, Ok(Passed::default()));
    let run = steps.iter().find(|step| step.name == "run").unwrap();
    assert!(run.took >= Duration::from_millis(200), "{steps:?}");
}

#[tokio::test]
async fn much_output_neither_stops_a_script_nor_fills_memory() {
    let outcome = run(&shell("yes | head -c 3000000; exit 1")).await;
    assert_eq!(outcome, Err(Failure::Script("exit status 1: y".to_owned())));
    let long = run(&shell("printf %01000d 7; exit 1")).await.unwrap_err();
    assert!(long.to_string().len() < 250, "{long}");
}

#[tokio::test]
async fn what_a_script_leaves_behind_goes_with_it_and_is_not_waited_for() {
    let folder = Folder::new("leaves");
    let file = folder.writable("ids");
    let begin = Instant::now();
    // The child holds the pipe open.
    let command = format!("sleep 60 & echo $! > {}; echo done; exit 1", file.display());
    let outcome = run(&shell(&command)).await;
    assert_eq!(
        outcome,
        Err(Failure::Script("exit status 1: done".to_owned()))
    );
    assert!(begin.elapsed() < Duration::from_secs(30));
    all_gone(&file).await;
}

#[tokio::test]
async fn at_the_timeout_the_whole_group_goes() {
    let folder = Folder::new("timeout");
    let file = folder.writable("ids");
    let command = format!("sleep 60 & echo $! $$ > {}; wait", file.display());
    let check = hasty(&command);
    let failure = run(&check).await.unwrap_err();
    assert_eq!(failure.to_string(), "not done within 500ms, killed");
    all_gone(&file).await;
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed_and_the_next_run_waits_for_its_end() {
    let folder = Folder::new("stubborn");
    let file = folder.writable("ids");
    let command = format!(
        "trap '' TERM; sleep 60 & echo $! $$ >> {}; wait; sleep 60",
        file.display()
    );
    let probe = Probe::new(&hasty(&command)).unwrap();
    let begin = Instant::now();
    let first = probe.run().await.unwrap_err();
    assert_eq!(first.to_string(), "not done within 500ms, killed");
    assert!(begin.elapsed() < GRACE, "{:?}", begin.elapsed());
    let second = probe.run().await.unwrap_err();
    let words = "no answer within 500ms (the run before is not over)";
    assert_eq!(second.to_string(), words);
    assert_eq!(ids(&file).len(), 2, "it has run once");
    all_gone(&file).await;
}

#[tokio::test]
async fn a_check_that_is_dropped_takes_its_script_along() {
    let folder = Folder::new("dropped");
    let file = folder.writable("ids");
    let command = format!(
        "trap '' TERM; sleep 60 & echo $! $$ > {}; wait; sleep 60",
        file.display()
    );
    let (sender, mut reports) = unbounded_channel();
    let mut runner = Runner::new(sender).unwrap();
    runner.set([(shell(&command), Health::Unknown.into())].into());
    while ids(&file).len() < 2 {
        tokio::time::sleep(LOOK).await;
    }
    runner.set([].into());
    all_gone(&file).await;
    assert!(reports.try_recv().is_err(), "nobody is told of it");
}

fn shell(command: &str) -> CheckSpec {
    script(&["/bin/sh", "-c", command], "root")
}

fn hasty(command: &str) -> CheckSpec {
    CheckSpec {
        timeout: Duration::from_millis(500),
        ..shell(command)
    }
}

fn script(command: &[&str], user: &str) -> CheckSpec {
    let program = Program {
        command: command.iter().map(ToString::to_string).collect(),
        user: user.to_owned(),
    };
    CheckSpec {
        timeout: Duration::from_secs(30),
        ..spec("10.0.0.21:80".parse().unwrap(), CheckKind::Script(program))
    }
}

async fn run(check: &CheckSpec) -> Result<Passed, Failure> {
    Probe::new(check)?.run().await
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
    // A zombie is dead.
    let is_alive = |id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while ids.iter().any(is_alive) {
        assert!(Instant::now() < deadline, "one of {ids:?} lives");
        tokio::time::sleep(LOOK).await;
    }
}

/// A folder that every user may enter.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("health-script-{}-{name}", std::process::id());
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
