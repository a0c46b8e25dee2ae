//! promtool, and what stands in `docs/observability`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Runs promtool. With an input it must say nothing, else that all is well.
///
/// # Errors
///
/// It says no, with its words.
pub fn promtool(arguments: &[&str], input: &str) -> Result<()> {
    use std::io::Write as _;
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool")?;
    let mut stdin = promtool.stdin.take().context("a pipe was asked for")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = promtool.wait_with_output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    ensure!(output.status.success(), "promtool {arguments:?}: {text}");
    ensure!(!input.is_empty() || text.contains("SUCCESS"), "{text}");
    ensure!(input.is_empty() || text.trim().is_empty(), "{text}");
    Ok(())
}

/// A file of `docs/observability`.
#[must_use]
pub fn observability(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/observability")
        .join(name)
}

/// The expressions of the dashboard.
///
/// # Errors
///
/// It is not JSON.
pub fn dashboard() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(observability("dashboard.json"))?;
    let mut expressions = Vec::new();
    strings_of(&serde_json::from_str(&text)?, "expr", &mut expressions);
    Ok(expressions)
}

/// All texts under such a key.
fn strings_of(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let (Value::String(text), true) = (value, name == key) {
                    found.push(text.clone());
                }
                strings_of(value, key, found);
            }
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| strings_of(value, key, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The names of vipd's metrics in a text.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("vipd_"))
}
