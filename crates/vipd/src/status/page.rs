//! The status as a page for people: one screen tells whether all is well, and what is not comes
//! first.

mod layout;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use self::layout::{cut, table};
use super::{
    AskedStatus, CheckStatus, ChecksStatus, RealServerStatus, ReloadStatus, Status, SyncStatus,
    VirtualServerStatus, VrrpStatus, difference,
};

pub use self::layout::Look;
pub(crate) use self::layout::plain;

/// The longest name of a virtual router that is shown whole in its column.
const NAME_MAX: usize = 24;
/// Lines of virtual addresses of one router on a terminal.
const ADDRESS_LINES: usize = 4;
/// Refusals of the kernel that are shown.
const REFUSED_MAX: usize = 3;
/// Lines of a refused reload that are shown.
const RELOAD_LINES: usize = 12;

/// The status for people, problems first.
#[must_use]
pub fn render(status: &Status, now: SystemTime, look: Look) -> String {
    let mut text = String::new();
    let up = short(Duration::from_secs(status.uptime_seconds));
    let problems = problems(status, now);
    let verdict = match problems.len() {
        0 => look.green("all is well"),
        1 => look.red("1 problem"),
        many => look.red(&format!("{many} problems")),
    };
    let name = plain(&status.name);
    let _ = writeln!(text, "{name}  vipd {}, up {up}, {verdict}", status.version);
    for line in problems.iter().flat_map(|problem| problem.lines()) {
        loud(&mut text, look, &look.red("!"), line);
    }
    for note in notes(status) {
        loud(&mut text, look, &look.yellow("!"), &note);
    }
    if !status.vrrp.is_empty() {
        text.push('\n');
        text.push_str(&routers(status, now, look));
    }
    for server in &status.virtual_servers {
        text.push('\n');
        text.push_str(&virtual_server(server, look));
    }
    if !status.virtual_servers.is_empty() {
        let ipvs = &status.ipvs;
        let sync = if ipvs.in_sync {
            look.green("in sync")
        } else {
            look.red("not in sync")
        };
        let compared = ipvs.last_resync.as_deref().and_then(|at| ago(at, now));
        let compared = compared.map_or("not compared yet".to_owned(), |ago| {
            format!("compared {ago} ago")
        });
        let _ = writeln!(text, "\nIPVS {sync}, repairs {}, {compared}", ipvs.repairs);
    }
    if let Some(sync) = &status.ipvs.sync {
        let _ = writeln!(text, "connection sync {}", connection_sync(sync));
    }
    text
}

fn loud(text: &mut String, look: Look, mark: &str, line: &str) {
    for line in look.hanging(2, line) {
        let _ = writeln!(text, "{mark} {line}");
    }
}

