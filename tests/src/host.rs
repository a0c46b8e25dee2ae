//! A host of the lab: a network namespace in which programs run.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::capture::Capture;
use crate::process::Process;
use crate::{Inner, ip, run, wait_until};

/// A host. It lives as long as its lab.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    namespace: String,
    lab: Arc<Inner>,
}

impl Host {
    pub(crate) fn new(name: &str, namespace: String, lab: Arc<Inner>) -> Host {
        Host {
            name: name.to_owned(),
            namespace,
            lab,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace, as `ip netns` knows it.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A folder that goes with the lab.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.lab.folder
    }

    /// A command that runs on this host.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace])
            .arg(program);
        command
    }

    /// Runs a command line (words separated by single spaces) to its end and returns what it
    /// printed.
    ///
    /// # Errors
    ///
    /// It failed; with what it said.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split(' ');
        let mut command = self.command(words.next().unwrap_or_default());
        run(command.args(words))
    }

    /// Runs a shell script on this host and returns what it printed.
    ///
    /// # Errors
    ///
    /// It failed; with what it said.
    pub fn sh(&self, script: &str) -> Result<String> {
        run(self.command("sh").args(["-e", "-c", script]))
    }

    /// `ip WORDS` on this host.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn ip(&self, words: &str) -> Result<()> {
        ip(&self.namespace, words)
    }

    /// Starts a program that ends with the lab at the latest. Its output goes to a file.
    ///
    /// # Errors
    ///
    /// It cannot be run.
    pub fn spawn(&self, name: &str, program: &Path, arguments: &[&str]) -> Result<Process> {
        // A killed lab must not leave programs behind: the kernel ends them with their parent.
        let mut command = self.command("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments);
        let log = self.lab.folder.join(format!("{}-{name}.log", self.name));
        Process::start(command, log)
    }

    /// What happens on this host from now on to these kinds of object (`address`, `link`, `route`, `rule`),
    /// as `ip monitor` prints it. What it was tried with, 192.0.2.99, is in it, too.
    ///
    /// # Errors
    ///
    /// It does not listen.
    pub fn monitor(&self, objects: &[&str]) -> Result<Process> {
        let words = [&["-o", "monitor"], objects].concat();
        let monitor = self.spawn("monitor", Path::new("ip"), &words)?;
        // It listens when it has told of an address that comes and goes.
        wait_until(Duration::from_secs(60), "ip monitor", || {
            self.ip("addr add 192.0.2.99/32 dev lo")?;
            self.ip("addr del 192.0.2.99/32 dev lo")?;
            Ok(monitor.output().contains("192.0.2.99"))
        })?;
        Ok(monitor)
    }

    /// Watches the packets of `eth0`; returns when tcpdump listens.
    ///
    /// # Errors
    ///
    /// The filter is wrong.
    pub fn capture(&self, filter: &str) -> Result<Capture> {
        self.capture_on("eth0", filter)
    }

    /// Watches the packets of an interface; returns when tcpdump listens.
    ///
    /// # Errors
    ///
    /// The filter is wrong, or there is no such interface.
    pub fn capture_on(&self, interface: &str, filter: &str) -> Result<Capture> {
        Capture::start(self, interface, filter)
    }

    /// From now on every packet that fits the words of a rule of nft is dropped on its way in, by
    /// the rest of this host; what watches the interface itself sees it.
    ///
    /// # Errors
    ///
    /// The words are no rule.
    pub fn drop_incoming(&self, rule: &str) -> Result<()> {
        let file = self.lab.folder.join(format!("{}.nft", self.name));
        let text = format!(
            "table inet lab {{\n chain in {{\n  type filter hook prerouting priority -300\n  \
             {rule} drop\n }}\n}}\n"
        );
        std::fs::write(&file, text)?;
        self.run(&format!("nft -f {}", file.display())).map(|_| ())
    }

    /// Ends what [`Host::drop_incoming`] began.
    ///
    /// # Errors
    ///
    /// It had not begun.
    pub fn drop_nothing(&self) -> Result<()> {
        self.run("nft delete table inet lab").map(|_| ())
    }

    /// One HTTP request. `None`: no answer, or another status than 200.
    #[must_use]
    pub fn get(&self, url: &str) -> Option<String> {
        self.run(&format!("curl --silent --fail --max-time 2 {url}"))
            .ok()
    }

    /// Whether an address is on `eth0`, as `ip` tells.
    ///
    /// # Errors
    ///
    /// `ip` failed.
    pub fn has_address(&self, address: &str) -> Result<bool> {
        self.has_address_on("eth0", address)
    }

    /// Whether an address is on an interface, as `ip` tells.
    ///
    /// # Errors
    ///
    /// There is no such interface.
    pub fn has_address_on(&self, interface: &str, address: &str) -> Result<bool> {
        let text = self.run(&format!("ip -o address show dev {interface}"))?;
        Ok(text
            .lines()
            .any(|line| line.contains(&format!(" {address}/"))))
    }

    /// Whether an address is in use here: on any interface that has a carrier, as `ip` tells.
    ///
    /// # Errors
    ///
    /// `ip` failed.
    pub fn holds(&self, address: &str) -> Result<bool> {
        let wanted = format!("{address}/");
        let text = self.run("ip -brief address show")?;
        Ok(text.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            words.next() == Some("UP") && words.any(|word| word.starts_with(&wanted))
        }))
    }

    /// The Ethernet address of `eth0`.
    ///
    /// # Errors
    ///
    /// There is no `eth0`.
    pub fn mac(&self) -> Result<String> {
        Ok(self
            .run("cat /sys/class/net/eth0/address")?
            .trim()
            .to_owned())
    }

    /// The IPVS table as `ipvsadm --save --numeric` prints it.
    ///
    /// # Errors
    ///
    /// The kernel has no IPVS.
    pub fn ipvsadm_save(&self) -> Result<Vec<String>> {
        let text = self.run("ipvsadm --save --numeric")?;
        Ok(text.lines().map(|line| line.trim().to_owned()).collect())
    }

    /// The weights of the real servers in the table, by address and port, as `ipvsadm` tells.
    ///
    /// # Errors
    ///
    /// The kernel has no IPVS.
    pub fn weights(&self) -> Result<std::collections::BTreeMap<String, u32>> {
        let mut weights = std::collections::BTreeMap::new();
        for line in self.ipvsadm_save()? {
            let words: Vec<&str> = line.split(' ').collect();
            let after = |option: &str| {
                let position = words.iter().position(|word| *word == option)?;
                words.get(position + 1).copied()
            };
            if let (Some(real), Some(weight)) = (after("-r"), after("-w")) {
                weights.insert(real.to_owned(), weight.parse()?);
            }
        }
        Ok(weights)
    }
}
