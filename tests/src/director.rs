//! A director: vipd on a host.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::host::Host;
use crate::process::Process;
use crate::{binary, run, wait_for, wait_until};

/// Longer than anything that it is asked to do takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running vipd.
#[derive(Debug)]
pub struct Director {
    /// The host it runs on.
    pub host: Host,
    config: PathBuf,
    socket: PathBuf,
    process: Process,
}

impl Director {
    /// Starts vipd with a configuration; a control socket and a state folder are added to its
    /// `[global]` table.
    /// Returns when it answers.
    ///
    /// # Errors
    ///
    /// It ended, or does not answer; with its log.
    pub fn start(host: &Host, config: &str) -> Result<Director> {
        let mut director = Director::launch(host, config)?;
        director.wait_until_it_answers()?;
        Ok(director)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let answers = wait_until(PATIENCE, "vipd answers", || {
            if let Ok(status) = self.process.wait(Duration::ZERO) {
                bail!("vipd ended with {status}:\n{}", self.log());
            }
            Ok(self.status().is_ok())
        });
        answers.with_context(|| self.log()).map(|_| ())
    }

    /// Starts vipd without waiting for anything.
    ///
    /// # Errors
    ///
    /// It cannot be run.
    pub fn launch(host: &Host, config: &str) -> Result<Director> {
        let file = host.folder().join(format!("{}.toml", host.name()));
        let socket = host.folder().join(format!("{}.sock", host.name()));
        fs::write(&file, with_paths(config, &socket))?;
        let arguments = ["run", "-c", &file.to_string_lossy()];
        let process = host.spawn("vipd", &binary("vipd")?, &arguments)?;
        Ok(Director {
            host: host.clone(),
            config: file,
            socket,
            process,
        })
    }

    /// `vipctl WORDS`; returns what it printed.
    ///
    /// # Errors
    ///
    /// It says no, or vipd does not answer.
    pub fn vipctl(&self, words: &[&str]) -> Result<String> {
        let mut vipctl = self.host.command(binary("vipctl")?);
        run(vipctl.arg("--socket").arg(&self.socket).args(words))
    }

    /// As [`Director::vipctl`], for what must be refused; returns the words on standard error.
    ///
    /// # Errors
    ///
    /// Its exit code is not 1.
    pub fn refused(&self, words: &[&str]) -> Result<String> {
        let mut vipctl = self.host.command(binary("vipctl")?);
        let output = vipctl
            .arg("--socket")
            .arg(&self.socket)
            .args(words)
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code();
        ensure!(code == Some(1), "vipctl {words:?}: exit {code:?}: {text}");
        Ok(text)
    }

    /// `vipctl status --json`.
    ///
    /// # Errors
    ///
    /// vipd does not answer.
    pub fn status(&self) -> Result<Value> {
        let text = self.vipctl(&["status", "--json"])?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// The events so far, newest last: `KIND OBJECT: MESSAGE`.
    ///
    /// # Errors
    ///
    /// vipd does not answer.
    pub fn events(&self) -> Result<Vec<String>> {
        let mut events = Vec::new();
        for line in self.vipctl(&["events", "--json"])?.lines() {
            let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let text = |key| event.get(key).and_then(Value::as_str).unwrap_or_default();
            let (kind, object, message) = (text("kind"), text("object"), text("message"));
            events.push(format!("{kind} {object}: {message}"));
        }
        Ok(events)
    }

    /// Waits for an event that contains all of these words, and returns it.
    ///
    /// # Errors
    ///
    /// It does not come; with those that did.
    pub fn wait_for_event(&self, words: &[&str]) -> Result<String> {
        let mut events = Vec::new();
        let what = format!("an event with {words:?}");
        wait_for(PATIENCE, &what, || {
            events = self.events()?;
            let mut newest = events.iter().rev();
            let found = newest.find(|event| words.iter().all(|word| event.contains(word)));
            Ok(found.cloned())
        })
        .with_context(|| format!("there are {events:#?}"))
    }

    /// Waits until the state of the first virtual router is this one.
    ///
    /// # Errors
    ///
    /// It is not, in time.
    pub fn wait_for_state(&self, state: &str) -> Result<Duration> {
        self.wait_for_status("/vrrp/0/state", &Value::from(state))
    }

    /// How many adverts the first virtual router has discarded for a reason.
    ///
    /// # Errors
    ///
    /// There is no such reason.
    pub fn discarded(&self, reason: &str) -> Result<u64> {
        let pointer = format!("/vrrp/0/counters/discarded/{reason}");
        let status = self.status()?;
        let count = status.pointer(&pointer).and_then(Value::as_u64);
        count.with_context(|| format!("no {pointer} in {status:#}"))
    }

    /// `vipctl status` as a person sees it.
    ///
    /// # Errors
    ///
    /// vipd does not answer.
    pub fn status_text(&self) -> Result<String> {
        self.vipctl(&["status"])
    }

    /// Waits until a value of the status is as wanted.
    ///
    /// # Errors
    ///
    /// It is not, in time; with the last one.
    pub fn wait_for_status(&self, pointer: &str, wanted: &Value) -> Result<Duration> {
        let mut last = Value::Null;
        wait_until(PATIENCE, &format!("{pointer} = {wanted}"), || {
            let status = self.status()?;
            last = status.pointer(pointer).cloned().unwrap_or(Value::Null);
            Ok(last == *wanted)
        })
        .with_context(|| format!("it is {last}; the log:\n{}", self.log()))
    }

    /// `vipctl upgrade`; from here on this is the process that has taken over.
    ///
    /// # Errors
    ///
    /// It did not come about.
    pub fn upgrade(&mut self) -> Result<()> {
        let text = self.vipctl(&["upgrade", "--json"])?;
        let upgraded: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let pid = upgraded.get("pid").and_then(Value::as_u64);
        let pid = u32::try_from(pid.with_context(|| text.clone())?)?;
        ensure!(pid != self.pid(), "the same process: {text}");
        self.process.succeeded_by(pid)
    }

    /// Replaces the file, without telling vipd.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write_config(&self, config: &str) -> Result<()> {
        Ok(fs::write(&self.config, with_paths(config, &self.socket))?)
    }

