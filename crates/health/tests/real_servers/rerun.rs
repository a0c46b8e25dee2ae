//! For what belongs to a whole process (environment, limits): the test runs once more, alone in a
//! process of its own.

use std::path::Path;
use std::process::Command;

const MARK: &str = "HEALTH_TEST_RERUN";

/// In the parent: runs `test` (its full name) again with the environment variable and, where given,
/// the limit of open files; asserts that it passes there, and returns true. In the child: false.
pub(crate) fn rerun(test: &str, env: Option<(&str, &Path)>, open_files: Option<u32>) -> bool {
    let limit = open_files.map_or(String::new(), |n| format!("ulimit -n {n};"));
    again(test, env, &format!(r#"{limit} exec "$0" "$@""#))
}

/// The same in a network namespace of its own, made ready by `setup`: shell commands
/// without single quotes.
pub(crate) fn rerun_in_namespace(test: &str, setup: &str) -> bool {
    let script = format!(
        r#"exec unshare --net sh -ec 'ip link set lo up
{setup}
exec "$0" "$@"' "$0" "$@""#
    );
    again(test, None, &script)
}

fn again(test: &str, env: Option<(&str, &Path)>, script: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return false;
    }
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MARK, "1")
        .env_remove("SSL_CERT_DIR");
    if let Some((name, value)) = env {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{test} in its own process: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    true
}
