//! The classic cluster: a client, two directors, two real servers by direct routing, one network.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::director::Director;
use crate::host::Host;
use crate::nginx::Nginx;
use crate::{Lab, wait_until};

/// The virtual address.
pub const VIP: &str = "10.77.0.10";
/// What the client asks for.
pub const URL: &str = "http://10.77.0.10/";

/// The hosts of the cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Everything goes with it.
    pub lab: Lab,
    /// 10.77.0.100
    pub client: Host,
    /// 10.77.0.11, the primary.
    pub lb1: Host,
    /// 10.77.0.12
    pub lb2: Host,
    /// 10.77.0.21, holds the virtual address on `lo` and keeps silent about it.
    pub rs1: Host,
    /// 10.77.0.22, the same.
    pub rs2: Host,
}

impl Cluster {
    /// Makes the hosts; nothing runs yet.
    ///
    /// # Errors
    ///
    /// Not root.
    pub fn new() -> Result<Cluster> {
        let lab = Lab::new()?;
        let cluster = Cluster {
            client: lab.host("client", "10.77.0.100/24")?,
            lb1: lab.host("lb1", "10.77.0.11/24")?,
            lb2: lab.host("lb2", "10.77.0.12/24")?,
            rs1: lab.host("rs1", "10.77.0.21/24")?,
            rs2: lab.host("rs2", "10.77.0.22/24")?,
            lab,
        };
        for real_server in [&cluster.rs1, &cluster.rs2] {
            real_server.run(
                "sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
            )?;
            real_server.ip(&format!("addr add {VIP}/32 dev lo"))?;
        }
        Ok(cluster)
    }

    /// Starts nginx on both real servers.
    ///
    /// # Errors
    ///
    /// One does not answer.
    pub fn start_real_servers(&self) -> Result<(Nginx, Nginx)> {
        Ok((Nginx::start(&self.rs1)?, Nginx::start(&self.rs2)?))
    }

    /// Starts both directors.
    ///
    /// # Errors
    ///
    /// One does not answer.
    pub fn start_directors(&self) -> Result<(Director, Director)> {
        let lb1 = Director::start(&self.lb1, &config("lb1", 150, 1))?;
        let lb2 = Director::start(&self.lb2, &config("lb2", 100, 1))?;
        Ok((lb1, lb2))
    }

    /// Waits until both real servers answer through the virtual address.
    ///
    /// # Errors
    ///
    /// They do not.
    pub fn wait_until_serving(&self) -> Result<Duration> {
        wait_until(Duration::from_secs(60), "both real servers answer", || {
            let answers: Vec<_> = (0..2).filter_map(|_| self.client.get(URL)).collect();
            Ok(answers.iter().any(|a| a == "rs1\n") && answers.iter().any(|a| a == "rs2\n"))
        })
    }

    /// Sends requests one after the other; returns how many each real server answered, and how many
    /// nobody did.
    #[must_use]
    pub fn requests(&self, count: usize) -> Answers {
        let mut answers = Answers::default();
        for _ in 0..count {
            match self.client.get(URL).as_deref() {
                Some("rs1\n") => answers.rs1 += 1,
                Some("rs2\n") => answers.rs2 += 1,
                Some(_) | None => answers.lost += 1,
            }
        }
        answers
    }

    /// Which director has the virtual address, as `ip` tells.
    ///
    /// # Errors
    ///
    /// `ip` failed.
    pub fn holders(&self) -> Result<Vec<&str>> {
        let mut holders = Vec::new();
        for host in [&self.lb1, &self.lb2] {
            if host
                .has_address(VIP)
                .context("asking for the virtual address")?
            {
                holders.push(host.name());
            }
        }
        Ok(holders)
    }
}

/// Who answered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// Requests that rs1 answered.
    pub rs1: usize,
    /// Requests that rs2 answered.
    pub rs2: usize,
    /// Requests that nobody answered within two seconds, or with an error.
    pub lost: usize,
}

/// The configuration of a director of the cluster. `weight` is that of the first real server.
#[must_use]
pub fn config(name: &str, priority: u8, weight: u32) -> String {
    format!(
        r#"[global]
name = "{name}"

[ipvs]
resync_interval = "2s"

[[vrrp]]
name = "web"
interface = "eth0"
vrid = 51
priority = {priority}
virtual_addresses = ["{VIP}/24"]

[[virtual_server]]
name = "http"
address = "{VIP}:80"
vrrp = "web"
scheduler = "wrr"
forwarding = "dr"
check = {{ type = "http", path = "/health", interval = "1s", timeout = "2s", fall = 2 }}

[[virtual_server.real_server]]
address = "10.77.0.21"
weight = {weight}

[[virtual_server.real_server]]
address = "10.77.0.22"
"#
    )
}
