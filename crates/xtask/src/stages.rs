//! `cargo xtask test`: every check of the repository, one stage after the other. A failing stage
//! does not stop the others; the last line sums up.
//!
//! Tests run beside each other, many of them with real clocks and a real kernel, on whatever machine
//! there is. One that fails among the others runs once more alone: if it passes then, the machine
//! was too busy for it, and it is named at the end so that somebody makes it patient.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guest::{Guest, Terminal, workspace};
use crate::{lab, provision, say};

/// Test executables that need a kernel with IPVS: package, target. They run one after the other, in any
/// order; `alone` has the module of IPVS unloaded meanwhile.
const GUEST_TESTS: [(&str, &str); 4] = [
    ("ipvs", "kernel"),
    ("vipd", "reconcile"),
    ("vipd-tests", "alone"),
    ("vipd-tests", "guest"),
];
/// The package of the lab's scenarios.
const LAB: &str = "vipd-tests";
/// An emulated guest that takes longer hangs: it is booted once more.
const GUEST_LIMIT: Duration = Duration::from_secs(30 * 60);
/// More failures than this in one run have another reason than a busy machine.
const SECOND_CHANCES: usize = 4;

#[derive(Default)]
struct Sum {
    passed: u64,
    failed: u64,
    /// Tests that passed only alone.
    unsteady: Vec<String>,
}

/// Runs everything.
pub(crate) fn run() -> Result<bool> {
    let start = Instant::now();
    provision::install()?;
    let mut sum = Sum::default();
    let fetched = provision::language_server(&workspace().join("target/lab"));
    sum.count_result("a TOML language server", fetched);
    sum.stage("format", &["fmt", "--all", "--check"]);
    let deny = ["--", "-D", "warnings"];
    sum.stage(
        "clippy",
        &[
            &["clippy", "--quiet", "--workspace", "--all-targets"],
            &deny[..],
        ]
        .concat(),
    );
    // The lab drives the built binaries, so they come before the tests that use them.
    sum.count_result("build", lab::build(&[]));
    match build_tests() {
        Err(error) => sum.count_result("tests", Err(error)),
        Ok(targets) => {
            let (ipvs, host): (Vec<_>, Vec<_>) = targets.iter().partition(|t| t.needs_ipvs());
            for target in host {
                // Scenarios mostly wait for elections; they need more turns than cores.
                sum.target(target, (target.package == LAB).then_some("6"));
            }
            let result = sum.ipvs_tests(&ipvs);
            sum.count_result("tests with IPVS", result);
        }
    }
    sum.tests(
        "documentation tests",
        &mut cargo(&["test", "--quiet", "--workspace", "--doc"]),
    );
    sum.stage_with(
        "documentation",
        &["doc", "--quiet", "--workspace", "--no-deps"],
        |command| {
            command.env("RUSTDOCFLAGS", "-D warnings");
        },
    );
    if cargo(&["deny", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        sum.stage(
            "dependencies",
            &["deny", "check", "licenses", "bans", "sources"],
        );
    } else {
        say("== dependencies: not checked, cargo-deny is not installed");
    }
    say(&format!("everything took {} s", start.elapsed().as_secs()));
    if !sum.unsteady.is_empty() {
        let names = sum.unsteady.join(", ");
        say(&format!("failed among others and passed alone: {names}"));
    }
    say(&format!("{} passed, {} failed", sum.passed, sum.failed));
    Ok(sum.failed == 0)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace());
    command
}

/// A test executable.
struct TestTarget {
    package: String,
    target: String,
    executable: String,
    /// Where `cargo test` would run it.
    folder: String,
}

impl TestTarget {
    fn needs_ipvs(&self) -> bool {
        GUEST_TESTS.contains(&(&self.package, &self.target))
    }

    fn name(&self) -> String {
        format!("{} {}", self.package, self.target)
    }

    /// The name of its output in the guest.
    fn log(&self) -> String {
        format!("{}-{}", self.package, self.target)
    }
}

/// Builds every test executable and says where they are.
fn build_tests() -> Result<Vec<TestTarget>> {
    let mut build = cargo(&["test", "--workspace", "--no-run", "--message-format=json"]);
    let output = build
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    ensure!(output.status.success(), "the tests do not build");
    let mut targets = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line)?;
        let text = |pointer: &str| {
            message
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let is_test = message.pointer("/profile/test") == Some(&Value::Bool(true));
        let executable = text("/executable");
        if text("/reason") != "compiler-artifact" || !is_test || executable.is_empty() {
            continue;
        }
        let manifest = PathBuf::from(text("/manifest_path"));
        let folder = manifest
            .parent()
            .context("a manifest is in a folder")?
            .to_owned();
        let package = fs::read_to_string(&manifest)?;
        let package = package
            .lines()
            .find_map(|line| line.strip_prefix("name = "));
        targets.push(TestTarget {
            package: package
                .context("a package has a name")?
                .trim_matches('"')
                .to_owned(),
            target: text("/target/name"),
            executable,
            folder: folder.to_string_lossy().into_owned(),
        });
    }
    Ok(targets)
}

