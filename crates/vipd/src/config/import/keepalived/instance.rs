//! `vrrp_instance`

use std::net::IpAddr;
use std::time::Duration;

use super::super::document::{Document, Item, Keys, Section};
use super::address::{self, Address};
use super::block::Node;
use super::context::{Context, parse};
use super::{lost, notify, route, track};

const SECOND: Duration = Duration::from_secs(1);

/// What an instance says, one key after the other.
struct Instance {
    interface: Option<String>,
    vrid: Option<u8>,
    version: Option<u8>,
    priority: Option<u8>,
    master: bool,
    advert_interval: Option<Duration>,
    nopreempt: bool,
    preempt_delay: Duration,
    accept: Option<bool>,
    strict: bool,
    down_adverts: u8,
    garp: super::global::Garp,
    message_checksum: bool,
    virtual_mac: Option<Item>,
    authentication: Option<Keys>,
    source: Option<IpAddr>,
    peers: Vec<(IpAddr, Option<u8>, Option<u8>)>,
    ttl: Option<u8>,
    addresses: Vec<Address>,
    excluded: Vec<Address>,
    routes: Vec<Item>,
    rules: Vec<Item>,
}

pub(super) fn write(node: &Node, cx: &mut Context<'_>, document: &mut Document) {
    let Some(name) = cx.text(node) else {
        return;
    };
    let mut instance = Instance::new(cx);
    for line in &node.children {
        if !instance.read(line, &name, cx) {
            lost::report(line, &lost::INSTANCE, "vrrp_instance", cx);
        }
    }
    let track = track::of_instance(node, cx);
    document.push(instance.section(&name, node, track, cx));
}

