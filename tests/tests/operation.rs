//! What operators and their programs see of a daemon: its socket, its events over restarts and full disks,
//! its log, whom it tells, and its bundle for bug reports. In network and mount namespaces of this
//! machine; they need root, and no IPVS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::advert::{Forged, send_packet};
use lab::process::Process;
use lab::{Host, Lab, binary, wait_for, wait_until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
/// The words before the name of a secret of these tests.
const SECRET: &str = "zQ7wK9xJ";

#[test]
fn the_control_socket_is_for_root_and_its_group_and_one_in_use_is_left_alone() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    fs::write(lab.folder().join("group"), "root:x:0:\nvipd:x:4711:\n")?;
    let prelude = format!("mount --bind {}/group /etc/group", lab.folder().display());
    let mut first = Daemon::start(&host, "first", &prelude, "")?;
    let found = fs::metadata(&first.socket)?;
    ensure!(found.permissions().mode() & 0o777 == 0o660);
    ensure!((found.uid(), found.gid()) == (0, 4711), "{found:?}");
    ensure!(
        first.log().contains("for root and the group vipd"),
        "{}",
        first.log()
    );
    // Another daemon with the same socket does not start and takes nothing away.
    let mut second = Daemon::launch(&host, "first", "second", "true", "")?;
    ensure!(!second.process.wait(PATIENCE)?.success());
    ensure!(
        second.log().contains("another vipd is running there"),
        "{}",
        second.log()
    );
    first.vipctl(&["status"])?;
    // A dead one's is replaced; without the group it is for root.
    first.process.signal("KILL")?;
    first.process.wait(PATIENCE)?;
    ensure!(first.socket.exists());
    fs::write(lab.folder().join("group"), "root:x:0:\n")?;
    let third = Daemon::start(&host, "first", &prelude, "")?;
    ensure!(fs::metadata(&third.socket)?.gid() == 0);
    ensure!(
        third.log().contains("for root only, not for vipd"),
        "{}",
        third.log()
    );
    Ok(())
}

#[test]
fn curl_reads_the_api_on_both_listeners_and_gives_orders_on_one() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    host.ip("link set lo up")?;
    let config = format!("[global]\nhttp = \"127.0.0.1:9650\"\n{}", router(""));
    let daemon = Daemon::start(&host, "a", "true", &config)?;
    let unix = format!("--unix-socket {} http://vipd", daemon.socket.display());
    let tcp = "http://127.0.0.1:9650";
    for at in [unix.as_str(), tcp] {
        let document: Value =
            serde_json::from_str(&curl(&host, &format!("{at}/v1/openapi.json"))?)?;
        ensure!(document["openapi"] == "3.1.0");
        let status: Value = serde_json::from_str(&curl(&host, &format!("{at}/v1/status"))?)?;
        ensure!(status["vrrp"][0]["name"] == "web", "{status}");
        let lost: Value = serde_json::from_str(&curl(&host, &format!("{at}/v1/nothing"))?)?;
        ensure!(lost["error"]["code"] == "not_found", "{lost}");
    }
    let order = "-H content-type:application/json -d {\"on\":true}";
    let answer: Value =
        serde_json::from_str(&curl(&host, &format!("{order} {tcp}/v1/maintenance"))?)?;
    ensure!(answer["error"]["code"] == "not_found", "{answer}");
    ensure!(curl(&host, &format!("{tcp}/v1/debug"))?.contains("not_found"));
    let answer = curl(&host, &format!("{order} {unix}/v1/maintenance"))?;
    ensure!(answer.contains("message"), "{answer}");
    daemon.wait_for_event("maintenance.on")?;
    Ok(())
}

#[test]
fn events_are_there_after_a_crash_and_say_why_and_what_follows() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let mut daemon = Daemon::start(&host, "a", "true", &router(""))?;
    let master = daemon.wait_for_event("vrrp.master")?;
    ensure!(
        master["object"] == "web" && master["fields"]["priority"] == 150,
        "{master}"
    );
    ensure!(!master["cause"].as_str().unwrap().is_empty(), "{master}");
    ensure!(
        master["consequence"]
            .as_str()
            .unwrap()
            .contains("virtual addresses"),
        "{master}"
    );
    let file = lab.folder().join("a.state/events.jsonl");
    let id = master["id"].to_string();
    wait_until(PATIENCE, "the event in the file", || {
        Ok(fs::read_to_string(&file).unwrap_or_default().contains(&id))
    })?;
    daemon.process.signal("KILL")?;
    daemon.process.wait(PATIENCE)?;
    let daemon = Daemon::start(&host, "a", "true", &router(""))?;
    let events = daemon.events()?;
    ensure!(events.contains(&master), "{events:#?}");
    let ids: Vec<u64> = events
        .iter()
        .map(|event| event["id"].as_u64().unwrap())
        .collect();
    ensure!(ids.is_sorted(), "{ids:?}");
    Ok(())
}

