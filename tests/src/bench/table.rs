//! What the kernel itself takes for a table that comes by netlink: the floor of the [`super::ipvs`] bench.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipvs::{
    Change, Client, Destination, DestinationKey, Forwarding, Protocol, SchedulerName, Service,
    ServiceFlags, ServiceKey,
};

use super::ipvs::Size;

use crate::{Lab, run};

/// The time for a table from nothing, and for another weight of all its real servers.
pub(super) fn floor(size: Size) -> Result<[Duration; 2]> {
    let lab = Lab::new()?;
    let host = lab.host("lb", "10.77.0.11/24")?;
    let words = [size.services, size.servers].map(|number| number.to_string());
    let program = std::env::current_exe()?;
    let text = run(host.command(program).arg("raw-table").args(words))?;
    let mut times = text.split_whitespace().map(str::parse);
    let mut next = || Some(Duration::from_secs_f64(times.next()?.ok()?));
    let both = next().zip(next()).context(text.clone())?;
    Ok(both.into())
}

/// The other end of [`floor`], on the host: the seconds that each takes.
///
/// # Errors
///
/// The kernel refuses something.
pub(crate) fn apply(services: u32, servers: u32) -> Result<[f64; 2]> {
    let size = Size { services, servers };
    let mut client = Client::open()?;
    let settings = |weight| Destination {
        forwarding: Forwarding::DirectRouting,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    };
    let (mut made, mut changed) = (Vec::new(), Vec::new());
    for service in 0..services {
        let key = ServiceKey::Address {
            protocol: Protocol::Tcp,
            address: address(size.vip_number(service)),
        };
        let wlc = Service {
            scheduler: SchedulerName::from("wlc"),
            flags: ServiceFlags::default(),
            persistence: None,
        };
        made.push(Change::AddService(key, wlc));
        for server in 0..servers {
            let real = DestinationKey(address(size.real_number(service, server)));
            made.push(Change::AddDestination(key, real, settings(1)));
            changed.push(Change::SetDestination(key, real, settings(2)));
        }
    }
    let mut timed = |changes: &[Change]| {
        let begin = Instant::now();
        let refused = client.apply(changes).into_iter().filter(Result::is_err);
        let (count, took) = (refused.count(), begin.elapsed());
        ensure!(count == 0, "the kernel refused {count} changes");
        Ok(took.as_secs_f64())
    };
    Ok([timed(&made)?, timed(&changed)?])
}

fn address(number: u32) -> SocketAddr {
    (Ipv4Addr::from(number), 80).into()
}