    /// Replaces the file and sends SIGHUP.
    ///
    /// # Errors
    ///
    /// vipd has ended.
    pub fn reload(&self, config: &str) -> Result<()> {
        self.write_config(config)?;
        self.process.signal("HUP")
    }

    /// Stops vipd gracefully and waits for its end.
    ///
    /// # Errors
    ///
    /// It does not end, or not with success.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal("TERM")?;
        let status = self.process.wait(Duration::from_secs(60))?;
        if !status.success() {
            bail!("vipd ended with {status}:\n{}", self.log());
        }
        Ok(())
    }

    /// Kills vipd and its guard, so that everything is left behind.
    ///
    /// # Errors
    ///
    /// It has ended already.
    pub fn kill(&mut self) -> Result<()> {
        // Stopped, it cannot start another guard.
        self.process.signal("STOP")?;
        if let Some(guard) = self.guard()? {
            signal(guard, "KILL")?;
        }
        self.kill_alone("KILL").map(|_| ())
    }

    /// Ends vipd by a signal; its guard lives. Returns when that was.
    ///
    /// # Errors
    ///
    /// It has ended already.
    pub fn kill_alone(&mut self, name: &str) -> Result<SystemTime> {
        let at = SystemTime::now();
        signal(self.pid(), name)?;
        self.process.wait(Duration::from_secs(10))?;
        Ok(at)
    }

    /// Waits until vipd has ended by itself.
    ///
    /// # Errors
    ///
    /// It goes on.
    pub fn ended_within(&mut self, patience: Duration) -> Result<()> {
        self.process.wait(patience).map(|_| ())
    }

    /// The process of its crash guard.
    ///
    /// # Errors
    ///
    /// vipd has ended.
    pub fn guard(&self) -> Result<Option<u32>> {
        let id = self.pid();
        for task in fs::read_dir(format!("/proc/{id}/task"))? {
            let children = fs::read_to_string(task?.path().join("children"));
            for child in children.unwrap_or_default().split_whitespace() {
                let words = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                if words.split(|byte| *byte == 0).nth(1) == Some(b"guard") {
                    return Ok(Some(child.parse()?));
                }
            }
        }
        Ok(None)
    }

    /// Kills vipd and its guard, then runs `vipd release` as systemd would.
    /// Returns what that printed.
    ///
    /// # Errors
    ///
    /// The release failed.
    pub fn kill_and_release(mut self, arguments: &[&str]) -> Result<String> {
        self.kill()?;
        let mut release = self.host.command(binary("vipd")?);
        run(release
            .args(["release", "-c"])
            .arg(&self.config)
            .args(arguments))
    }

    /// Waits until vipd has ended by itself, and returns its exit code and log.
    ///
    /// # Errors
    ///
    /// It goes on.
    pub fn ended(mut self) -> Result<(Option<i32>, String)> {
        let status = self.process.wait(Duration::from_secs(20))?;
        Ok((status.code(), self.log()))
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// The program.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The file it reads.
    #[must_use]
    pub fn config(&self) -> &std::path::Path {
        &self.config
    }

    /// Where it keeps what outlives it.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.socket.with_extension("state")
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Starts vipd anew after its end, with the file as it is. Returns when it answers.
    ///
    /// # Errors
    ///
    /// As [`Director::start`].
    pub fn start_again(&mut self) -> Result<()> {
        let arguments = ["run", "-c", &self.config.to_string_lossy()];
        self.process = self.host.spawn("vipd", &binary("vipd")?, &arguments)?;
        self.wait_until_it_answers()
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }
}

/// Sends a signal by name.
///
/// # Errors
///
/// There is no such process.
pub fn signal(id: u32, name: &str) -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};

    let signal = match name {
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        "SEGV" => Signal::SEGV,
        "ABRT" => Signal::ABORT,
        "TERM" => Signal::TERM,
        _ => bail!("no signal {name}"),
    };
    let pid = Pid::from_raw(i32::try_from(id)?).context("no process")?;
    Ok(kill_process(pid, signal)?)
}

fn with_paths(config: &str, socket: &std::path::Path) -> String {
    let state = socket.with_extension("state");
    let line = format!("control_socket = {socket:?}\nstate_dir = {state:?}");
    if config.contains("[global]") {
        config.replacen("[global]", &format!("[global]\n{line}"), 1)
    } else {
        format!("[global]\n{line}\n{config}")
    }
}
