//! What is not as it should be, and what surprises whoever does not know it.

use std::time::SystemTime;

use super::ago;
use crate::status::{
    ChecksStatus, RealServerStatus, ReloadStatus, Status, VirtualServerStatus, VrrpStatus,
    difference,
};

/// Refusals of the kernel that are shown.
const REFUSED_MAX: usize = 3;
/// Lines of a refused reload that are shown.
const RELOAD_LINES: usize = 12;
/// Real servers that are named in one line.
const NAMED_MAX: usize = 3;

/// What is not as it should be, worst first: what breaks the service of both directors, then what
/// breaks this one's, then what waits for an operator.
pub(crate) fn problems(status: &Status, now: SystemTime) -> Vec<String> {
    let mut found = Vec::from_iter(trial(status));
    let each = |tell: &dyn Fn(&VrrpStatus) -> Vec<String>, found: &mut Vec<String>| {
        for router in &status.vrrp {
            let told = tell(router).into_iter();
            found.extend(told.map(|what| format!("virtual router {}: {what}", router.name)));
        }
    };
    each(&split_brain, &mut found);
    each(&|router| router.faults.clone(), &mut found);
    found.extend(host_problems(&status.checks));
    let refused = &status.ipvs.refused;
    let shown = refused.iter().take(REFUSED_MAX);
    found.extend(shown.map(|refused| format!("IPVS: {refused}")));
    if refused.len() > REFUSED_MAX {
        let more = refused.len() - REFUSED_MAX;
        found.push(format!("IPVS: {more} more changes are refused (--json)"));
    }
    found.extend(missing(&status.virtual_servers));
    for server in &status.virtual_servers {
        found.extend(server_problems(server));
    }
    found.extend(status.ipvs.problems.iter().cloned());
    if let Some(sync) = &status.ipvs.sync {
        let trouble = sync.trouble.iter();
        found.extend(trouble.map(|why| format!("connection sync: {why}")));
    }
    each(&|router| peer_problems(router, now), &mut found);
    if status.maintenance {
        found.push(
            "maintenance is on: this director takes no part until `vipctl maintenance off`"
                .to_owned(),
        );
    }
    let servers = status.virtual_servers.iter();
    found.extend(servers.filter_map(real_server_problems));
    each(&|router| failing_trackers(router), &mut found);
    found.extend(refused_reload(status));
    found
}

/// Whether what is in force goes away by itself, or is not what the file says.
fn trial(status: &Status) -> Option<String> {
    match (status.config.trial_seconds_left, status.config.unconfirmed) {
        (Some(left), _) => Some(format!(
            "configuration on trial, goes back in {left} s unless `vipctl confirm`"
        )),
        (None, true) => Some(
            "the former configuration is in force: the file was on trial and not confirmed; \
             `vipctl reload` puts it in force, `vipctl config diff` shows it"
                .to_owned(),
        ),
        (None, false) => None,
    }
}

fn split_brain(router: &VrrpStatus) -> Vec<String> {
    let rival = router.rival.iter().map(|rival| {
        format!(
            "two masters: {} (priority {}) is master, too",
            rival.address, rival.priority
        )
    });
    let conflicts = router.conflicts.iter().map(|conflict| {
        format!(
            "address conflict: {} claims {}",
            conflict.mac, conflict.address
        )
    });
    rival.chain(conflicts).collect()
}

fn peer_problems(router: &VrrpStatus, now: SystemTime) -> Vec<String> {
    let suspect = router.suspect.iter().map(|mac| {
        format!("suspect: no master is heard, but {mac} answers for the addresses; waiting")
    });
    let incompatible = router.incompatible.iter().map(|peer| {
        let since = ago(&peer.since, now).unwrap_or_default();
        format!(
            "the peer {} lives, but cannot be understood, for {since}: {}",
            peer.address,
            difference(&peer.reason)
        )
    });
    suspect.chain(incompatible).collect()
}

/// What costs priority only; without a weight it is a fault, which is told already.
fn failing_trackers(router: &VrrpStatus) -> Vec<String> {
    let failing = router.track.iter().filter(|track| !track.ok);
    let failing = failing.filter(|track| track.weight.is_some());
    failing.map(|track| track.detail.clone()).collect()
}

/// What checks say of this host.
fn host_problems(checks: &ChecksStatus) -> Vec<String> {
    let all_failing = checks.all_failing.iter().map(|all| {
        format!(
            "every one of {} targets fails since {}: this host's own network may be gone",
            all.targets, all.since
        )
    });
    let shortage = checks.shortage.iter().map(|shortage| {
        format!(
            "{} probes could not be made since the start, the last at {}: this host ran out of \
             something: {}",
            shortage.probes, shortage.last, shortage.why
        )
    });
    all_failing.chain(shortage).collect()
}