#[test]
fn a_full_disk_is_one_event_and_the_daemon_lives_and_writes_when_there_is_room() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let state = lab.folder().join("a.state");
    fs::create_dir_all(&state)?;
    let state = state.display();
    let prelude = format!(
        "mount -t tmpfs -o size=64k none {state}; dd if=/dev/zero of={state}/filler bs=4k || true"
    );
    let daemon = Daemon::start(&host, "a", &prelude, &router(""))?;
    let event = daemon.wait_for_event("state.unwritable")?;
    ensure!(
        event["message"].as_str().unwrap().contains("No space left"),
        "{event}"
    );
    daemon.wait_for_event("vrrp.master")?;
    let inside = |line: &str| {
        let pid = daemon.process.id().to_string();
        let mut command = host.command("nsenter");
        run(command.args(["-m", "-t", &pid, "sh", "-e", "-c", line]))
    };
    inside(&format!("rm {state}/filler"))?;
    daemon.wait_for_event("state.written")?;
    wait_until(PATIENCE, "what happened meanwhile", || {
        Ok(inside(&format!("cat {state}/events.jsonl"))?.contains("state.written"))
    })?;
    let written = inside(&format!("cat {state}/events.jsonl"))?;
    ensure!(written.contains("vrrp.master"), "{written}");
    let events = daemon.events()?;
    let failures = events
        .iter()
        .filter(|event| event["kind"] == "state.unwritable");
    ensure!(failures.count() == 1, "{events:#?}");
    Ok(())
}

#[test]
fn a_script_of_keepalived_is_told_each_state_and_a_failing_one_is_an_event() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let (script, out) = (lab.folder().join("notify.sh"), lab.folder().join("out"));
    let text = format!(
        "#!/bin/sh\necho \"$* by $VIPD_DIRECTOR\" >> {}\n",
        out.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let notify = format!(
        "[[notify]]\nname = \"script\"\nevents = [\"vrrp.*\"]\ncommand = [{script:?}]\nuser = \"root\"\n\
         keepalived_arguments = true\n\
         [[notify]]\nname = \"broken\"\nevents = [\"vrrp.master\"]\ncommand = [\"/bin/false\"]\n"
    );
    let config = format!("[global]\nname = \"lb1\"\n{}{notify}", router(""));
    let daemon = Daemon::start(&host, "a", "true", &config)?;
    let told = |state: &str| {
        let line = format!("INSTANCE web {state} 150 by lb1");
        wait_until(PATIENCE, &line, || {
            Ok(fs::read_to_string(&out).unwrap_or_default().contains(&line))
        })
    };
    told("MASTER")?;
    let event = daemon.wait_for_event("notify.failed")?;
    ensure!(event["object"] == "broken", "{event}");
    lab.pull_cable(&host)?;
    told("FAULT")?;
    lab.plug_cable(&host)?;
    told("BACKUP")?;
    daemon.stop()?;
    told("STOP")?;
    Ok(())
}

#[test]
fn under_systemd_the_journal_gets_entries_with_fields() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let folder = lab.folder().join("journal");
    fs::create_dir_all(&folder)?;
    let journal = UnixDatagram::bind(folder.join("socket"))?;
    journal.set_read_timeout(Some(PATIENCE))?;
    // systemd.exec(5): the variable names the stream that standard error is.
    let prelude = format!(
        "mkdir -p /run/systemd/journal; mount --bind {} /run/systemd/journal; \
         export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)",
        folder.display()
    );
    let daemon = Daemon::launch(&host, "a", "a", &prelude, &router(""))?;
    let mut entry = String::new();
    while !entry.contains("vrrp.master") {
        let mut buffer = [0; 65_536];
        let length = journal.recv(&mut buffer).with_context(|| daemon.log())?;
        entry = String::from_utf8_lossy(&buffer[..length]).into_owned();
    }
    for words in [
        field("PRIORITY", "6"),
        field("SYSLOG_IDENTIFIER", "vipd"),
        field("VIPD_EVENT", "vrrp.master"),
        field("VIPD_OBJECT", "web"),
        field("MESSAGE", "web: master, was backup: no master was heard"),
    ] {
        ensure!(entry.contains(&words), "{words:?} is not in {entry:?}");
    }
    ensure!(daemon.log().is_empty(), "{}", daemon.log());
    daemon.stop()?;
    // A variable that was inherited names another stream.
    let other = "export JOURNAL_STREAM=1:1";
    let daemon = Daemon::start(&host, "b", other, &router(""))?;
    daemon.wait_for_event("vrrp.master")?;
    ensure!(daemon.log().contains("vipd is running"), "{}", daemon.log());
    Ok(())
}

