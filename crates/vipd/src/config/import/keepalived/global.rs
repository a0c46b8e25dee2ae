//! `global_defs`

use std::net::IpAddr;
use std::time::Duration;

use super::super::document::{Document, Keys, Section};
use super::block::Node;
use super::context::{Context, parse};
use super::{command, lost};

/// What other blocks take from there.
#[derive(Debug, Clone)]
pub(super) struct Globals {
    pub(super) version: u8,
    pub(super) script_user: Option<String>,
    pub(super) strict: bool,
    pub(super) start_delay: Duration,
    pub(super) down_adverts: u8,
    pub(super) garp: Garp,
}

/// How a master announces its addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Garp {
    pub(super) repeat: u32,
    pub(super) delay: Duration,
    pub(super) refresh: Duration,
}

impl Default for Globals {
    fn default() -> Globals {
        Globals {
            version: 2,
            script_user: None,
            strict: false,
            start_delay: Duration::ZERO,
            down_adverts: 3,
            garp: Garp {
                repeat: 5,
                delay: Duration::from_secs(5),
                refresh: Duration::ZERO,
            },
        }
    }
}

impl Globals {
    pub(super) fn read(tree: &[Node], cx: &mut Context<'_>) -> Globals {
        let mut globals = Globals::default();
        for node in settings(tree) {
            match node.keyword() {
                "vrrp_version" => {
                    globals.version = cx.number(node, 2..=3).unwrap_or(globals.version);
                }
                "vrrp_strict" => {
                    globals.strict = cx.boolean(node);
                    let message = "vipd has no strict mode";
                    let help = "what it means for each virtual router is written there";
                    cx.idle(node, message, help);
                }
                "vrrp_startup_delay" => {
                    globals.start_delay = cx.seconds(node).unwrap_or_default();
                }
                "vrrp_down_timer_adverts" => {
                    globals.down_adverts = cx.number(node, 1..=100).unwrap_or(3);
                }
                "script_user" => {
                    if let Some(user) = cx.text(node) {
                        command::group(node, &user, node.arg(1), cx);
                        globals.script_user = Some(user);
                    }
                }
                "vrrp_min_garp" => {
                    if cx.boolean(node) {
                        globals.garp.repeat = 1;
                        globals.garp.delay = Duration::ZERO;
                    }
                }
                keyword => {
                    if let Some(name) = keyword.strip_prefix("vrrp_") {
                        globals.garp.read(name, node, cx);
                    }
                }
            }
        }
        globals
    }
}

impl Garp {
    /// Reads one of its settings; `false`: it is none of them.
    pub(super) fn read(&mut self, name: &str, node: &Node, cx: &mut Context<'_>) -> bool {
        const RIVAL: &str = "vipd announces as after a takeover when a rival is gone";
        match name {
            "garp_master_delay" => {
                self.delay = cx.seconds(node).unwrap_or(self.delay);
            }
            "garp_master_repeat" => {
                if let Some(repeat) = cx.number(node, 0..=u32::MAX) {
                    // keepalived takes 0 as 1.
                    self.repeat = repeat.clamp(1, 60);
                    if repeat > 60 {
                        let message = format!("{repeat} announcements are too many");
                        cx.lost(node, message, "60 are sent");
                    }
                }
            }
            "garp_master_refresh" => {
                self.refresh = cx.seconds(node).unwrap_or(self.refresh);
            }
            "garp_master_refresh_repeat" => {
                if cx
                    .number(node, 1..=u32::MAX)
                    .is_some_and(|repeat| repeat > 1)
                {
                    let message = "vipd sends one announcement at each refresh";
                    cx.lost(node, message, "write a shorter `refresh`");
                }
            }
            "garp_lower_prio_delay" | "garp_lower_prio_repeat" => {
                cx.idle(node, RIVAL, "nothing is to be done");
            }
            "garp_interval" | "gna_interval" => {
                let message = "vipd sends its announcements 30 ms apart";
                cx.idle(node, message, "nothing is to be done");
            }
            _ => return false,
        }
        true
    }
}

/// Everything in all of them.
fn settings(tree: &[Node]) -> impl Iterator<Item = &Node> {
    let globals = tree.iter().filter(|node| node.keyword() == "global_defs");
    globals.flat_map(|node| &node.children)
}

