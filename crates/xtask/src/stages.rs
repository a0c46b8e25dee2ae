//! `cargo xtask test`: every check of the repository, one stage after the other. A failing stage
//! does not stop the others; the last line sums up.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guest::{Guest, Terminal, workspace};
use crate::{lab, provision, say};

/// Test executables that need a kernel with IPVS: package, target.
const GUEST_TESTS: [(&str, &str); 3] = [
    ("ipvs", "kernel"),
    ("vipd", "reconcile"),
    ("vipd-tests", "guest"),
];

#[derive(Default)]
struct Sum {
    passed: u64,
    failed: u64,
}

/// Runs everything.
pub(crate) fn run() -> Result<bool> {
    let start = Instant::now();
    provision::install()?;
    let mut sum = Sum::default();
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
                let mut command = Command::new(&target.executable);
                // Scenarios mostly wait for elections; they need more turns than cores.
                if target.package == "vipd-tests" {
                    command.env("RUST_TEST_THREADS", "6");
                }
                sum.tests(&target.name(), command.current_dir(&target.folder));
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
        self.add(what, &output, start);
    }

    /// Runs the test executables that need IPVS: here if this kernel has it, otherwise all in one
    /// guest.
    fn ipvs_tests(&mut self, targets: &[&TestTarget]) -> Result<()> {
        if provision::running_kernel_has_ipvs() {
            for target in targets {
                let mut command = Command::new(&target.executable);
                self.tests(&target.name(), command.current_dir(&target.folder));
            }
            return Ok(());
        }
        let guest = Guest::prepare()?;
        let log = |number: usize| workspace().join(format!("target/lab/out/tests-{number}.log"));
        let mut script = String::new();
        for (number, target) in targets.iter().enumerate() {
            let _ = fs::remove_file(log(number));
            let TestTarget {
                executable, folder, ..
            } = target;
            script.push_str(&format!(
                "echo '== {}, in the guest'; cd {folder}; \
                 timeout 1200 {executable} 2>&1 | tee /out/tests-{number}.log; ",
                target.name()
            ));
        }
        let start = Instant::now();
        let booted = guest.run(&script, Terminal::Output);
        for (number, target) in targets.iter().enumerate() {
            let output = fs::read_to_string(log(number)).unwrap_or_default();
            self.add(&target.name(), &output, start);
        }
        booted.map(|_| ())
    }

    /// Adds up the closing lines of a harness: `test result: ok. 12 passed; 0 failed; ...`. One
    /// without such a line died: that is a failure.
    fn add(&mut self, what: &str, output: &str, start: Instant) {
        let closing = output
            .lines()
            .filter_map(|line| line.trim().strip_prefix("test result: "));
        let (mut passed, mut failed, mut closed) = (0, 0, false);
        for line in closing {
            let number = |word: &str| -> u64 {
                let words: Vec<&str> = line.split([' ', ';']).collect();
                let pair = words.windows(2).find(|pair| pair.last() == Some(&word));
                pair.and_then(|pair| pair.first()?.parse().ok())
                    .unwrap_or(0)
            };
            closed = true;
            passed += number("passed");
            failed += number("failed");
        }
        if !closed {
            failed += 1;
        }
        self.passed += passed;
        self.failed += failed;
        let seconds = start.elapsed().as_secs();
        say(&format!(
            "== {what}: {passed} passed, {failed} failed, {seconds} s"
        ));
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
