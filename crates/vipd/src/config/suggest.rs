//! "Did you mean": what somebody most likely meant who wrote a word that is not known.
//!
//! First come the words of keepalived and ipvsadm, which many bring along; then words that look alike,
//! where they are alike enough. Nonsense gets no suggestion.

use super::keys;
use super::section::list;

/// Words of other programs: where (a table's path without names; empty: everywhere), the word, and what
/// to write here.
const FOREIGN: [(&str, &str, &str); 78] = [
    ("", "global_defs", "`[global]`"),
    ("", "vrrp_instance", "`[[vrrp]]`, with `name`"),
    ("", "vrrp_sync_group", "`[[sync_group]]`"),
    ("", "vrrp_script", "`[[track_script]]`"),
    ("", "router_id", "`name`, in `[global]`"),
    ("", "lvs_sync_daemon", "`sync`, in `[ipvs]`"),
    ("", "lvs_timeouts", "`timeouts`, in `[ipvs]`"),
    (
        "",
        "virtual_server_group",
        "`addresses`, of a `[[virtual_server]]`",
    ),
    ("", "real_server", "`[[virtual_server.real_server]]`"),
    ("", "real_servers", "`[[virtual_server.real_server]]`"),
    ("global", "router_id", "`name`"),
    ("global", "lvs_sync_daemon", "`sync`, in `[ipvs]`"),
    ("global", "lvs_timeouts", "`timeouts`, in `[ipvs]`"),
    ("vrrp", "virtual_router_id", "`vrid`"),
    ("vrrp", "advert_int", "`advert_interval`, such as \"1s\""),
    ("vrrp", "nopreempt", "`preempt = false`"),
    ("vrrp", "noaccept", "`accept = false`"),
    ("vrrp", "virtual_ipaddress", "`virtual_addresses`"),
    (
        "vrrp",
        "virtual_ipaddress_excluded",
        "`virtual_addresses`, with `advertise = false`",
    ),
    ("vrrp", "virtual_ip", "`virtual_addresses`"),
    ("vrrp", "vip", "`virtual_addresses`"),
    ("vrrp", "use_vmac", "`virtual_mac`"),
    ("vrrp", "vmac_xmit_base", "`virtual_mac`"),
    ("vrrp", "unicast_src_ip", "`unicast`, with `source`"),
    ("vrrp", "mcast_src_ip", "`unicast`, with `source`"),
    ("vrrp", "unicast_peer", "`unicast`, with `peers`"),
    ("vrrp", "unicast_ttl", "`unicast`, with `ttl`"),
    ("vrrp", "auth_type", "`authentication`, with `type`"),
    ("vrrp", "auth_pass", "`authentication`, with `key`"),
    ("vrrp", "track_interface", "`track`, with `interface`"),
    ("vrrp", "track_script", "`track`, with `script`"),
    ("vrrp", "track_file", "`track`, with `file`"),
    ("vrrp", "track_process", "`track`, with `process`"),
    ("vrrp", "garp_master_delay", "`garp`, with `delay`"),
    ("vrrp", "garp_master_repeat", "`garp`, with `repeat`"),
    ("vrrp", "garp_master_refresh", "`garp`, with `refresh`"),
    ("vrrp", "startup_delay", "`start_delay`"),
    ("vrrp", "vrrp_startup_delay", "`start_delay`"),
    ("vrrp", "down_timer_adverts", "`down_adverts`"),
    (
        "vrrp",
        "state",
        "`priority`: the highest is master, and nobody begins as one",
    ),
    ("vrrp.authentication", "auth_type", "`type`"),
    ("vrrp.authentication", "auth_pass", "`key`"),
    ("sync_group", "group", "`members`"),
    ("track_script", "script", "`command`, a list of strings"),
    ("virtual_server", "lb_algo", "`scheduler`"),
    ("virtual_server", "lvs_sched", "`scheduler`"),
    ("virtual_server", "lb_kind", "`forwarding`"),
    ("virtual_server", "lvs_method", "`forwarding`"),
    (
        "virtual_server",
        "persistence_timeout",
        "`persistence`, with `timeout`",
    ),
    (
        "virtual_server",
        "persistence_granularity",
        "`persistence`, with `netmask`",
    ),
    (
        "virtual_server",
        "persistence_engine",
        "`persistence`, with `engine`",
    ),
    ("virtual_server", "delay_loop", "`check`, with `interval`"),
    ("virtual_server", "ops", "`one_packet`"),
    (
        "virtual_server",
        "ip_family",
        "nothing: the address says it",
    ),
    (
        "virtual_server",
        "alpha",
        "`check`, with `start = \"down\"`, which is the default",
    ),
    (
        "virtual_server",
        "inhibit_on_failure",
        "`on_failure = \"zero-weight\"`",
    ),
    ("virtual_server", "virtualhost", "`check`, with `host`"),
    ("virtual_server", "flag-1", "`scheduler_flags`"),
    ("virtual_server", "flag-2", "`scheduler_flags`"),
    (
        "virtual_server",
        "sh-port",
        "`scheduler_flags = [\"sh-port\"]`",
    ),
    (
        "virtual_server",
        "mh-port",
        "`scheduler_flags = [\"mh-port\"]`",
    ),
    ("virtual_server", "servers", "`real_server`"),
    ("virtual_server", "retry", "`check`, with `fall`"),
    (
        "virtual_server.real_server",
        "uthreshold",
        "`upper_threshold`",
    ),
    (
        "virtual_server.real_server",
        "lthreshold",
        "`lower_threshold`",
    ),
    ("virtual_server.real_server", "lvs_method", "`forwarding`"),
    (
        "virtual_server.real_server",
        "inhibit_on_failure",
        "`on_failure = \"zero-weight\"`, of the virtual server",
    ),
    (
        "virtual_server.real_server",
        "TCP_CHECK",
        "`check = { type = \"tcp\" }`",
    ),
    (
        "virtual_server.real_server",
        "HTTP_GET",
        "`check = { type = \"http\" }`",
    ),
    (
        "virtual_server.real_server",
        "SSL_GET",
        "`check = { type = \"http\", tls = true }`",
    ),
    (
        "virtual_server.real_server",
        "MISC_CHECK",
        "`check = { type = \"script\" }`",
    ),
    (
        "virtual_server.real_server",
        "DNS_CHECK",
        "`check = { type = \"dns\" }`",
    ),
    (
        "virtual_server.real_server",
        "PING_CHECK",
        "`check = { type = \"ping\" }`",
    ),
    ("check", "connect_timeout", "`timeout`"),
    ("check", "connect_port", "`port`"),
    ("check", "connect_ip", "`address`"),
    ("check", "bindto", "`source`"),
    ("check", "delay_loop", "`interval`"),
];

