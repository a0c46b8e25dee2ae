//! `reachable`: reference addresses without which a lone virtual router is not master.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::section::Seen;
use super::value::Value;
use super::virtual_router::Facts;
use super::{Reachable, text};

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const TIMEOUT_DEFAULT: Duration = Duration::from_millis(500);

pub(super) fn read(v: &Value<'_>, facts: &Facts<'_>) -> Option<Reachable> {
    let mut s = v.section()?;
    let any_of = s.need("any_of", "[\"192.168.1.1\"]", |v| {
        let list = v.list()?;
        if list.is_empty() {
            v.report(
                "no address can answer",
                "write some that only a healthy network has, such as the gateway's: [\"192.168.1.1\"]",
            );
            return None;
        }
        let mut seen = Seen::new();
        let read: Vec<_> = list
            .iter()
            .map(|item| {
                let address = item.parse(text::ip_address)?;
                if facts.addresses.contains(&address) {
                    item.report(
                        format!("{address} is a virtual address, which the master itself answers for"),
                        "write the address of another host, such as the gateway's",
                    );
                    return None;
                }
                seen.note(
                    address,
                    item,
                    format_args!("{address} stands here already"),
                    "remove one of the two",
                );
                Some(address)
            })
            .collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    let interval = s.or("interval", Duration::from_secs(1), |v| v.duration(INTERVAL));
    let default = interval.map_or(TIMEOUT_DEFAULT, |interval| interval.min(TIMEOUT_DEFAULT));
    let timeout = s.or("timeout", default, |v| v.timeout(TIMEOUT, interval));
    let fall = s.or("fall", 3, |v| v.integer(1..=1000));
    s.finish();
    Some(Reachable {
        any_of: any_of?,
        interval: interval?,
        timeout: timeout?,
        fall: fall?,
    })
}
