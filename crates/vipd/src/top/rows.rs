//! What stands in the list, in which order.

use std::cmp::Reverse;

use crate::status::{RealServerStatus, Status, TrafficStatus, VirtualServerStatus};

/// A line of the list: positions in the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    Router(usize),
    Server(usize),
    /// Of a virtual server, a real server.
    Real(usize, usize),
}

/// By what virtual servers, and the real servers of each, are sorted. What they share keeps the order
/// of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// New connections, then packets for those that live long.
    Connections,
    Bytes,
    Active,
    /// What is not up first.
    State,
    Weight,
    Name,
    Configuration,
}

impl Sort {
    const ALL: [Sort; 7] = [
        Sort::Connections,
        Sort::Bytes,
        Sort::Active,
        Sort::State,
        Sort::Weight,
        Sort::Name,
        Sort::Configuration,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Sort::Connections => "conn/s",
            Sort::Bytes => "bytes/s",
            Sort::Active => "active",
            Sort::State => "state",
            Sort::Weight => "weight",
            Sort::Name => "name",
            Sort::Configuration => "configuration",
        }
    }

    pub(super) fn next(self) -> Sort {
        Sort::after(self, Sort::ALL.iter())
    }

    pub(super) fn previous(self) -> Sort {
        Sort::after(self, Sort::ALL.iter().rev())
    }

    fn after<'a>(sort: Sort, all: impl Iterator<Item = &'a Sort> + Clone) -> Sort {
        let mut rest = all.clone().skip_while(|known| **known != sort).skip(1);
        rest.next().or(all.clone().next()).copied().unwrap_or(sort)
    }

    fn servers(self, servers: &mut [(usize, &VirtualServerStatus)]) {
        match self {
            Sort::Connections => servers.sort_by_key(|(_, server)| Reverse(new(&server.rates))),
            Sort::Bytes => servers.sort_by_key(|(_, server)| Reverse(bytes(&server.rates))),
            Sort::Active => servers.sort_by_cached_key(|(_, server)| Reverse(active(server))),
            Sort::State => servers.sort_by_cached_key(|(_, server)| Reverse(trouble(server))),
            Sort::Weight => servers.sort_by_key(|(_, server)| Reverse(server.quorum.have)),
            Sort::Name => servers.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name)),
            Sort::Configuration => {}
        }
    }

    fn reals(self, reals: &mut [(usize, &RealServerStatus)]) {
        match self {
            Sort::Connections => reals.sort_by_key(|(_, real)| Reverse(new(&real.rates))),
            Sort::Bytes => reals.sort_by_key(|(_, real)| Reverse(bytes(&real.rates))),
            Sort::Active => reals.sort_by_key(|(_, real)| Reverse(real.connections.active)),
            Sort::State => reals.sort_by_key(|(_, real)| severity(real)),
            Sort::Weight => reals.sort_by_key(|(_, real)| Reverse(real.weight.effective)),
            Sort::Name => reals.sort_by(|(_, a), (_, b)| a.address.cmp(&b.address)),
            Sort::Configuration => {}
        }
    }
}

/// The whole list. With a filter, what has it in its name or address; of a virtual server that has,
/// all real servers.
pub(super) fn rows(status: &Status, sort: Sort, filter: &str) -> Vec<Row> {
    let has = |text: &str| filter.is_empty() || text.contains(filter);
    let routers = status.vrrp.iter().enumerate();
    let routers = routers.filter(|(_, router)| {
        has(&router.name) || router.virtual_addresses.iter().any(|address| has(address))
    });
    let mut rows: Vec<Row> = routers.map(|(router, _)| Row::Router(router)).collect();
    let mut servers: Vec<_> = status.virtual_servers.iter().enumerate().collect();
    sort.servers(&mut servers);
    for (number, server) in servers {
        let whole = has(&server.name) || server.addresses.iter().any(|address| has(address));
        let reals = server.real_servers.iter().enumerate();
        let mut reals: Vec<_> = reals
            .filter(|(_, real)| whole || has(&real.address) || has(&real.state))
            .collect();
        if !whole && reals.is_empty() {
            continue;
        }
        sort.reals(&mut reals);
        rows.push(Row::Server(number));
        rows.extend(reals.into_iter().map(|(real, _)| Row::Real(number, real)));
    }
    rows
}

pub(super) fn active(server: &VirtualServerStatus) -> u64 {
    let reals = server.real_servers.iter();
    reals.map(|real| u64::from(real.connections.active)).sum()
}

pub(super) fn inactive(server: &VirtualServerStatus) -> u64 {
    let reals = server.real_servers.iter();
    reals.map(|real| u64::from(real.connections.inactive)).sum()
}

fn new(rates: &TrafficStatus) -> (u64, u64) {
    (rates.connections, rates.in_packets)
}

fn bytes(rates: &TrafficStatus) -> u64 {
    rates.in_bytes.saturating_add(rates.out_bytes)
}

fn trouble(server: &VirtualServerStatus) -> (bool, bool, usize) {
    let reals = server.real_servers.iter();
    let down = reals.filter(|real| severity(real) < 3).count();
    (server.missing, !server.quorum.up, down)
}

fn severity(real: &RealServerStatus) -> u8 {
    match real.state.as_str() {
        "down" => 0,
        "unknown" => 1,
        "disabled" | "draining" => 2,
        _ => 3,
    }
}
