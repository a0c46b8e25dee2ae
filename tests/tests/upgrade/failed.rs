//! A new program that cannot take over leaves the old one as it was.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::capture::longest_gap;
use lab::director::Director;
use lab::pair::{Pair, fast};
use lab::process::is_alive;

use crate::{monitor, pretender, seen};

#[test]
fn whatever_is_wrong_with_the_new_program_the_old_one_goes_on_and_says_why() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, _lb2) = pair.start_fast("")?;
    let capture = pair.lb2.capture("proto 112")?;
    let watch = monitor(&pair.lb1)?;
    let folder = pair.lab.folder().join("programs");
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
    for (name, mode, text, why) in [
        ("plain", 0o644, "#!/bin/sh\n", "Permission denied"),
        ("nonsense", 0o755, "\x7fELF nonsense", "Exec format error"),
        (
            "fails",
            0o755,
            "#!/bin/sh\necho 'no such luck' >&2\nexit 3\n",
            "no such luck",
        ),
        ("crashes", 0o755, "#!/bin/sh\nkill -SEGV $$\n", "signal: 11"),
        (
            "ends",
            0o755,
            "#!/bin/sh\nexit 0\n",
            "it ended: exit status: 0",
        ),
        (
            "raves",
            0o755,
            "#!/bin/sh\nhead -c 100 /dev/urandom >&0\nexit 0\n",
            "it ended",
        ),
        (
            "writable",
            0o777,
            "#!/bin/sh\nexit 0\n",
            "others than root may write",
        ),
        (
            "old",
            0o755,
            "#!/bin/sh\necho \"unexpected argument\" >&2; exit 2\n",
            "unexpected argument",
        ),
    ] {
        let program = folder.join(name);
        fs::write(&program, text)?;
        fs::set_permissions(&program, Permissions::from_mode(mode))?;
        refused(&lb1, &program.display().to_string(), why)?;
    }
    refused(
        &lb1,
        &folder.join("none").display().to_string(),
        "No such file",
    )?;
    refused(&lb1, &folder.display().to_string(), "not a file")?;
    ensure!(is_alive(lb1.pid()), "{}", lb1.log());
    lb1.wait_for_event(&["upgrade.failed", "no such luck"])?;
    ensure!(seen(&watch).is_empty(), "{:?}", seen(&watch));
    let adverts = capture.packets();
    let longest = longest_gap(&adverts).unwrap_or_default();
    println!("the longest gap beside programs that fail: {longest:?}");
    ensure!(longest < Duration::from_millis(300), "a gap of {longest:?}");
    Ok(())
}

#[test]
fn one_that_hangs_is_ended_after_a_while_and_only_one_is_tried_at_once() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, _lb2) = pair.start_fast("")?;
    let program = pair.lab.folder().join("hangs");
    fs::write(
        &program,
        "#!/bin/sh\necho \"I think\" >&2\nexec sleep 600\n",
    )?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    let program = program.display().to_string();
    let children = format!("ps -o args= --ppid {} || true", lb1.pid());
    std::thread::scope(|scope| -> Result<()> {
        let hangs = scope.spawn(|| refused(&lb1, &program, "did not get ready within 15s"));
        // Asked before, the other one would be the first.
        lab::wait_until(Duration::from_secs(10), "the first one", || {
            Ok(pair.lb1.sh(&children)?.contains("sleep 600"))
        })?;
        let other = lb1.refused(&["upgrade", "--binary", "/nowhere"])?;
        ensure!(other.contains("an upgrade is under way already"), "{other}");
        hangs.join().unwrap()
    })?;
    let children = pair.lb1.sh(&children)?;
    ensure!(!children.contains("sleep"), "it runs still: {children}");
    // The next one is none the worse for it.
    lb1.upgrade()
}

#[test]
fn one_that_fails_in_the_very_moment_leaves_the_adverts_to_the_old_one() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, lb2) = pair.start_fast("")?;
    let capture = pair.lb2.capture("proto 112")?;
    let watch = monitor(&pair.lb1)?;
    for (name, then, why) in [
        ("dies", "sys.exit(3)", "not upgraded"),
        ("reads", "adverts.recv(1 << 20); sys.exit(3)", "take over"),
        (
            "hangs",
            "time.sleep(600)",
            "it did not take over within 100ms",
        ),
        (
            "lies",
            "say({'Failed': 'no such luck'}); time.sleep(600)",
            "not upgraded",
        ),
    ] {
        refused(&lb1, &pretender(&pair, name, "", then)?, why)?;
    }
    let adverts = capture.packets();
    let longest = longest_gap(&adverts).unwrap_or_default();
    println!("the longest gap beside programs that fail to take over: {longest:?}");
    ensure!(longest < Duration::from_millis(300), "a gap of {longest:?}");
    ensure!(capture.count(&["prio 0"]) == 0, "it gave up");
    ensure!(seen(&watch).is_empty(), "{:?}", seen(&watch));
    lb1.wait_for_state("master")?;
    lb2.wait_for_state("backup")?;
    lb1.upgrade()
}