#[test]
fn ten_thousand_bad_adverts_are_a_handful_of_lines() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let stranger = lab.host("stranger", "10.77.0.66/24")?;
    let daemon = Daemon::start(&host, "a", "true", &router(""))?;
    daemon.wait_for_event("vrrp.master")?;
    let before = daemon.log().lines().count();
    let good = Forged::v2();
    let bad = [
        Forged {
            ttl: 254,
            ..good.clone()
        },
        Forged {
            checksum_error: 1,
            ..good.clone()
        },
        Forged {
            interval: 7,
            ..good.clone()
        },
        // A rival that is heard all the time.
        Forged {
            priority: 1,
            ..good
        },
    ];
    for forged in bad {
        send_packet(&stranger, &forged.packet(), 2500, Duration::ZERO)?;
    }
    let mut received = 0;
    wait_until(PATIENCE, "most of them counted", || {
        let status = daemon.status()?;
        let counters = &status["vrrp"][0]["counters"];
        let discarded = counters["discarded"].as_object().context("discarded")?;
        let discarded: u64 = discarded.values().filter_map(Value::as_u64).sum();
        received = discarded + counters["adverts_received"].as_u64().unwrap_or(0);
        Ok(received > 5000)
    })?;
    let log = daemon.log();
    let lines = log.lines().count() - before;
    ensure!(
        (3..30).contains(&lines),
        "{lines} lines for {received} adverts:\n{log}"
    );
    Ok(())
}

#[test]
fn nothing_that_leaves_the_host_has_a_secret() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let secret = |name: &str| format!("{SECRET}-{name}-0123456789abcdef0123456789abcdef");
    let script = lab.folder().join("on-change");
    fs::write(&script, "#!/bin/sh\nexit 1\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let hmac = format!(
        "version = 3\nauthentication = {{ type = \"hmac\", key_id = 1, key = \"{}\" }}\n\
         track = [{{ script = \"gateway\", weight = 1 }}]",
        secret("hmac")
    );
    let more = format!(
        "[[vrrp]]\nname = \"v2\"\ninterface = \"eth0\"\nvrid = 52\nvirtual_addresses = [\"10.77.0.20/24\"]\n\
         authentication = {{ type = \"pass\", key = \"{SECRET}\" }}\n\
         [[track_script]]\nname = \"gateway\"\ncommand = [\"/bin/false\", \"--password\", \"{}\"]\n\
         [[notify]]\nname = \"hook\"\nevents = [\"*\"]\nwebhook = \"http://u:{}@127.0.0.1:1/{}?t={}\"\n\
         headers = {{ X-Whatever = \"{}\" }}\n\
         [[notify]]\nname = \"command\"\nevents = [\"*\"]\ncommand = [{script:?}, \"{}\"]\n",
        secret("argument"),
        secret("userinfo"),
        secret("path"),
        secret("query"),
        secret("header"),
        secret("notify"),
    );
    let daemon = Daemon::start(&host, "a", "true", &format!("{}{more}", router(&hmac)))?;
    daemon.wait_for_event("vrrp.master")?;
    daemon.wait_for_event("notify.failed")?;
    // A file that is wrong now is shown, too.
    let source = fs::read_to_string(&daemon.config)?;
    fs::write(&daemon.config, source.replace("vrid = 52", "vrid = 520"))?;
    daemon.process.signal("HUP")?;
    daemon.wait_for_event("config.refused")?;
    let file = lab.folder().join("bundle");
    let said = daemon.vipctl(&["debug", "dump", "-o", &file.to_string_lossy()])?;
    ensure!(said.starts_with("written: "), "{said}");
    ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600);
    let bundle = fs::read_to_string(&file)?;
    for words in [
        "======== vipd\nversion ",
        "\"name\": \"web\"",
        "vipd_build_info",
        "\"kind\":\"vrrp.master\"",
        "virtual_addresses = [\"10.77.0.20/24\"]",
        "10.77.0.11/24",
        "net/ipv4/ip_forward = ",
        "net/ipv4/conf/eth0/arp_ignore = ",
        "VmRSS:",
        " vrrp ",
        "Max open files",
        "local 10.77.0.11 dev eth0 table local",
    ] {
        ensure!(bundle.contains(words), "{words} is not in {bundle}");
    }
    let state = fs::read_to_string(lab.folder().join("a.state/events.jsonl"))?;
    let json = daemon.vipctl(&["debug", "dump", "--json"])?;
    for (what, text) in [
        ("the bundle", bundle),
        ("the bundle as JSON", json),
        ("the log", daemon.log()),
        ("the status", daemon.vipctl(&["status", "--json"])?),
        ("the events", daemon.vipctl(&["events", "--json"])?),
        ("the events' file", state),
    ] {
        let line = text.lines().find(|line| line.contains(SECRET));
        ensure!(line.is_none(), "{what} has a secret: {line:?}");
    }
    Ok(())
}

