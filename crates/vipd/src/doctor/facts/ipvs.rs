//! The kernel's IPVS: read only, and never loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ipvs::{ConnectionLine, Scheduler};

/// Connections that are looked at one by one; with more that takes seconds.
const LOOKED_AT_MAX: u64 = 100_000;
/// A client's first packet was forwarded, and no second one came.
const HALF_OPEN: &str = "SYN_RECV";
const ANSWERED: [&str; 5] = [
    "ESTABLISHED",
    "FIN_WAIT",
    "TIME_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
];
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
    /// Connections that were answered at some time.
    pub answered: usize,
    /// Those of them that were not yet at the beginning.
    pub fresh: usize,
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
    if let Some(available) = available() {
        let lacks = |name: &&str| {
            let module = format!("ip_vs_{name}");
            !available.contains(&module) && !Path::new("/sys/module").join(module).exists()
        };
        found.lacks = Scheduler::ALL
            .map(Scheduler::name)
            .into_iter()
            .filter(lacks)
            .collect();
    }
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
        let before = read()?;
        if before.contains(HALF_OPEN) {
            std::thread::sleep(pause);
            found.servers = servers(&before, &read()?);
        }
    }
    Ok(found)
}

fn read() -> Result<String, String> {
    std::fs::read_to_string(CONNECTIONS).map_err(|error| format!("{CONNECTIONS}: {error}"))
}

/// What became of the connections between two looks at the table.
fn servers(before: &str, after: &str) -> BTreeMap<SocketAddr, Connections> {
    let states: BTreeMap<(SocketAddr, SocketAddr), &str> = before
        .lines()
        .filter_map(ConnectionLine::parse)
        .map(|line| ((line.client, line.destination), line.state))
        .collect();
    let mut servers: BTreeMap<SocketAddr, Connections> = BTreeMap::new();
    for line in after.lines().filter_map(ConnectionLine::parse) {
        let was = states.get(&(line.client, line.destination)).copied();
        let server = servers.entry(line.destination).or_default();
        if line.state == HALF_OPEN {
            if was == Some(HALF_OPEN) {
                server.half_open.push(line.client);
            }
        } else if ANSWERED.contains(&line.state) {
            server.answered += 1;
            server.fresh += usize::from(!was.is_some_and(|was| ANSWERED.contains(&was)));
        }
    }
    servers
}

/// The modules that the kernel could load; `None`: a container may not see their lists.
fn available() -> Option<BTreeSet<String>> {
    let system = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let folder = Path::new("/lib/modules").join(system.trim());
    let mut names = BTreeSet::new();
    for file in ["modules.dep", "modules.builtin"] {
        let text = std::fs::read_to_string(folder.join(file)).ok()?;
        let schedulers = text.lines().filter(|line| line.contains("/ip_vs"));
        let paths = schedulers.filter_map(|line| line.split([':', ' ']).next());
        let files = paths.filter_map(|path| path.rsplit('/').next());
        names.extend(files.filter_map(|file| Some(file.split('.').next()?.to_owned())));
    }
    Some(names)
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
        let servers = servers(&before, &after);
        let server = &servers[&"10.77.0.22:8080".parse().unwrap()];
        assert_eq!(server.half_open, ["10.78.0.100:50000".parse().unwrap()]);
        assert_eq!((server.answered, server.fresh), (1, 1));
    }
}