impl Sum {
    fn count(&mut self, what: &str, good: bool, start: Instant) {
        let word = if good { "ok" } else { "FAILED" };
        say(&format!(
            "== {what}: {word}, {} s",
            start.elapsed().as_secs()
        ));
        if good {
            self.passed += 1
        } else {
            self.failed += 1
        }
    }

    fn count_result(&mut self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            say(&format!("== {what}: FAILED: {error:#}"));
            self.failed += 1;
        }
    }

    fn stage(&mut self, what: &str, arguments: &[&str]) {
        self.stage_with(what, arguments, |_| {});
    }

    fn stage_with(&mut self, what: &str, arguments: &[&str], change: impl FnOnce(&mut Command)) {
        say(&format!("== {what}"));
        let start = Instant::now();
        let mut command = cargo(arguments);
        change(&mut command);
        let good = command.status().is_ok_and(|status| status.success());
        self.count(what, good, start);
    }

    /// Runs a test harness, shows its output, and adds up its closing lines.
    fn tests(&mut self, what: &str, command: &mut Command) {
        say(&format!("== {what}"));
        let start = Instant::now();
        let output = show(command).unwrap_or_else(|error| format!("{error:#}"));
        self.add(what, &[&output], start);
    }

    /// Runs a test executable on this machine, with so many threads if that is said.
    fn target(&mut self, target: &TestTarget, threads: Option<&str>) {
        let what = target.name();
        let mut command = Command::new(&target.executable);
        command.current_dir(&target.folder);
        say(&format!("== {what}"));
        let start = Instant::now();
        command.envs(threads.map(|threads| ("RUST_TEST_THREADS", threads)));
        let first = show(&mut command).unwrap_or_else(|error| format!("{error:#}"));
        let again = second_chances(&first);
        if again.is_empty() {
            return self.add(&what, &[&first], start);
        }
        say(&format!("== {what}, once more alone: {}", again.join(", ")));
        let mut alone = Command::new(&target.executable);
        alone
            .current_dir(&target.folder)
            .args(["--exact", "--test-threads=1"]);
        let second = show(alone.args(&again)).unwrap_or_else(|error| format!("{error:#}"));
        self.add(&what, &[&first, &second], start);
    }

    /// Runs the test executables that need IPVS: here if this kernel has it, otherwise all in one
    /// guest.
    fn ipvs_tests(&mut self, targets: &[&TestTarget]) -> Result<()> {
        if provision::running_kernel_has_ipvs() {
            for target in targets {
                self.target(target, None);
            }
            return Ok(());
        }
        let guest = Guest::prepare()?;
        let start = Instant::now();
        let logs = Logs::new();
        logs.remove(targets);
        let mut booted = guest.run(&script(targets), Terminal::Output, Some(GUEST_LIMIT));
        let unfinished: Vec<_> = targets
            .iter()
            .filter(|t| !logs.closed(t))
            .copied()
            .collect();
        if let (Err(error), false) = (&booted, unfinished.is_empty()) {
            say(&format!("== {error:#}; once more, for what has not ended"));
            logs.remove(&unfinished);
            booted = guest.run(&script(&unfinished), Terminal::Output, Some(GUEST_LIMIT));
        }
        for target in targets {
            let outputs: Vec<String> = logs
                .of(target)
                .iter()
                .flat_map(fs::read_to_string)
                .collect();
            let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
            self.add(&target.name(), &outputs, start);
        }
        booted.map(|_| ())
    }

    /// Adds up the closing lines of a harness. One without such a line died: that is a failure. Of
    /// two runs the second one, of what failed in the first, says what has failed.
    fn add(&mut self, what: &str, outputs: &[&str], start: Instant) {
        let (mut passed, mut failed) = (0, u64::from(outputs.is_empty()));
        for output in outputs {
            let (good, bad) = closing(output).unwrap_or((0, 1));
            passed += good;
            failed = bad;
        }
        if let [first, _] = outputs
            && failed == 0
        {
            self.unsteady.extend(failures(first));
        }
        self.passed += passed;
        self.failed += failed;
        let seconds = start.elapsed().as_secs();
        say(&format!(
            "== {what}: {passed} passed, {failed} failed, {seconds} s"
        ));
    }
}