fn router(more: &str) -> String {
    format!(
        "[[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\npriority = 150\n\
         virtual_addresses = [\"10.77.0.10/24\"]\n{more}\n"
    )
}

/// Runs a command to its end and returns what it printed.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

/// As a field is written that has a length (systemd's "Native Journal Protocol").
fn field(name: &str, value: &str) -> String {
    let length = char::from(u8::try_from(value.len()).unwrap());
    format!("{name}\n{length}\0\0\0\0\0\0\0{value}\n")
}

fn curl(host: &Host, words: &str) -> Result<String> {
    host.run(&format!("curl -sS --max-time 20 {words}"))
}

/// A vipd in a mount namespace of its own.
struct Daemon {
    host: Host,
    socket: PathBuf,
    config: PathBuf,
    process: Process,
}

impl Daemon {
    /// Starts it after a script that prepares its mounts and variables; returns when it answers.
    fn start(host: &Host, name: &str, prelude: &str, config: &str) -> Result<Daemon> {
        let mut daemon = Daemon::launch(host, name, name, prelude, config)?;
        wait_until(PATIENCE, "vipd answers", || {
            if let Ok(status) = daemon.process.wait(Duration::ZERO) {
                bail!("vipd ended with {status}:\n{}", daemon.log());
            }
            Ok(daemon.status().is_ok())
        })
        .with_context(|| daemon.log())?;
        Ok(daemon)
    }

    fn launch(host: &Host, name: &str, log: &str, prelude: &str, config: &str) -> Result<Daemon> {
        let place = |suffix: &str| host.folder().join(format!("{name}.{suffix}"));
        let (socket, file, state) = (place("sock"), place("toml"), place("state"));
        let paths = format!("control_socket = {socket:?}\nstate_dir = {state:?}");
        let config = match config.strip_prefix("[global]\n") {
            Some(rest) => format!("[global]\n{paths}\n{rest}"),
            None => format!("[global]\n{paths}\n{config}"),
        };
        fs::write(&file, config)?;
        let vipd = binary("vipd")?;
        let script = format!(
            "{prelude}\nexec {} run -c {}",
            vipd.display(),
            file.display()
        );
        let words = ["-m", "sh", "-e", "-c", &script];
        Ok(Daemon {
            host: host.clone(),
            process: host.spawn(log, Path::new("unshare"), &words)?,
            socket,
            config: file,
        })
    }

    fn vipctl(&self, words: &[&str]) -> Result<String> {
        let mut vipctl = self.host.command(binary("vipctl")?);
        run(vipctl.arg("--socket").arg(&self.socket).args(words))
    }

    fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.vipctl(&["status", "--json"])?)?)
    }

    fn events(&self) -> Result<Vec<Value>> {
        let text = self.vipctl(&["events", "--json"])?;
        let events = text.lines().map(serde_json::from_str);
        Ok(events.collect::<Result<_, _>>()?)
    }

    fn wait_for_event(&self, kind: &str) -> Result<Value> {
        wait_for(PATIENCE, kind, || {
            let events = self.events()?;
            Ok(events.into_iter().rfind(|event| event["kind"] == kind))
        })
        .with_context(|| self.log())
    }

    fn stop(mut self) -> Result<()> {
        self.process.signal("TERM")?;
        let status = self.process.wait(PATIENCE)?;
        ensure!(status.success(), "{status}: {}", self.log());
        Ok(())
    }

    fn log(&self) -> String {
        self.process.output()
    }
}
