//! `vipctl doctor` and `vipd doctor`: asks, compares the codes, and does what the remedy says.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::director::Director;
use crate::host::Host;
use crate::{binary, run, wait_until};

/// What doctor found.
#[derive(Debug)]
pub struct Report(Value);

/// Asks the daemon.
///
/// # Errors
///
/// It does not answer, or its exit code is not that of what it found.
pub fn examine(director: &Director) -> Result<Report> {
    let mut vipctl = director.host.command(binary("vipctl")?);
    vipctl.arg("--socket").arg(director.socket());
    Report::of(vipctl.args(["doctor", "--json"]))
}

/// Exactly these are found at last: a busy guest may lose an echo, and have no time for a look.
///
/// # Errors
///
/// They are not; with what was found last.
pub fn found_by(
    patience: Duration,
    look: &dyn Fn() -> Result<Report>,
    codes: &[&str],
) -> Result<Report> {
    let mut last = None;
    wait_until(patience, &format!("{codes:?}"), || {
        let Ok(found) = look() else {
            return Ok(false);
        };
        let right = found.has(codes).is_ok();
        last = Some(found);
        Ok(right)
    })
    .with_context(|| format!("{last:#?}"))?;
    last.context("nothing was looked at")
}

/// Asks the program, with a file; a daemon may run or not.
///
/// # Errors
///
/// As [`examine`].
pub fn examine_file(host: &Host, config: &str) -> Result<Report> {
    let file = host.folder().join(format!("{}-doctor.toml", host.name()));
    let socket = host.folder().join(format!("{}.sock", host.name()));
    let line = format!("[global]\ncontrol_socket = {socket:?}\n");
    let text = match config.contains("[global]\n") {
        true => config.replacen("[global]\n", &line, 1),
        false => format!("{line}{config}"),
    };
    fs::write(&file, text)?;
    let mut vipd = host.command(binary("vipd")?);
    Report::of(vipd.args(["doctor", "--json", "-c"]).arg(&file))
}

impl Report {
    /// What a command printed that has doctor look, as JSON.
    ///
    /// # Errors
    ///
    /// As [`examine`].
    pub fn of(command: &mut Command) -> Result<Report> {
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = || {
            let error = String::from_utf8_lossy(&output.stderr);
            format!("{command:?}: {}: {error}{text}", output.status)
        };
        let report = Report(serde_json::from_str(&text).with_context(said)?);
        let wanted = i32::from(!report.codes().is_empty());
        ensure!(output.status.code() == Some(wanted), "{}", said());
        Ok(report)
    }

    /// How long it took, milliseconds.
    #[must_use]
    pub fn took_ms(&self) -> Option<u64> {
        self.0.get("took_ms").and_then(Value::as_u64)
    }

    /// The codes of what was found.
    #[must_use]
    pub fn codes(&self) -> BTreeSet<&str> {
        self.findings()
            .filter_map(|finding| finding["code"].as_str())
            .collect()
    }

    /// Whether exactly these were found.
    ///
    /// # Errors
    ///
    /// Others, with the whole report.
    pub fn has(&self, codes: &[&str]) -> Result<&Report> {
        let wanted: BTreeSet<&str> = codes.iter().copied().collect();
        ensure!(self.codes() == wanted, "not {wanted:?}: {:#}", self.0);
        Ok(self)
    }

    /// A finding.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub fn finding(&self, code: &str) -> Result<&Value> {
        let found = self.findings().find(|finding| finding["code"] == code);
        found.with_context(|| format!("no {code} in {:#}", self.0))
    }

    /// What was seen of it, in one text.
    ///
    /// # Errors
    ///
    /// As [`Report::finding`].
    pub fn evidence(&self, code: &str) -> Result<String> {
        Ok(self.finding(code)?["evidence"].to_string())
    }

    /// The command that mends it, and the host it is for.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn command(&self, code: &str) -> Result<(Option<String>, Vec<String>)> {
        let remedy = &self.finding(code)?["remedy"];
        let words = remedy["command"].as_array();
        let words = words.with_context(|| format!("no command in {remedy:#}"))?;
        let words = words.iter().filter_map(Value::as_str).map(str::to_owned);
        Ok((remedy["on"].as_str().map(str::to_owned), words.collect()))
    }

    /// That command as one line for a shell.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn line(&self, code: &str) -> Result<String> {
        let (_, words) = self.command(code)?;
        let quoted = words
            .iter()
            .map(|word| format!("'{}'", word.replace('\'', "'\\''")));
        Ok(quoted.collect::<Vec<_>>().join(" "))
    }

    /// What mends it, in words.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub fn words(&self, code: &str) -> Result<&str> {
        let words = self.finding(code)?.pointer("/remedy/words");
        words.and_then(Value::as_str).context("no words")
    }

    /// What it could not look at, in one text.
    #[must_use]
    pub fn not_looked_at(&self) -> String {
        let list = self.0.get("not_looked_at");
        list.map(Value::to_string).unwrap_or_default()
    }

    /// Runs the command that mends it, as it stands, on a host.
    ///
    /// # Errors
    ///
    /// There is none, or it fails.
    pub fn mend(&self, code: &str, host: &Host) -> Result<String> {
        let (_, words) = self.command(code)?;
        let (program, arguments) = words.split_first().context("no program")?;
        run(host.command(program).args(arguments))
    }

    /// The configuration with the key that mends it. The table of that name begins with its `name`.
    ///
    /// # Errors
    ///
    /// There is no key, or no such table.
    pub fn mended(&self, code: &str, config: &str) -> Result<String> {
        let finding = self.finding(code)?;
        let text = |what: &str| {
            let value = finding.pointer(&format!("/remedy/key/{what}"));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (name, line) = (
            format!("[[{}]]\nname = {:?}\n", text("table"), text("name")),
            format!("{} = ", text("key")),
        );
        let (before, table) = config
            .split_once(&name)
            .with_context(|| format!("no {name:?} in {config}"))?;
        let end = table.find("\n[").unwrap_or(table.len());
        let (table, after) = table.split_at(end);
        let others: Vec<&str> = table.lines().filter(|it| !it.starts_with(&line)).collect();
        let others = others.join("\n");
        Ok(format!(
            "{before}{name}{line}{}\n{others}\n{after}",
            text("value")
        ))
    }

    fn findings(&self) -> impl Iterator<Item = &Value> {
        let list = self.0.get("findings").and_then(Value::as_array);
        list.into_iter().flatten()
    }
}