impl Instance {
    fn new(cx: &Context<'_>) -> Instance {
        Instance {
            interface: None,
            vrid: None,
            version: None,
            priority: None,
            master: false,
            advert_interval: None,
            nopreempt: false,
            preempt_delay: Duration::ZERO,
            accept: None,
            strict: cx.globals.strict,
            down_adverts: cx.globals.down_adverts,
            garp: cx.globals.garp,
            message_checksum: false,
            virtual_mac: None,
            authentication: None,
            source: None,
            peers: Vec::new(),
            ttl: None,
            addresses: Vec::new(),
            excluded: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Reads a statement; `false`: it is not known.
    fn read(&mut self, line: &Node, name: &str, cx: &mut Context<'_>) -> bool {
        match line.keyword() {
            "state" => self.master = line.arg(0) == Some("MASTER"),
            "interface" => self.interface = cx.text(line),
            "virtual_router_id" => self.vrid = cx.number(line, 1..=255),
            "version" => self.version = cx.number(line, 2..=3),
            "priority" => self.priority = cx.number(line, 1..=255),
            "advert_int" => self.advert_interval = cx.seconds(line),
            "nopreempt" => self.nopreempt = true,
            "preempt" => self.nopreempt = false,
            "preempt_delay" => self.preempt_delay = cx.seconds(line).unwrap_or_default(),
            "accept" => self.accept = Some(true),
            "no_accept" => self.accept = Some(false),
            "strict_mode" => {
                self.strict = cx.boolean(line);
                let message = "vipd has no strict mode";
                cx.idle(line, message, "what it means is written out");
            }
            "down_timer_adverts" => {
                self.down_adverts = cx.number(line, 1..=100).unwrap_or(self.down_adverts);
            }
            "v3_checksum_as_v2" => self.message_checksum = cx.boolean(line),
            "use_vmac" => self.virtual_mac(line, cx),
            "vmac_xmit_base" => {
                let message = "adverts leave with the virtual MAC, too";
                let help = "nothing is to be done: peers do not look at it";
                cx.idle(line, message, help);
            }
            "authentication" => self.authentication(line, cx),
            "unicast_src_ip" => self.source = address(line, cx),
            "unicast_peer" => {
                let peers = line.children.iter().filter_map(|line| peer(line, cx));
                self.peers.extend(peers);
            }
            "unicast_ttl" => self.ttl = cx.number(line, 1..=255),
            "virtual_ipaddress" => {
                let read = line.children.iter();
                self.addresses
                    .extend(read.filter_map(|line| address::read(line, true, cx)));
            }
            "virtual_ipaddress_excluded" => {
                let read = line.children.iter();
                self.excluded
                    .extend(read.filter_map(|line| address::read(line, false, cx)));
            }
            "virtual_routes" => {
                let read = line.children.iter();
                self.routes
                    .extend(read.filter_map(|line| route::route(line, cx)));
            }
            "virtual_rules" => {
                let read = line.children.iter();
                self.rules
                    .extend(read.filter_map(|line| route::rule(line, cx)));
            }
            // Together with the group's.
            "track_interface" | "track_script" | "track_file" | "track_process" => {}
            keyword => {
                return self.garp.read(keyword, line, cx) || notify::of_instance(line, name, cx);
            }
        }
        true
    }

    /// `[NAME] [MAC] [OPTION ...]`
    fn virtual_mac(&mut self, line: &Node, cx: &mut Context<'_>) {
        let mut item = Item::from(true);
        for word in line.args() {
            if word.text.contains(':') {
                let message = "the virtual MAC is that of the RFC";
                cx.lost(line, message, "remove it");
            } else if matches!(word.text.as_str(), "netlink_notify_msg" | "group") {
                let message = format!("vipd's macvlan has no `{}`", word.text);
                cx.lost(line, message, "remove it");
                break;
            } else {
                let mut keys = Keys::default();
                keys.set("interface", word.text.as_str());
                item = Item::Table(keys);
            }
        }
        self.virtual_mac = Some(item);
    }

    fn authentication(&mut self, block: &Node, cx: &mut Context<'_>) {
        let mut kind = "PASS".to_owned();
        let mut password = None;
        for line in &block.children {
            match line.keyword() {
                "auth_type" => kind = cx.text(line).unwrap_or(kind),
                "auth_pass" => {
                    password = cx.text(line);
                    if password.as_ref().is_some_and(|text| text.len() > 8) {
                        let message = "only the first eight characters count";
                        cx.idle(line, message, "the result has no more");
                    }
                }
                _ => lost::report(line, &[], "authentication", cx),
            }
        }
        if kind != "PASS" {
            let message = format!("vipd has no authentication of type {kind:?}");
            let help = "write type = \"hmac\" on both directors, once both run vipd";
            cx.lost(block, message, help);
            return;
        }
        let Some(password) = password else {
            cx.lost(block, "has no password", "add `auth_pass`");
            return;
        };
        let mut end = password.len().min(8);
        while !password.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let mut keys = Keys::default();
        keys.set("type", "pass");
        keys.set("key", password.get(..end).unwrap_or_default());
        self.authentication = Some(keys);
    }

    fn section(
        mut self,
        name: &str,
        node: &Node,
        track: Vec<Item>,
        cx: &mut Context<'_>,
    ) -> Section {
        let mut section = Section::new("[[vrrp]]");
        section.set("name", name);
        match self.interface.take() {
            Some(interface) => section.set("interface", interface),
            None => cx.lost(node, "has no interface", "add `interface`"),
        }
        match self.vrid {
            Some(vrid) => section.set("vrid", vrid),
            None => cx.lost(node, "has no virtual_router_id", "add one, 1 to 255"),
        }
        let v6 = self
            .addresses
            .first()
            .is_some_and(|first| first.ip.is_ipv6());
        let version = if v6 {
            3
        } else {
            self.version.unwrap_or(cx.globals.version)
        };
        section.set_unless("version", version, &2);
        let priority = self.priority.unwrap_or(if self.master { 255 } else { 100 });
        let owner = priority == 255;
        section.set_unless("priority", priority, &100);
        section.set_unless("advert_interval", self.interval(version, node, cx), &SECOND);
        section.set_unless("down_adverts", self.down_adverts, &3);
        self.preempt(&mut section, owner, node, cx);
        section.set_unless("start_delay", cx.globals.start_delay, &Duration::ZERO);
        if self.accept == Some(false) || (self.accept.is_none() && self.strict) {
            section.set_unless("accept", owner, &true);
        }
        if self.message_checksum && version == 3 && !v6 {
            section.set("checksum", "rfc9568");
        }
        if let Some(item) = self.virtual_mac.take() {
            section.set("virtual_mac", item);
        }
        self.write_authentication(&mut section, version, node, cx);
        self.unicast(&mut section, node, cx);
        self.garp(&mut section);
        self.addresses(&mut section, v6, node, cx);
        for (key, items) in [
            ("virtual_routes", self.routes),
            ("virtual_rules", self.rules),
            ("track", track),
        ] {
            if !items.is_empty() {
                section.set(key, Item::List(items));
            }
        }
        section
    }

    /// As keepalived rounds it.
    fn interval(&self, version: u8, node: &Node, cx: &mut Context<'_>) -> Duration {
        let Some(written) = self.advert_interval else {
            return SECOND;
        };
        let step: u128 = if version == 3 { 10_000 } else { 1_000_000 };
        let steps = written.as_micros().saturating_add(step / 2) / step;
        let most: u128 = if version == 3 { 4095 } else { 255 };
        let micros = steps.clamp(1, most).saturating_mul(step);
        let interval = Duration::from_micros(u64::try_from(micros).unwrap_or(1_000_000));
        if interval != written {
            let line = node.last("advert_int").unwrap_or(node);
            let message = format!("version {version} has no interval of {written:?}");
            let help = format!("keepalived rounds it, too: {interval:?}");
            cx.idle(line, message, help);
        }
        interval
    }

    fn preempt(&self, section: &mut Section, owner: bool, node: &Node, cx: &mut Context<'_>) {
        const IGNORED: &str = "keepalived ignores it beside state MASTER or priority 255";
        let ignored = owner || self.master;
        if self.nopreempt {
            if ignored {
                let line = node.last("nopreempt").unwrap_or(node);
                cx.idle(line, IGNORED, "write state BACKUP if it is meant");
            } else {
                section.set("preempt", false);
            }
        }
        if !self.preempt_delay.is_zero() {
            let line = node.last("preempt_delay").unwrap_or(node);
            if ignored || self.strict {
                cx.idle(line, IGNORED, "write state BACKUP if it is meant");
            } else if self.nopreempt {
                let message = "without preemption there is nothing to delay";
                cx.idle(line, message, "remove it");
            } else {
                section.set("preempt_delay", self.preempt_delay);
            }
        }
    }

    fn write_authentication(
        &mut self,
        section: &mut Section,
        version: u8,
        node: &Node,
        cx: &mut Context<'_>,
    ) {
        let Some(keys) = self.authentication.take() else {
            return;
        };
        if version == 3 || self.strict {
            let line = node.last("authentication").unwrap_or(node);
            let message = "keepalived ignores passwords in version 3 and in strict mode";
            cx.idle(line, message, "remove it");
        } else {
            section.set("authentication", keys);
        }
    }

    fn unicast(&self, section: &mut Section, node: &Node, cx: &mut Context<'_>) {
        if self.peers.is_empty() {
            for keyword in ["unicast_src_ip", "unicast_ttl"] {
                if let Some(line) = node.last(keyword) {
                    let message =
                        "without peers keepalived sends to the multicast group, from there";
                    cx.lost(line, message, "add `unicast_peer`, or remove the line");
                }
            }
            return;
        }
        let mut keys = Keys::default();
        match self.source {
            Some(source) => keys.set("source", source.to_string()),
            None => {
                let line = node.last("unicast_peer").unwrap_or(node);
                let message = "vipd must know which address of its own the peers hear";
                cx.lost(line, message, "add `unicast_src_ip`");
            }
        }
        let networks: Vec<(IpAddr, u8)> = self
            .addresses
            .iter()
            .map(|address| (address.ip, address.length))
            .collect();
        let mut far = Vec::new();
        let peers = self.peers.iter().map(|(ip, least, most)| {
            let near = self
                .source
                .is_none_or(|source| route::neighbours(source, *ip, &networks));
            if !near && least.is_none() {
                far.push(ip.to_string());
            }
            let least = least.unwrap_or(if near && most.is_none() { 255 } else { 1 });
            let most = most.unwrap_or(255);
            if (least, most) == (255, 255) {
                return Item::from(ip.to_string());
            }
            let mut keys = Keys::default();
            keys.set("address", ip.to_string());
            keys.set_unless("min_ttl", least.max(1), &255);
            keys.set_unless("max_ttl", most, &255);
            Item::Table(keys)
        });
        keys.set("peers", Item::List(peers.collect()));
        if !far.is_empty() {
            let line = node.last("unicast_peer").unwrap_or(node);
            let message = format!("{} may be behind routers", far.join(", "));
            let help =
                "min_ttl = 1 takes adverts from anywhere; write 256 less the routers between";
            cx.idle(line, message, help);
        }
        if let Some(ttl) = self.ttl {
            keys.set_unless("ttl", ttl, &255);
        }
        section.set("unicast", keys);
    }

    fn garp(&self, section: &mut Section) {
        let mut keys = Keys::default();
        keys.set_unless("repeat", self.garp.repeat, &5);
        keys.set_unless("delay", self.garp.delay, &Duration::from_secs(5));
        keys.set_unless("refresh", self.garp.refresh, &Duration::ZERO);
        if !keys.is_empty() {
            section.set("garp", keys);
        }
    }

    fn addresses(&mut self, section: &mut Section, v6: bool, node: &Node, cx: &mut Context<'_>) {
        if self.addresses.is_empty() {
            let message = "a virtual router advertises at least one address";
            cx.lost(node, message, "add `virtual_ipaddress`");
        }
        let mut items = Vec::new();
        let is_local =
            |address: &Address| matches!(address.ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if v6 && !self.addresses.first().is_some_and(is_local) {
            // The order means nothing to keepalived.
            if let Some(at) = self.addresses.iter().position(is_local) {
                let first = self.addresses.remove(at);
                self.addresses.insert(0, first);
            } else {
                let local = format!("fe80::{}/64", self.vrid.unwrap_or(1));
                let line = node.last("virtual_ipaddress").unwrap_or(node);
                let message = "the first address of an IPv6 router must be link-local (RFC 9568)";
                let help =
                    format!("the result has {local} before the others; add it on all directors");
                cx.lost(line, message, help);
                items.push(Item::from(local));
            }
        }
        let all = self.addresses.drain(..).chain(self.excluded.drain(..));
        items.extend(all.map(|address| address.item));
        section.set("virtual_addresses", Item::List(items));
    }
}

fn address(line: &Node, cx: &mut Context<'_>) -> Option<IpAddr> {
    let text = cx.text(line)?;
    let address = text.parse().ok();
    if address.is_none() {
        let message = format!("{text:?} is no address");
        cx.lost(line, message, "it is left out of the result");
    }
    address
}

/// `IP [min_ttl N] [max_ttl N]`
fn peer(line: &Node, cx: &mut Context<'_>) -> Option<(IpAddr, Option<u8>, Option<u8>)> {
    let Ok(ip) = line.keyword().parse() else {
        let message = format!("{:?} is no address", line.keyword());
        cx.lost(line, message, "it is left out of the result");
        return None;
    };
    let (mut least, mut most) = (None, None);
    let mut words = line.args().iter().map(|word| word.text.as_str());
    while let Some(word) = words.next() {
        let number = words.next().and_then(|text| parse(text, &(0..=255)));
        match (word, number) {
            ("min_ttl", Some(_)) => least = number,
            ("max_ttl", Some(_)) => most = number,
            _ => {
                let message = format!("{word:?} is not read here");
                cx.lost(line, message, "it is left out of the result");
            }
        }
    }
    Some((ip, least, most))
}