/// Values of other programs, in small letters: the key, the value, and what to write here.
const FOREIGN_VALUES: [(&str, &str, &str); 30] = [
    ("scheduler", "round-robin", "rr"),
    ("scheduler", "roundrobin", "rr"),
    ("scheduler", "weighted-round-robin", "wrr"),
    ("scheduler", "least-connections", "lc"),
    ("scheduler", "leastconn", "lc"),
    ("scheduler", "weighted-least-connections", "wlc"),
    ("scheduler", "source", "sh"),
    ("scheduler", "maglev", "mh"),
    ("forwarding", "droute", "dr"),
    ("forwarding", "gate", "dr"),
    ("forwarding", "gatewaying", "dr"),
    ("forwarding", "direct", "dr"),
    ("forwarding", "masq", "nat"),
    ("forwarding", "masquerading", "nat"),
    ("forwarding", "ipip", "tun"),
    ("forwarding", "tunnel", "tun"),
    ("forwarding", "fnat", "fullnat"),
    ("type", "tcp_check", "tcp"),
    ("type", "http_get", "http"),
    ("type", "misc_check", "script"),
    ("type", "misc", "script"),
    ("type", "exec", "script"),
    ("type", "dns_check", "dns"),
    ("type", "udp_check", "udp"),
    ("type", "smtp_check", "smtp"),
    ("type", "ping_check", "ping"),
    ("type", "icmp", "ping"),
    ("type", "ah", "hmac"),
    ("type", "password", "pass"),
    ("on_failure", "inhibit", "zero-weight"),
];

/// The help for a key that the table at `path` does not have.
pub(super) fn unknown_key(path: &str, key: &str, known: &[&str]) -> String {
    let place = keys::place_of(path);
    let of_check = place.ends_with(".check") || place.ends_with(".checks");
    let fits = |table: &str| table == place || (table == "check" && of_check);
    let foreign = FOREIGN.iter().find(|(t, word, _)| fits(t) && *word == key);
    if let Some((_, _, here)) = foreign {
        let quoted = here
            .match_indices('`')
            .nth(1)
            .map(|(at, _)| at.saturating_add(1));
        let end = quoted.or_else(|| here.find(':')).unwrap_or(here.len());
        let (what, rest) = here.split_at_checked(end).unwrap_or((here, ""));
        return format!("that is {what} here{rest}");
    }
    if let Some(close) = closest(key, known) {
        return format!("did you mean `{close}`?");
    }
    format!("the keys here are {}", list(known, '`'))
}

