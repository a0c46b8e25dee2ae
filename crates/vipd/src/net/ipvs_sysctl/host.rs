//! What forwarding needs of the host beside the settings of IPVS. Only NAT, of one address or of both, needs
//! anything: there the answers of real servers go through this host as through a router.
//!
//! * It must forward (`ip_forward`, `net.ipv6.conf.all.forwarding`).
//! * It must not tell a real server on the clients' network the short way to them (`send_redirects`): the
//!   answers would go past it. Either of `all` and the interface suffices to send them, so both are switched off.
//! * An IPv6 router does not listen to other routers: a host that has its default route from their
//!   advertisements loses it unless `accept_ra` is 2.
//!
//! Direct routing and tunnels need nothing: IPVS sends those packets itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ipvs::Family;

use super::memory::{Memory, read};
use super::{SETTINGS, Wanted, shown};
use crate::net::links::Links;

const FORWARD: &str = "ipv4/ip_forward";
const FORWARD6: &str = "ipv6/conf/all/forwarding";
/// The kernel takes a router for safe from redirects, and a host for not.
const REDIRECTS: &str = "ipv4/conf/all/accept_redirects";

/// A setting that the host should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
    /// What happens without it.
    pub(super) why: &'static str,
}

impl Setting {
    fn new(name: impl Into<String>, value: &str, why: &'static str) -> Setting {
        Setting {
            name: name.into(),
            value: value.to_owned(),
            why,
        }
    }
}

/// Those that are wanted, in the order in which they are to be set. `hears` and `translates` are interfaces.
pub(super) fn settings(
    wanted: &Wanted,
    hears: &BTreeSet<String>,
    translates: &BTreeSet<String>,
    links: &Links,
    memory: &Memory,
) -> Vec<Setting> {
    let mut settings = Vec::new();
    for name in hears {
        let name = format!("ipv4/conf/{name}/accept_local");
        let why = "so checks with via = \"vip\" get no answer while this host is master";
        settings.push(Setting::new(name, "1", why));
    }
    if !wanted.translated.is_empty() {
        let why = "so real servers behind NAT learn the short way to clients of their network, past this host";
        let names = std::iter::once("all").chain(translates.iter().map(String::as_str));
        let names = names.map(|name| format!("ipv4/conf/{name}/send_redirects"));
        settings.extend(names.map(|name| Setting::new(name, "0", why)));
    }
    let why = "so no answer of a real server behind NAT gets to its client";
    if wanted.forwards.contains(&Family::V6) {
        let listening = links
            .iter()
            .map(|link| format!("ipv6/conf/{}/accept_ra", link.name));
        let listening = listening.filter(|name| listens(name, memory));
        let without =
            "so this host loses the default route that a router has told it when it forwards";
        settings.extend(listening.map(|name| Setting::new(name, "2", without)));
        settings.push(Setting::new(FORWARD6, "1", why));
    }
    if wanted.forwards.contains(&Family::V4) {
        settings.push(Setting::new(FORWARD, "1", why));
    }
    settings
}

/// Whether routers are listened to by an interface, and would not be if this host forwarded.
fn listens(name: &str, memory: &Memory) -> bool {
    let is = |name: &str, value: &str| read(name).is_ok_and(|found| found == value);
    (is(name, "1") && is(FORWARD6, "0")) || (memory.knows(name) && is(name, "2"))
}

/// What is to be told of a setting that vipd must not change.
pub(super) fn differs(name: &str, value: &str, why: &str) -> Result<(), String> {
    let Ok(found) = read(name) else {
        return Ok(());
    };
    if found == value {
        return Ok(());
    }
    let setting = shown(name);
    Err(format!(
        "is {found}, {why}: `sysctl -w {setting}={value}`, or let vipd do it (sysctl.manage)"
    ))
}

/// What other settings have that the kernel changes when it sets that one: forwarding of all interfaces is
/// forwarding of each, and some of them may have had it before.
pub(super) fn companions(name: &str) -> BTreeMap<String, String> {
    let family = match name {
        FORWARD => "ipv4",
        FORWARD6 => "ipv6",
        _ => return BTreeMap::new(),
    };
    let entries = std::fs::read_dir(Path::new(SETTINGS).join(family).join("conf"));
    let interfaces = entries.into_iter().flatten().filter_map(|entry| {
        let interface = entry.ok()?.file_name().into_string().ok()?;
        (interface != "all").then(|| format!("{family}/conf/{interface}/forwarding"))
    });
    let forwarding = interfaces.filter_map(|name| Some((read(&name).ok()?, name)));
    let mut with: BTreeMap<String, String> = forwarding
        .filter(|(value, _)| value != "0")
        .map(|(value, name)| (name, value))
        .collect();
    if name == FORWARD
        && let Ok(value) = read(REDIRECTS)
    {
        with.insert(REDIRECTS.to_owned(), value);
    }
    with
}
