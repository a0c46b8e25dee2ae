//! The table of the virtual routers.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::ago;
use super::layout::{Look, cut, table};
use crate::status::{Status, VrrpStatus};

/// The longest name of a virtual router that is shown whole in its column.
const NAME_MAX: usize = 24;
/// Lines of virtual addresses of one router on a terminal.
const ADDRESS_LINES: usize = 4;
/// Virtual routers on a terminal; what is wrong with others is among the problems.
const ROUTERS_MAX: usize = 16;

pub(super) fn routers(status: &Status, now: SystemTime, look: Look) -> String {
    let heads = ["ROUTER", "INTERFACE", "VRID", "STATE", "PRIO", "ADDRESSES"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let shown = match look.width {
        Some(_) if status.vrrp.len() > ROUTERS_MAX => ROUTERS_MAX,
        Some(_) | None => status.vrrp.len(),
    };
    for router in status.vrrp.iter().take(shown) {
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
            (_, _, _) => text.into(),
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
    if shown < status.vrrp.len() {
        let rest = || status.vrrp.iter().skip(shown);
        let masters = rest().filter(|router| router.state == "master").count();
        let more = rest().count();
        let _ = writeln!(
            text,
            "and {more} more virtual routers, master of {masters} of them (vipctl status | less)"
        );
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