/// Where the guest leaves the output of its tests.
struct Logs(PathBuf);

impl Logs {
    fn new() -> Logs {
        Logs(workspace().join("target/lab/out"))
    }

    /// Of the first run, and of what failed there and ran once more.
    fn of(&self, target: &TestTarget) -> [PathBuf; 2] {
        let name = target.log();
        [format!("{name}.log"), format!("{name}-alone.log")].map(|name| self.0.join(name))
    }

    fn remove(&self, targets: &[&TestTarget]) {
        for path in targets.iter().flat_map(|target| self.of(target)) {
            let _ = fs::remove_file(path);
        }
    }

    /// Whether the first run came to its end.
    fn closed(&self, target: &TestTarget) -> bool {
        let [first, _] = self.of(target);
        fs::read_to_string(first).is_ok_and(|output| closing(&output).is_some())
    }
}

/// What the guest's shell does: each executable, and once more alone what failed.
fn script(targets: &[&TestTarget]) -> String {
    let one = |target: &&TestTarget| {
        let TestTarget {
            executable, folder, ..
        } = target;
        let (what, log) = (target.name(), format!("/out/{}", target.log()));
        format!(
            "echo '== {what}, in the guest'; cd {folder}; \
             {executable} 2>&1 | tee {log}.log; \
             set -- $(sed -n 's/^test \\(.*\\) \\.\\.\\. FAILED$/\\1/p' {log}.log); \
             if [ $# -ge 1 ] && [ $# -le {SECOND_CHANCES} ]; then \
             echo \"== once more alone: $*\"; \
             {executable} --exact --test-threads=1 \"$@\" 2>&1 | tee {log}-alone.log; fi; "
        )
    };
    targets.iter().map(one).collect()
}

/// How many tests passed and failed, by the closing lines of a harness: `test result: ok. 12
/// passed; 0 failed; ...`.
fn closing(output: &str) -> Option<(u64, u64)> {
    let lines = output
        .lines()
        .filter_map(|line| line.trim().strip_prefix("test result: "));
    let numbers = lines.map(|line| {
        let number = |word: &str| -> u64 {
            let words: Vec<&str> = line.split([' ', ';']).collect();
            let pair = words.windows(2).find(|pair| pair.last() == Some(&word));
            pair.and_then(|pair| pair.first()?.parse().ok())
                .unwrap_or(0)
        };
        (number("passed"), number("failed"))
    });
    numbers.reduce(|sum, next| (sum.0 + next.0, sum.1 + next.1))
}

/// The names of the tests that failed.
fn failures(output: &str) -> Vec<String> {
    let lines = output.lines();
    let names = lines.filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    names.map(str::to_owned).collect()
}

/// The failed tests that run once more: none if the harness died, or if there are too many.
fn second_chances(output: &str) -> Vec<String> {
    let failed = failures(output);
    match closing(output) {
        Some(_) if failed.len() <= SECOND_CHANCES => failed,
        Some(_) | None => Vec::new(),
    }
}

/// Runs a command, shows its output as it comes, and returns it.
fn show(command: &mut Command) -> Result<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot be run")?;
    let mut all = String::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            say(&line);
            all.push_str(&line);
            all.push('\n');
        }
    }
    child.wait()?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test one ... ok
test part::two has been running for over 60 seconds
test part::two ... FAILED
test three ... ok

failures:
    part::two

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 61s
";

    #[test]
    fn the_closing_lines_of_a_harness_are_added_up() {
        assert_eq!(closing(OUTPUT), Some((2, 1)));
        assert_eq!(closing(&OUTPUT.repeat(2)), Some((4, 2)));
        assert_eq!(closing("Segmentation fault"), None);
    }

    #[test]
    fn what_failed_runs_once_more_unless_it_is_too_much() {
        assert_eq!(second_chances(OUTPUT), ["part::two"]);
        assert!(second_chances(&OUTPUT.repeat(SECOND_CHANCES + 1)).is_empty());
        assert!(second_chances("test one ... FAILED\nkilled").is_empty());
    }

    #[test]
    fn a_second_run_decides_what_has_failed() {
        let alone = "test part::two ... ok\n\
                     test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out";
        let mut sum = Sum::default();
        sum.add("lab", &[OUTPUT, alone], Instant::now());
        assert_eq!((sum.passed, sum.failed), (3, 0));
        assert_eq!(sum.unsteady, ["part::two"]);
        let mut sum = Sum::default();
        sum.add("lab", &[OUTPUT, "killed"], Instant::now());
        assert_eq!((sum.passed, sum.failed), (2, 1));
        assert!(sum.unsteady.is_empty());
    }
}