/// Virtual servers that the kernel should have. Where it has no IPVS that is all of them: one line.
fn missing(servers: &[VirtualServerStatus]) -> Option<String> {
    let missing: Vec<&str> = servers
        .iter()
        .filter(|server| server.missing)
        .map(|server| server.name.as_str())
        .collect();
    let first: Vec<&str> = missing.iter().take(NAMED_MAX).copied().collect();
    let named = first.join(", ");
    match missing.len() {
        0 => None,
        1 => Some(format!(
            "virtual server {named}: the kernel does not have it"
        )),
        count if count <= NAMED_MAX => Some(format!(
            "virtual servers {named}: the kernel does not have them"
        )),
        count => Some(format!(
            "virtual servers {named} and {} more: the kernel does not have them",
            count - NAMED_MAX
        )),
    }
}

fn server_problems(server: &VirtualServerStatus) -> Vec<String> {
    let mut found = Vec::new();
    if server.panic {
        let kept = server.real_servers.iter().filter(|real| real.kept);
        let kept: Vec<&str> = kept.map(|real| real.address.as_str()).collect();
        found.push(format!(
            "virtual server {}: panic: fewer than minimum_up pass; in the pool although their \
             checks fail: {}",
            server.name,
            kept.join(", ")
        ));
    }
    for real in &server.real_servers {
        let told = real.checks.iter().flat_map(|check| {
            let words = check.flapping.iter().chain(&check.warning);
            words.map(move |words| {
                format!(
                    "virtual server {}: {} {} {words}",
                    server.name, real.address, check.kind
                )
            })
        });
        found.extend(told);
    }
    let down = down(server);
    let named = if down.is_empty() {
        String::new()
    } else {
        format!("; {}", named(server, &down))
    };
    if !server.quorum.up {
        let instead = if server.sorry {
            "; the sorry server answers"
        } else {
            ""
        };
        let (have, needed) = (server.quorum.have, server.quorum.needed);
        found.push(format!(
            "virtual server {}: no quorum, weight {have} of {needed}{instead}{named}",
            server.name
        ));
    }
    found
}

/// Real servers that are down where there is quorum without them.
fn real_server_problems(server: &VirtualServerStatus) -> Option<String> {
    let down = down(server);
    let told = !server.quorum.up || down.is_empty();
    (!told).then(|| format!("virtual server {}: {}", server.name, named(server, &down)))
}

fn down(server: &VirtualServerStatus) -> Vec<&RealServerStatus> {
    let reals = server.real_servers.iter();
    reals.filter(|real| real.state == "down").collect()
}

/// `2 of 9 real servers down: ADDRESS (CAUSE), ...`
fn named(server: &VirtualServerStatus, down: &[&RealServerStatus]) -> String {
    let named = down.iter().take(NAMED_MAX).map(|real| {
        let mut failing = real.checks.iter();
        let cause = failing.find_map(|check| {
            let error = check.last_error.as_ref()?;
            Some(format!(" ({}: {error})", check.kind))
        });
        format!("{}{}", real.address, cause.unwrap_or_default())
    });
    let mut named: Vec<String> = named.collect();
    if down.len() > NAMED_MAX {
        named.push(format!("and {} more", down.len() - NAMED_MAX));
    }
    format!(
        "{} of {} real servers down: {}",
        down.len(),
        server.real_servers.len(),
        named.join(", ")
    )
}

fn refused_reload(status: &Status) -> Option<String> {
    let ReloadStatus { at, ok, error } = status.config.last_reload.as_ref()?;
    if *ok {
        return None;
    }
    let mut text = format!("reload at {at} refused, the configuration before it is in force:");
    let error = error.as_deref().unwrap_or("unknown");
    for line in error.lines().take(RELOAD_LINES) {
        text.push_str("\n  ");
        text.push_str(line);
    }
    Some(text)
}

/// What is as configured, but surprises whoever does not know it.
pub(super) fn notes(status: &Status) -> Vec<String> {
    let mut found = Vec::new();
    for VrrpStatus {
        name,
        accept,
        yielded,
        ..
    } in &status.vrrp
    {
        if !accept {
            found.push(format!(
                "virtual router {name}: its addresses answer nothing but IPVS services (accept = \
                 false)"
            ));
        }
        if *yielded {
            found.push(format!(
                "virtual router {name}: handed over by `vipctl switchover`: does not take back \
                 from a living master"
            ));
        }
    }
    found.extend(status.virtual_servers.iter().flat_map(ordered));
    found
}

/// What operators have ordered of real servers.
fn ordered(server: &VirtualServerStatus) -> Vec<String> {
    let name = &server.name;
    let of = |real: &RealServerStatus| {
        let address = &real.address;
        let out = match real.state.as_str() {
            "draining" => Some("drains: no new connections until"),
            "disabled" => Some("is disabled: out of the pool until"),
            _ => None,
        };
        let out = out.map(|what| format!("{address} {what} `vipctl enable {name} {address}`"));
        let weight = real.weight.ordered.map(|weight| {
            format!(
                "{address} has weight {weight} instead of {} until `vipctl weight {name} {address} \
                 --reset`",
                real.weight.configured
            )
        });
        out.into_iter().chain(weight)
    };
    let words = server.real_servers.iter().flat_map(of);
    words
        .map(|words| format!("virtual server {name}: {words}"))
        .collect()
}
