//! A host that is like a machine of its own: besides its network it has its own name, its own
//! processes, and its own `/etc`, `/var`, `/srv`, `/run` and `/tmp`, which begin as this machine's
//! (the last two empty) and go with it. So what is written for real machines runs there unchanged:
//! `/etc/vipd/vipd.toml`, `pkill vipd`, `nginx`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::host::Host;
use crate::process::Process;
use crate::{binary, wait_for};

/// Emulated guests are slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the built binaries are seen.
const BINARIES: &str = "/run/lab-bin";

/// Makes the machine around its first process, which then waits for its end. It is told the folder of
/// the binaries and the machine's name. Of busybox, which starts quickly in an emulated guest.
const FIRST: &str = r#"
read pid rest </proc/self/stat
hostname "$2"
mount -t tmpfs none /run
cd /run
mkdir -p "$3" lock .own/etc/upper .own/etc/work .own/var/upper .own/var/work .own/srv/upper .own/srv/work
mount --bind "$1" "$3"
for folder in etc var srv; do
    options=lowerdir=/$folder,upperdir=/run/.own/$folder/upper,workdir=/run/.own/$folder/work
    mount -t overlay overlay -o $options /$folder
done
mount -t tmpfs none /tmp
mount -t proc none /proc
mkdir -p /etc/vipd
echo "ready $pid"
while :; do sleep 100000 & wait; done
"#;

/// A machine. Dropping it ends everything that runs on it.
#[derive(Debug)]
pub struct Machine {
    host: Host,
    first: Process,
    /// Of its first process.
    pid: String,
}

impl Machine {
    /// Makes machines of hosts.
    ///
    /// # Errors
    ///
    /// The kernel has no overlay file system, or refuses namespaces.
    pub fn start(hosts: &[Host]) -> Result<Vec<Machine>> {
        // All at once: each takes its time.
        let mut machines = Vec::new();
        for host in hosts {
            machines.push(Machine::launch(host)?);
        }
        for machine in &mut machines {
            let pid = wait_for(PATIENCE, "a machine", || {
                let output = machine.first.output();
                let ready = output.lines().find_map(|line| line.strip_prefix("ready "));
                Ok(ready.map(str::to_owned))
            });
            machine.pid = pid.with_context(|| machine.first.output())?;
        }
        Ok(machines)
    }

    fn launch(host: &Host) -> Result<Machine> {
        let vipd = binary("vipd")?.canonicalize()?;
        let folder = vipd.parent().context("a binary is in a folder")?;
        let folder = folder.to_string_lossy();
        let unshare = PathBuf::from("unshare");
        let first = host.spawn(
            "machine",
            &unshare,
            &[
                "--mount",
                "--uts",
                "--pid",
                "--ipc",
                "--fork",
                "--kill-child",
                "busybox",
                "sh",
                "-e",
                "-c",
                FIRST,
                "sh",
                &folder,
                host.name(),
                BINARIES,
            ],
        )?;
        Ok(Machine {
            host: host.clone(),
            first,
            pid: String::new(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.host.name()
    }

    /// Runs shell commands and returns what they printed, both outputs, and whether they succeeded.
    /// What they leave in the background runs on.
    ///
    /// # Errors
    ///
    /// They do not end in time.
    pub fn sh(&self, commands: &str) -> Result<(bool, String)> {
        // A file, no pipe: what stays in the background may hold it open.
        let log = self.first.log().with_extension("out");
        let output = File::create(&log)?;
        let mut shell = self.enter();
        shell.args(["sh", "-e", "-c", &format!("cd /\n{commands}")]);
        shell
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut shell = shell.spawn().context("nsenter cannot be run")?;
        let ended = wait_for(
            PATIENCE,
            "the end of the commands",
            || Ok(shell.try_wait()?),
        );
        if ended.is_err() {
            shell.kill()?;
            shell.wait()?;
        }
        let printed = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        match ended {
            Ok(status) => Ok((status.success(), printed)),
            Err(error) => bail!("{error}; printed so far:\n{printed}"),
        }
    }

    /// Writes a file, and the folders above it.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let source = self.first.log().with_extension("file");
        fs::write(&source, text)?;
        let mut shell = self.enter();
        let script = "mkdir -p \"$(dirname \"$1\")\"; cat >\"$1\"";
        shell.args(["sh", "-e", "-c", script, "sh", path]);
        let status = shell.stdin(File::open(&source)?).status()?;
        ensure!(status.success(), "{path} cannot be written");
        Ok(())
    }

    /// A command inside, to which a program and its arguments are added.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        let target = format!("--target={}", self.pid);
        command.args([&target, "--net", "--mount", "--uts", "--ipc", "--pid", "--"]);
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command.env("PATH", format!("{BINARIES}:{path}"));
        command.env("HOME", "/root");
        command
    }
}
