//! What became of the connection table that the peer is sent. Only with `ipvs.sync`.

use std::time::UNIX_EPOCH;

use ipvs::sync::Unsendable;

use super::family::{Families, Labels};
use crate::net::connection_sync::State;

pub(super) fn write(state: &State, families: &mut Families) {
    let none = || Labels::new([]);
    for (name, help, value) in [
        (
            "vipd_connection_sync_transfers",
            "Times that the whole connection table was sent",
            state.transfers,
        ),
        (
            "vipd_connection_sync_failures",
            "Times that it could not be sent",
            state.failures,
        ),
        (
            "vipd_connection_sync_sent",
            "Connections sent, each as often as it was",
            state.connections,
        ),
        (
            "vipd_connection_sync_datagrams",
            "Datagrams that those were",
            state.datagrams,
        ),
    ] {
        families.counter(name, help).push((none(), value));
    }
    for why in Unsendable::ALL {
        let count = state.skipped.get(&why).copied().unwrap_or(0);
        families
            .counter(
                "vipd_connection_sync_skipped",
                "Connections not sent, by reason",
            )
            .push((Labels::new([("reason", why.label())]), count));
    }
    families
        .gauge(
            "vipd_connection_sync_peers",
            "Peers that are heard and whose kernels take connections in",
        )
        .push((none(), ready(state)));
    let last = state.last.as_ref();
    let last = last.and_then(|last| last.at.duration_since(UNIX_EPOCH).ok());
    if let Some(last) = last {
        families
            .gauge(
                "vipd_connection_sync_last_success_timestamp_seconds",
                "When the whole connection table was last sent",
            )
            .push((none(), last.as_secs()));
    }
    if let Some(held) = state.held {
        families
            .gauge(
                "vipd_connection_sync_peer_connections",
                "Connections that a peer held when it was last asked",
            )
            .push((none(), u64::from(held)));
    }
}

fn ready(state: &State) -> u64 {
    let ready = state.peers.values().filter(|ready| **ready).count();
    u64::try_from(ready).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn every_reason_is_there_and_what_is_not_known_is_not() {
        let mut families = Families::default();
        let mut state = State::default();
        state
            .peers
            .insert(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), true);
        state
            .peers
            .insert(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3)), false);
        state.skipped.insert(Unsendable::Engine, 3);
        write(&state, &mut families);
        let value = |name: &str, labels: &[(&str, &str)]| {
            let family = families.list.iter().find(|family| family.name == name)?;
            let mut values = family.values.iter();
            let found = values.find(|(known, _)| known.all() == labels);
            found.map(|(_, value)| *value)
        };
        assert_eq!(value("vipd_connection_sync_peers", &[]), Some(1));
        for why in Unsendable::ALL {
            let count = if why == Unsendable::Engine { 3 } else { 0 };
            let labels = [("reason", why.label())];
            assert_eq!(value("vipd_connection_sync_skipped", &labels), Some(count));
        }
        let unknown = "vipd_connection_sync_peer_connections";
        assert_eq!(value(unknown, &[]), None);
        state.held = Some(7);
        write(&state, &mut families);
        let family = families.list.iter().find(|family| family.name == unknown);
        assert_eq!(family.map(|family| family.values.len()), Some(1));
    }
}
