//! The status as a page for people: one screen tells whether all is well, and what is not comes
//! first.

mod layout;
mod problems;
mod routers;
mod servers;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::{Status, SyncStatus};

pub use self::layout::Look;
pub(crate) use self::layout::plain;
pub(crate) use self::problems::problems;

/// Problems on a terminal; a pipe gets all.
const PROBLEMS_MAX: usize = 16;
/// Notes on a terminal.
const NOTES_MAX: usize = 8;

/// The status for people, problems first.
#[must_use]
pub fn render(status: &Status, now: SystemTime, look: Look) -> String {
    let mut text = String::new();
    let up = short(Duration::from_secs(status.uptime_seconds));
    let problems = problems(status, now);
    let (verdict, painted) = match problems.len() {
        0 => ("all is well".to_owned(), look.green("all is well")),
        1 => ("1 problem".to_owned(), look.red("1 problem")),
        many => {
            let verdict = format!("{many} problems");
            let painted = look.red(&verdict).into_owned().into();
            (verdict, painted)
        }
    };
    let name = plain(&status.name);
    let head = format!("{name}  vipd {}, up {up}, ", status.version);
    let summary = summary(status);
    let whole = [&head, &verdict, ": ", &summary].concat().chars().count();
    if summary.is_empty() {
        let _ = writeln!(text, "{head}{painted}");
    } else if look.width.is_none_or(|width| whole <= width) {
        let _ = writeln!(text, "{head}{painted}: {summary}");
    } else {
        let _ = writeln!(text, "{head}{painted}");
        loud(&mut text, look, " ", &summary);
    }
    list(&mut text, look, &look.red("!"), &problems, PROBLEMS_MAX);
    let notes = problems::notes(status);
    list(&mut text, look, &look.yellow("!"), &notes, NOTES_MAX);
    if !status.vrrp.is_empty() {
        text.push('\n');
        text.push_str(&routers::routers(status, now, look));
    }
    text.push_str(&servers::servers(status, look));
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

/// How much of everything works: `master of 2 of 2, 5 virtual servers, 12 of 12 real servers up`.
fn summary(status: &Status) -> String {
    let mut parts = Vec::new();
    if !status.vrrp.is_empty() {
        let masters = status.vrrp.iter();
        let masters = masters.filter(|router| router.state == "master").count();
        parts.push(format!("master of {masters} of {}", status.vrrp.len()));
    }
    let servers = &status.virtual_servers;
    if !servers.is_empty() {
        let count = servers.len();
        let plural = if count == 1 { "" } else { "s" };
        let reals = || servers.iter().flat_map(|server| &server.real_servers);
        let up = reals().filter(|real| real.state == "up").count();
        parts.push(format!("{count} virtual server{plural}"));
        parts.push(format!("{up} of {} real servers up", reals().count()));
    }
    parts.join(", ")
}

/// Lines with a mark each; on a terminal the first of them.
fn list(text: &mut String, look: Look, mark: &str, all: &[String], most: usize) {
    let shown = if look.width.is_some() {
        most
    } else {
        all.len()
    };
    for line in all.iter().take(shown).flat_map(|each| each.lines()) {
        loud(text, look, mark, line);
    }
    if all.len() > shown {
        let more = all.len() - shown;
        loud(
            text,
            look,
            mark,
            &format!("and {more} more (vipctl status | less)"),
        );
    }
}

fn loud(text: &mut String, look: Look, mark: &str, line: &str) {
    for line in look.hanging(2, line) {
        let _ = writeln!(text, "{mark} {line}");
    }
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
