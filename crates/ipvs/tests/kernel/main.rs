//! The client against a real kernel, with ipvsadm as witness. Every test has a network namespace,
//! and with it a table, of its own.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod destinations;
mod refusals;
mod services;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use ipvs::{
    Client, Destination, DestinationKey, Forwarding, Persistence, Pool, Protocol, Service,
    ServiceFlags, ServiceKey, Table, diff,
};
use rustix::thread::UnshareFlags;

/// Asserts that the table `desired`, reached by the difference from what is there, is what the
/// kernel then holds.
fn check_applied(client: &mut Client, desired: &Table) {
    let current = client.dump().unwrap().table;
    for result in client.apply(&diff(&current, desired)) {
        result.unwrap_or_else(|refused| panic!("{refused}"));
    }
    let dump = client.dump().unwrap();
    assert_eq!(dump.table, *desired);
    assert_eq!(dump.services.len(), desired.len());
    let destinations: usize = desired.values().map(|pool| pool.destinations.len()).sum();
    assert_eq!(dump.destinations.len(), destinations);
}

fn check_saved(lines: &[&str]) {
    assert_eq!(saved(), lines.iter().map(ToString::to_string).collect());
}

/// The table as ipvsadm sees it, line by line.
fn saved() -> std::collections::BTreeSet<String> {
    ipvsadm(&["-S", "-n"])
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn ipvsadm(arguments: &[&str]) -> String {
    run("ipvsadm", arguments)
}

/// Runs a program in the namespace of this thread.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a test on a thread of its own in a network namespace of its own, which ends with it.
fn in_namespace(test: impl FnOnce(&mut Client) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        #[allow(
            deprecated,
            reason = "deprecated for UnshareFlags::FILES, which is not used here"
        )]
        let unshared = rustix::thread::unshare(UnshareFlags::NEWNET);
        unshared.expect("these tests need to be run by root");
        let mut client = Client::open().unwrap_or_else(|error| {
            panic!("{error}\nthis kernel has no IPVS; run `cargo xtask test`, which boots a guest")
        });
        // Without any interface that is up the kernel takes no destination's address for unicast.
        run("ip", &["link", "set", "lo", "up"]);
        test(&mut client);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn tcp(address: &str) -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: address.parse().unwrap(),
    }
}

fn tcp_port(port: u16) -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: ([10, 0, 0, 1], port).into(),
    }
}

fn server(address: &str) -> DestinationKey {
    DestinationKey(address.parse().unwrap())
}

/// The host 172.16.0.0 + `number`, port 80.
fn numbered(number: u32) -> DestinationKey {
    let network = u32::from(Ipv4Addr::new(172, 16, 0, 0));
    DestinationKey(SocketAddr::from((Ipv4Addr::from(network + number), 80)))
}

fn pool(scheduler: &str, servers: &[(&str, u32)]) -> Pool {
    let flags = ServiceFlags::default();
    Pool {
        service: Service {
            scheduler: scheduler.into(),
            flags,
            persistence: None,
        },
        destinations: servers
            .iter()
            .map(|(at, weight)| (server(at), direct(*weight)))
            .collect(),
    }
}

fn direct(weight: u32) -> Destination {
    let forwarding = Forwarding::DirectRouting;
    Destination {
        forwarding,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn persistence(seconds: u64, prefix_length: u8) -> Option<Persistence> {
    Some(Persistence {
        timeout: Duration::from_secs(seconds),
        prefix_length,
        engine: None,
    })
}