/// The known value of the key that ends `path` that somebody who wrote `word` most likely meant.
pub(super) fn value<'w>(path: &str, word: &str, known: &[&'w str]) -> Option<&'w str> {
    let key = path.rsplit('.').next().unwrap_or_default();
    let small = word.to_lowercase().replace('_', "-");
    let foreign = FOREIGN_VALUES.iter().find_map(|(of, word, here)| {
        let written = *of == key && word.replace('_', "-") == small;
        known.iter().find(|known| written && **known == *here)
    });
    foreign.copied().or_else(|| closest(word, known))
}

/// The known word that is most like `word`, if it is like it at all.
pub(super) fn closest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    if word.len() > 64 {
        return None;
    }
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let written = plain(word);
    // A third of the letters may be wrong; more is another word.
    let far = match written.chars().count() {
        0..=1 => 0,
        2..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    let alike = known
        .iter()
        .map(|candidate| (distance(&written, &plain(candidate)), *candidate))
        // Of two letters one is not enough to know the word by.
        .filter(|(distance, candidate)| *distance <= far && *distance < candidate.len() / 2 + 1)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate);
    // `auth` for `authentication`, `sched` for `scheduler`.
    let short = || {
        let begun = known.iter().filter(|known| known.starts_with(&written));
        begun.min_by_key(|known| known.len()).copied()
    };
    alike.or_else(|| short().filter(|_| written.len() >= 4))
}

/// How many letters must be added, removed, replaced or swapped with their neighbour to get from one
/// word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // `rows[i][j]` is the distance of the first i letters of `a` from the first j of `b`.
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    let at = |rows: &[Vec<usize>], i: usize, j: usize| {
        let cell = rows.get(i).and_then(|row| row.get(j));
        cell.copied().unwrap_or(usize::MAX)
    };
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = a.get(i - 1) == b.get(j - 1);
            let replaced = at(&rows, i - 1, j - 1).saturating_add(usize::from(!same));
            let removed = at(&rows, i - 1, j).saturating_add(1);
            let added = row.last().copied().unwrap_or(0).saturating_add(1);
            let mut best = replaced.min(removed).min(added);
            if i > 1 && j > 1 && a.get(i - 1) == b.get(j - 2) && a.get(i - 2) == b.get(j - 1) {
                best = best.min(at(&rows, i - 2, j - 2).saturating_add(1));
            }
            row.push(best);
        }
        rows.push(row);
    }
    at(&rows, a.len(), b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_nonsense_is_not() {
        let keys = ["priority", "vrid", "virtual_addresses", "authentication"];
        for (word, meant) in [
            ("prioritty", Some("priority")),
            ("Priority", Some("priority")),
            ("virtual-address", Some("virtual_addresses")),
            ("vird", Some("vrid")),
            ("auth", Some("authentication")),
            ("v", None),
            ("colour", None),
            ("wasserfall", None),
            ("", None),
        ] {
            assert_eq!(closest(word, &keys), meant, "{word}");
        }
        assert_eq!(closest("rrr", &["rr", "wlc"]), Some("rr"));
        assert_eq!(closest("x", &["rr", "wlc"]), None);
    }

    #[test]
    fn every_word_of_another_program_leads_to_a_key_that_there_is() {
        for (table, word, here) in FOREIGN {
            let path = if table == "check" {
                "virtual_server.check"
            } else {
                table
            };
            let there = keys::table_at(path).unwrap();
            assert!(there.key(word).is_none(), "{table}.{word}");
            let key = here.split('`').nth(1).unwrap_or_default();
            let key = key.split(' ').next().unwrap().trim_matches(['[', ']']);
            let root = keys::table_at(key).is_some() || key.is_empty();
            let elsewhere = keys::table_at("global").unwrap().key(key).is_some()
                || keys::table_at("ipvs").unwrap().key(key).is_some()
                || keys::table_at("virtual_server").unwrap().key(key).is_some();
            assert!(
                root || elsewhere || there.key(key).is_some(),
                "{word}: {key}"
            );
        }
    }
}