/// What is not as it should be, worst first: what breaks the service of both directors, then what
/// breaks this one's, then what waits for an operator.
fn problems(status: &Status, now: SystemTime) -> Vec<String> {
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
    for server in &status.virtual_servers {
        found.extend(server_problems(server));
    }
    let refused = &status.ipvs.refused;
    let shown = refused.iter().take(REFUSED_MAX);
    found.extend(shown.map(|refused| format!("IPVS: {refused}")));
    if refused.len() > REFUSED_MAX {
        let more = refused.len() - REFUSED_MAX;
        found.push(format!("IPVS: {more} more changes are refused (--json)"));
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
    each(&|router| failing_trackers(router), &mut found);
    found.extend(refused_reload(status));
    found
}

fn connection_sync(sync: &SyncStatus) -> String {
    let peers: Vec<String> = sync
        .peers
        .iter()
        .map(|peer| match peer.ready {
            true => peer.address.clone(),
            false => format!("{} (not ready)", peer.address),
        })
        .collect();
    let peers = if peers.is_empty() {
        "no peer is heard".to_owned()
    } else {
        format!("with {}", peers.join(", "))
    };
    let last = sync.last_words.as_ref();
    let last = last.map_or(String::new(), |words| format!("; {words}"));
    format!("on {}, id {}: {peers}{last}", sync.interface, sync.id)
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
    failing
        .filter_map(|track| {
            let weight = track.weight?;
            let (what, detail) = (&track.what, &track.detail);
            Some(format!("{what}: {detail} (weight {weight})"))
        })
        .collect()
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

fn server_problems(server: &VirtualServerStatus) -> Vec<String> {
    let mut found = Vec::new();
    if server.missing {
        found.push(format!(
            "virtual server {}: the kernel does not have it",
            server.name
        ));
    }
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
    if !server.quorum.up {
        let instead = if server.sorry {
            "; the sorry server answers"
        } else {
            ""
        };
        let (have, needed) = (server.quorum.have, server.quorum.needed);
        found.push(format!(
            "virtual server {}: no quorum, weight {have} of {needed}{instead}",
            server.name
        ));
    }
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
fn notes(status: &Status) -> Vec<String> {
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

fn routers(status: &Status, now: SystemTime, look: Look) -> String {
    let heads = ["ROUTER", "INTERFACE", "VRID", "STATE", "PRIO", "ADDRESSES"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for router in &status.vrrp {
        let priority = &router.priority;
        let priority = if priority.configured == priority.effective {
            priority.effective.to_string()
        } else {
            format!("{}/{}", priority.effective, priority.configured)
        };
        rows.push(vec![
            cut(&router.name, NAME_MAX),
            router.interface.clone(),
            router.vrid.to_string(),
            router.state.clone(),
            priority,
            router.virtual_addresses.join(" "),
        ]);
    }
    let rows = table(&rows, look, ADDRESS_LINES, |row, column, text| {
        match (row, column, text.trim()) {
            (0, _, _) => look.bold(text),
            (_, 3, "master") => look.green(text),
            (_, 3, "fault") => look.red(text),
            (_, _, _) => text.to_owned(),
        }
    });
    let mut routers = status.vrrp.iter();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        text.push_str(row);
        if number == 0 {
            continue;
        }
        for words in routers
            .next()
            .into_iter()
            .flat_map(|r| words(r, status, now))
        {
            for line in look.hanging(2, &words) {
                let _ = writeln!(text, "  {line}");
            }
        }
    }
    text
}

/// Who is master and since when, and what is particular about the router.
fn words(router: &VrrpStatus, status: &Status, now: SystemTime) -> Vec<String> {
    let since = ago(&router.since, now).map_or(String::new(), |ago| format!(" for {ago}"));
    let mut who = match (router.state.as_str(), &router.master) {
        ("master", _) => format!("this director is master{since}"),
        ("backup", Some(master)) => format!(
            "{} (priority {}) {} master; this director is backup{since}",
            master.address,
            master.priority,
            // Somebody answers for the addresses, but no advert says who.
            if router.suspect.is_some() {
                "was"
            } else {
                "is"
            }
        ),
        ("backup", None) => format!("no master is heard; this director is backup{since}"),
        ("fault", _) => format!("this director cannot be master{since}"),
        (_, _) if status.maintenance => "this director takes no part: maintenance".to_owned(),
        (state, _) => format!("this director is in state {state}{since}"),
    };
    if !router.why.is_empty() {
        let _ = write!(who, ": {}", router.why);
    }
    if router.lingering {
        who.push_str("; forwards until the new master is heard");
    }
    let mut particular = Vec::new();
    if !router.accept {
        particular.push("answers nothing but IPVS services".to_owned());
    }
    if router.transport == "unicast" {
        particular.push("unicast".to_owned());
    }
    if let Some(interface) = &router.virtual_mac {
        particular.push(format!("virtual MAC on {interface}"));
    }
    if let Some(group) = &router.sync_group {
        particular.push(format!("sync group {group}"));
    }
    if particular.is_empty() {
        vec![who]
    } else {
        vec![who, particular.join(", ")]
    }
}

fn virtual_server(server: &VirtualServerStatus, look: Look) -> String {
    let quorum = &server.quorum;
    let state = match (server.missing, quorum.up) {
        (true, _) => look.red("not in the kernel"),
        (false, true) => look.green("up"),
        (false, false) => look.red("no quorum"),
    };
    let only_master = if server.active == "master" {
        ", while master"
    } else {
        ""
    };
    // A firewall mark's address begins with the word, so the protocol need not be said again.
    let what = match server.protocol.as_str() {
        "fwmark" => server.address.clone(),
        protocol => format!("{protocol} {}", server.address),
    };
    let (scheduler, forwarding) = (&server.scheduler, &server.forwarding);
    let rest = format!(" {what} {scheduler} {forwarding}{only_master}: ");
    let weight = format!(", weight {} (quorum {})", quorum.have, quorum.needed);
    let name = match look.width {
        Some(width) => {
            let used = rest.chars().count() + "not in the kernel".len() + weight.chars().count();
            cut(&server.name, width.saturating_sub(used).max(8))
        }
        None => plain(&server.name),
    };
    let mut text = format!("{}{rest}{state}{weight}\n", look.bold(&name));
    let heads = [
        "  REAL SERVER",
        "STATE",
        "WEIGHT",
        "ACTIVE",
        "INACTIVE",
        "CHECK",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for real in &server.real_servers {
        let weight = &real.weight;
        let weight = if weight.configured == weight.effective {
            weight.effective.to_string()
        } else {
            format!("{}/{}", weight.effective, weight.configured)
        };
        let checks: Vec<String> = real.checks.iter().map(check).collect();
        rows.push(vec![
            format!("  {}", real.address),
            match (real.kept, real.slow_start) {
                (true, _) => format!("{}, kept", real.state),
                (false, true) => format!("{}, slow start", real.state),
                (false, false) => real.state.clone(),
            },
            weight,
            real.connections.active.to_string(),
            real.connections.inactive.to_string(),
            if checks.is_empty() {
                "none".to_owned()
            } else {
                checks.join("; ")
            },
        ]);
    }
    let rows = table(&rows, look, usize::MAX, |row, column, text| {
        match (row, column, text.trim()) {
            (0, _, _) => look.bold(text),
            (_, 1, "up" | "up, slow start") => look.green(text),
            (_, 1, "down" | "down, kept") => look.red(text),
            (_, 1, "draining" | "disabled") => look.yellow(text),
            (_, _, _) => text.to_owned(),
        }
    });
    text.push_str(&rows.concat());
    text
}

fn check(check: &CheckStatus) -> String {
    let found = match (&check.last_error, check.last_latency_ms) {
        (Some(error), _) => format!("{}: {error}", check.kind),
        (None, Some(latency)) => {
            let asks = check.asks_for.map(asked).unwrap_or_default();
            format!("{} ok, {latency} ms{asks}", check.kind)
        }
        (None, None) if check.runs == "not" => check.kind.clone(),
        (None, None) => format!("{} waiting", check.kind),
    };
    if check.runs == "not" {
        format!("{found} (not checked while backup)")
    } else {
        found
    }
}

fn asked(weight: AskedStatus) -> String {
    match weight {
        AskedStatus::Absolute(weight) => format!(", asks for weight {weight}"),
        AskedStatus::Percent(share) => format!(", asks for {share} %"),
    }
}

fn ago(at: &str, now: SystemTime) -> Option<String> {
    let at = humantime::parse_rfc3339_weak(at).ok()?;
    Some(short(now.duration_since(at).unwrap_or_default()))
}

/// The two largest units: `3d4h`, `5m10s`, `7s`.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        (_, _, _) => format!("{days}d{hours}h"),
    }
}