#[test]
fn one_that_dies_as_soon_as_it_is_the_director_is_seen_to_by_the_guard_of_the_old_one() -> Result<()>
{
    let pair = Pair::new()?;
    let (lb1, _lb2) = pair.start_fast("")?;
    let capture = pair.lb2.capture("proto 112")?;
    let takes = "adverts.recv(1 << 20); adverts.send(b'T'); hear(); sys.exit(3)";
    let program = pretender(&pair, "takes", "", takes)?;
    let why = lb1.refused(&["upgrade", "--binary", &program])?;
    ensure!(why.contains("had taken over is dead"), "{why}");
    pair.wait_for_holders(&["lb2"])?;
    ensure!(
        capture.count(&["10.77.0.11 >", "prio 0"]) > 0,
        "nobody was told"
    );
    let (code, log) = lb1.ended()?;
    ensure!(code == Some(1), "{log}");
    Ok(())
}

#[test]
fn one_that_has_other_words_says_so_and_ends() -> Result<()> {
    let pair = Pair::new()?;
    let vipd = lab::binary("vipd")?;
    let script = "import array, json, socket, struct, subprocess, sys\n\
        a, b = socket.socketpair()\n\
        c, d = socket.socketpair()\n\
        def say(what):\n\
        \x20   text = json.dumps(what).encode()\n\
        \x20   a.sendall(struct.pack('=I', len(text)) + text)\n\
        socket.send_fds(a, [bytes([3])], [2, c.fileno(), d.fileno()])\n\
        say([False, False])\n\
        say({'protocol': 99, 'version': '9.9'})\n\
        vipd = subprocess.Popen([sys.argv[1], 'run', '--take-over', '-c', '/nowhere'], stdin=b)\n\
        b.close()\n\
        length, = struct.unpack('=I', a.recv(4))\n\
        print(a.recv(length).decode(), vipd.wait())\n";
    let mut python = pair.lb1.command("python3");
    let said = lab::run(python.args(["-c", script]).arg(vipd))?;
    ensure!(
        said.contains("cannot hand over to vipd") && said.contains("restart it instead"),
        "{said}"
    );
    ensure!(said.trim().ends_with('1'), "{said}");
    Ok(())
}

#[test]
fn without_a_daemon_that_asks_nobody_takes_over() -> Result<()> {
    let pair = Pair::new()?;
    let mut vipd = pair.lb1.command(lab::binary("vipd")?);
    let output = vipd
        .args(["run", "--take-over"])
        .stdin(std::process::Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{text}");
    ensure!(text.contains("is for `vipctl upgrade`"), "{text}");
    Ok(())
}

#[test]
fn one_that_gets_no_socket_for_adverts_does_not_take_over() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, lb2) = pair.start_fast("")?;
    let capture = pair.lb2.capture("proto 112")?;
    let watch = monitor(&pair.lb1)?;
    let memberships = |most: u32| {
        pair.lb1.run(&format!(
            "sysctl -q -w net.ipv4.igmp_max_memberships={most}"
        ))
    };
    // Who is a member stays one.
    memberships(0)?;
    let why = lb1.refused(&["upgrade"])?;
    ensure!(
        why.contains("it could not run virtual router web: no socket for adverts on eth0: joining"),
        "{why}"
    );
    lb1.wait_for_event(&["upgrade.failed", "no socket for adverts"])?;
    memberships(20)?;
    ensure!(seen(&watch).is_empty(), "{:?}", seen(&watch));
    let longest = longest_gap(&capture.packets()).unwrap_or_default();
    ensure!(longest < Duration::from_millis(300), "a gap of {longest:?}");
    ensure!(capture.count(&["prio 0"]) == 0, "it gave up");
    lb1.wait_for_state("master")?;
    lb2.wait_for_state("backup")?;
    lb1.upgrade()
}

#[test]
fn a_router_that_has_a_fault_anyway_holds_no_upgrade_up() -> Result<()> {
    let pair = Pair::new()?;
    let more = "[[vrrp]]\nname = \"away\"\ninterface = \"eth9\"\nvrid = 52\nversion = 3\n\
                virtual_addresses = [\"10.77.0.20/24\"]\n";
    let (mut lb1, _lb2) = pair.start_fast(more)?;
    lb1.upgrade()?;
    lb1.wait_for_state("master")?;
    lb1.wait_for_status("/vrrp/1/state", &"fault".into())
        .map(|_| ())
}

#[test]
fn a_configuration_that_the_new_one_refuses_stays_in_force() -> Result<()> {
    let pair = Pair::new()?;
    let secret = pair.lab.folder().join("secret");
    fs::write(&secret, "ab".repeat(16))?;
    fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
    let more = format!(
        "authentication = {{ type = \"hmac\", key_id = 1, key = \"file:{}\" }}\n",
        secret.display()
    );
    let lb1 = Director::start(&pair.lb1, &fast(150, &more))?;
    lb1.wait_for_state("master")?;
    // It is read again by whoever takes over.
    fs::remove_file(&secret)?;
    let why = lb1.refused(&["upgrade"])?;
    ensure!(
        why.contains("refuses the configuration") && why.contains("secret"),
        "{why}"
    );
    lb1.wait_for_state("master")?;
    ensure!(pair.holders()? == ["lb1"]);
    Ok(())
}

fn refused(director: &Director, program: &str, why: &str) -> Result<()> {
    let pid = director.pid();
    let said = director.refused(&["upgrade", "--binary", program])?;
    ensure!(
        said.contains("not upgraded, everything is as before"),
        "{program}: {said}"
    );
    ensure!(said.contains(why), "{program}: {said}");
    ensure!(director.status().is_ok() && director.pid() == pid);
    Ok(())
}
