//! `sysctl` of `[ipvs]`: the settings under `net.ipv4.vs`.

use std::collections::BTreeMap;

use super::Ipvs;
use super::section::Section;
use super::value::Value;

/// What a setting can be.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Switch,
    Number(i32, i32),
    /// A threshold and a period above it.
    Pair,
    /// A list of CPUs.
    Cpus,
}

/// Those of the kernel, up to 6.12.
const SETTINGS: [(&str, Kind); 29] = [
    ("amemthresh", Kind::Number(0, i32::MAX)),
    ("am_droprate", Kind::Number(1, i32::MAX)),
    ("backup_only", Kind::Switch),
    ("cache_bypass", Kind::Switch),
    ("conn_reuse_mode", Kind::Number(0, 3)),
    ("conntrack", Kind::Switch),
    ("drop_entry", Kind::Number(0, 3)),
    ("drop_packet", Kind::Number(0, 3)),
    ("est_cpulist", Kind::Cpus),
    ("est_nice", Kind::Number(-20, 19)),
    ("expire_nodest_conn", Kind::Switch),
    ("expire_quiescent_template", Kind::Switch),
    ("ignore_tunneled", Kind::Switch),
    ("nat_icmp_send", Kind::Switch),
    ("pmtu_disc", Kind::Switch),
    ("run_estimation", Kind::Switch),
    ("schedule_icmp", Kind::Switch),
    ("secure_tcp", Kind::Number(0, 3)),
    ("sloppy_sctp", Kind::Switch),
    ("sloppy_tcp", Kind::Switch),
    ("snat_reroute", Kind::Switch),
    ("sync_persist_mode", Kind::Switch),
    ("sync_ports", Kind::Number(1, 64)),
    ("sync_qlen_max", Kind::Number(0, i32::MAX)),
    // In seconds; the kernel counts jiffies in an `int`.
    ("sync_refresh_period", Kind::Number(0, 2_000_000)),
    ("sync_retries", Kind::Number(0, 3)),
    ("sync_sock_size", Kind::Number(0, i32::MAX)),
    ("sync_threshold", Kind::Pair),
    ("sync_version", Kind::Number(0, 1)),
];

/// What differs from the kernel's own defaults.
const DEFAULTS: [(&str, &str); 3] = [
    ("expire_nodest_conn", "1"),
    ("expire_quiescent_template", "1"),
    ("sync_threshold", "2 50"),
];

/// `sysctl` as read, and where it switches `conntrack` off.
pub(super) type Written<'a> = (BTreeMap<&'static str, String>, Option<Value<'a>>);

pub(super) fn defaults() -> BTreeMap<&'static str, String> {
    DEFAULTS
        .map(|(name, value)| (name, value.to_owned()))
        .into()
}

pub(super) fn read<'a>(v: &Value<'a>) -> Option<Written<'a>> {
    let mut s: Section<'a> = v.section()?;
    let (mut values, mut conntrack_off, mut good) = (defaults(), None, true);
    for (name, kind) in SETTINGS {
        let Some(written) = s.get(name) else {
            continue;
        };
        match value(&written, kind) {
            Some(value) => {
                if name == "conntrack" && value == "0" {
                    conntrack_off = Some(written);
                }
                values.insert(name, value);
            }
            None => good = false,
        }
    }
    s.finish();
    good.then_some((values, conntrack_off))
}

/// The value as the kernel takes it.
fn value(v: &Value<'_>, kind: Kind) -> Option<String> {
    match kind {
        Kind::Switch if v.is_integer() => Some(v.integer(0..=1)?.to_string()),
        Kind::Switch => Some(i32::from(v.boolean()?).to_string()),
        Kind::Number(from, to) => Some(v.integer(from..=to)?.to_string()),
        Kind::Pair => {
            let numbers = v.list()?;
            let read = |item: &Value<'_>| item.integer(0..=i32::MAX);
            let read: Vec<Option<i32>> = numbers.iter().map(read).collect();
            let read: Vec<i32> = read.into_iter().collect::<Option<_>>()?;
            match *read.as_slice() {
                [threshold, period] if threshold < period || period == 0 => {
                    Some(format!("{threshold} {period}"))
                }
                _ => {
                    v.report(
                        "must be a number of packets and a period above it",
                        "write [2, 50]: a connection is synchronised with its packets 2, 52, 102 and so on",
                    );
                    None
                }
            }
        }
        Kind::Cpus => {
            let text = v.text()?;
            let good = |c: char| c.is_ascii_digit() || c == ',' || c == '-';
            if text.is_empty() || !text.chars().all(good) {
                v.report("is no list of CPUs", "write \"0-3,8\"");
                return None;
            }
            Some(text.to_owned())
        }
    }
}

/// Full NAT needs `conntrack`: it is on by itself, and cannot be off.
pub(super) fn full_nat(ipvs: &mut Ipvs, conntrack_off: Option<&Value<'_>>) {
    if let Some(value) = conntrack_off {
        value.report(
            "forwarding = \"fullnat\" needs connection tracking",
            "remove it: without the key it is on exactly where it is needed",
        );
    }
    ipvs.sysctl.insert("conntrack", "1".to_owned());
}
