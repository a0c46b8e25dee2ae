//! The kernel's IPVS: read only, and never loaded.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ipvs::{ConnectionLine, Scheduler};

/// Connections that are looked at one by one; with more that takes seconds.
const LOOKED_AT_MAX: u64 = 100_000;
const CONNECTIONS: &str = "/proc/net/ip_vs_conn";

/// IPVS.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Ipvs {
    /// Whether the kernel has it now.
    pub loaded: bool,
    /// Schedulers that the kernel neither has nor could load.
    pub lacks: Vec<&'static str>,
    /// Buckets of the connection table.
    pub buckets: u64,
    /// Connections.
    pub connections: u64,
    /// Connections over TCP of each real server.
    pub servers: BTreeMap<SocketAddr, Connections>,
}

/// TCP connections of a real server.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Connections {
    /// Clients whose connections were half-open at the beginning and still are.
    pub half_open: Vec<SocketAddr>,
    /// Connections that were answered.
    pub answered: usize,
}

/// Looks twice; `pause` is between.
pub(super) fn look(pause: Duration) -> Result<Ipvs, String> {
    let mut found = Ipvs {
        loaded: Path::new("/proc/net/ip_vs").exists(),
        ..Ipvs::default()
    };
    if !found.loaded {
        return Ok(found);
    }
    found.lacks = Scheduler::ALL
        .map(Scheduler::name)
        .into_iter()
        .filter(|name| !has_module(&format!("ip_vs_{name}")))
        .collect();
    // It is loaded, so that nothing is loaded by this.
    let mut client = ipvs::Client::open().map_err(|error| error.to_string())?;
    let info = client.info().map_err(|error| error.to_string())?;
    found.buckets = u64::from(info.connection_table_size);
    let dump = client.dump().map_err(|error| error.to_string())?;
    let counts = dump.destinations.values();
    found.connections = counts
        .map(|it| u64::from(it.active) + u64::from(it.inactive) + u64::from(it.persistent))
        .sum();
    if found.connections <= LOOKED_AT_MAX {
        let before = half_open(&read()?);
        if !before.is_empty() {
            std::thread::sleep(pause);
            found.servers = servers(&read()?, &before);
        }
    }
    Ok(found)
}

fn read() -> Result<String, String> {
    std::fs::read_to_string(CONNECTIONS).map_err(|error| format!("{CONNECTIONS}: {error}"))
}

fn half_open(table: &str) -> Vec<(SocketAddr, SocketAddr)> {
    let lines = table.lines().filter_map(ConnectionLine::parse);
    lines
        .filter(|line| line.state == "SYN_RECV")
        .map(|line| (line.client, line.destination))
        .collect()
}

/// What became of the connections that were half-open `before`, and how many others there are.
fn servers(table: &str, before: &[(SocketAddr, SocketAddr)]) -> BTreeMap<SocketAddr, Connections> {
    let mut servers: BTreeMap<SocketAddr, Connections> = BTreeMap::new();
    for line in table.lines().filter_map(ConnectionLine::parse) {
        let server = servers.entry(line.destination).or_default();
        match line.state {
            "SYN_RECV" if before.contains(&(line.client, line.destination)) => {
                server.half_open.push(line.client);
            }
            "ESTABLISHED" | "FIN_WAIT" | "TIME_WAIT" | "CLOSE_WAIT" | "LAST_ACK" => {
                server.answered += 1;
            }
            _ => {}
        }
    }
    servers
}

/// Whether the kernel has a module, or has it at hand.
fn has_module(name: &str) -> bool {
    if Path::new("/sys/module").join(name).exists() {
        return true;
    }
    let Ok(system) = std::fs::read_to_string("/proc/sys/kernel/osrelease") else {
        return true;
    };
    let folder = Path::new("/lib/modules").join(system.trim());
    let listed = |file: &str| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        let mut files = text
            .lines()
            .filter_map(|line| line.split([':', ' ']).next());
        files.any(|path| {
            let file = path.rsplit('/').next().unwrap_or_default();
            file.split('.').next() == Some(name)
        })
    };
    // Without lists nothing is known: a container may not see them.
    !folder.join("modules.dep").exists() || listed("modules.dep") || listed("modules.builtin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_stays_half_open_is_told_from_one_that_is_just_made() {
        let line = |client: &str, state: &str| {
            format!("TCP {client} 0A4D0128 0050 0A4D0016 1F90 {state} 42\n")
        };
        let before = [
            line("0A4E0064 C350", "SYN_RECV"),
            line("0A4E0064 C351", "SYN_RECV"),
        ]
        .concat();
        let after = [
            line("0A4E0064 C350", "SYN_RECV"),
            line("0A4E0064 C351", "ESTABLISHED"),
            line("0A4E0064 C352", "SYN_RECV"),
        ]
        .concat();
        let servers = servers(&after, &half_open(&before));
        let server = &servers[&"10.77.0.22:8080".parse().unwrap()];
        assert_eq!(server.half_open, ["10.78.0.100:50000".parse().unwrap()]);
        assert_eq!(server.answered, 1);
    }
}