/// `[global]` and `[ipvs]`.
pub(super) fn write(tree: &[Node], cx: &mut Context<'_>, document: &mut Document) {
    let mut global = Section::new("[global]");
    let mut ipvs = Section::new("[ipvs]");
    for node in settings(tree) {
        match node.keyword() {
            "router_id" => {
                if let Some(name) = cx.text(node) {
                    global.set("name", name);
                }
            }
            "lvs_timeouts" => timeouts(node, cx, &mut ipvs),
            "lvs_sync_daemon" | "lvs_sync_daemon_interface" => sync(node, cx, &mut ipvs),
            "vrrp_mcast_group4" | "vrrp_mcast_group6" => group(node, cx),
            // Read already.
            "vrrp_version"
            | "vrrp_strict"
            | "vrrp_startup_delay"
            | "vrrp_down_timer_adverts"
            | "script_user"
            | "vrrp_min_garp"
            | "vrrp_garp_master_delay"
            | "vrrp_garp_master_repeat"
            | "vrrp_garp_master_refresh"
            | "vrrp_garp_master_refresh_repeat"
            | "vrrp_garp_lower_prio_delay"
            | "vrrp_garp_lower_prio_repeat"
            | "vrrp_garp_interval"
            | "vrrp_gna_interval" => {}
            _ => lost::report(node, &lost::GLOBAL, "global_defs", cx),
        }
    }
    document.push(global);
    document.push(ipvs);
}

/// The groups of the RFCs are vipd's.
fn group(node: &Node, cx: &mut Context<'_>) {
    let written = node.arg(0).and_then(|text| text.parse::<IpAddr>().ok());
    let known = ["224.0.0.18", "ff02::12"].map(|group| group.parse().ok());
    if written.is_none() || !known.contains(&written) {
        let message = "vipd's groups are those of the RFCs, 224.0.0.18 and ff02::12";
        cx.lost(node, message, "give the virtual routers different VRIDs");
    }
}

fn timeouts(node: &Node, cx: &mut Context<'_>, ipvs: &mut Section) {
    let mut keys = Keys::default();
    let mut words = node.args().iter();
    while let Some(word) = words.next() {
        let key = match word.text.as_str() {
            "tcp" => "tcp",
            "tcpfin" => "tcp_fin",
            "udp" => "udp",
            other => {
                let message = format!("{other:?} is no timeout of IPVS");
                cx.lost(node, message, "tcp, tcpfin and udp are");
                continue;
            }
        };
        match words
            .next()
            .and_then(|word| parse(&word.text, &(1..=2_678_400_u64)))
        {
            Some(seconds) => keys.set(key, Duration::from_secs(seconds)),
            None => cx.lost(
                node,
                format!("{key} has no number of seconds"),
                "it is left out of the result",
            ),
        }
    }
    if !keys.is_empty() {
        ipvs.set("timeouts", keys);
    }
}

/// `INTERFACE [[inst] NAME] [id N] [maxlen N] [port N] [ttl N] [group IP]`
fn sync(node: &Node, cx: &mut Context<'_>, ipvs: &mut Section) {
    let Some(interface) = cx.text(node) else {
        return;
    };
    let mut keys = Keys::default();
    let mut rest = Keys::default();
    keys.set("interface", interface);
    let (mut id, mut instance): (Option<u8>, Option<&str>) = (None, None);
    let mut words = node.args().iter().skip(1).map(|word| word.text.as_str());
    while let Some(word) = words.next() {
        let mut wrong = || cx.lost(node, format!("{word} has no good value"), "it is left out");
        match word {
            "inst" => instance = words.next(),
            "id" | "syncid" => match words.next().and_then(|text| text.parse().ok()) {
                Some(number) => id = Some(number),
                None => wrong(),
            },
            "maxlen" => match words.next().and_then(|text| parse(text, &(1..=65_507_u16))) {
                Some(length) if length >= 1024 => rest.set("max_length", length),
                Some(_) | None => wrong(),
            },
            "port" => match words.next().and_then(|text| parse(text, &(1..=65_534_u16))) {
                Some(port) => rest.set_unless("port", port, &8848),
                None => wrong(),
            },
            "ttl" => match words.next().and_then(|text| parse(text, &(1..=255_u8))) {
                Some(ttl) => rest.set_unless("ttl", ttl, &1),
                None => wrong(),
            },
            "group" => match words.next().and_then(|text| text.parse::<IpAddr>().ok()) {
                Some(group) if group.is_multicast() => {
                    rest.set_unless("group", group.to_string(), &"224.0.0.81".to_owned());
                }
                Some(_) | None => wrong(),
            },
            other => {
                // The name alone is an old form; a number behind it is the id.
                match other.parse() {
                    Ok(number) if instance.is_some() => id = Some(number),
                    _ => instance = Some(other),
                }
            }
        }
    }
    let router = instance.and_then(|name| {
        cx.instances
            .iter()
            .copied()
            .find(|node| node.arg(0) == Some(name))
    });
    let vrid = router.and_then(|router| router.last("virtual_router_id")?.arg(0)?.parse().ok());
    keys.set("id", id.or(vrid).unwrap_or(0));
    keys.extend(&rest);
    ipvs.set("sync", keys);
}
