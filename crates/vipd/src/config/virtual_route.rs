//! `virtual_routes` and `virtual_rules`: what is routed how while a virtual router is master.

use std::net::IpAddr;

use ::vrrp::Family;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::section::Seen;
use super::value::Value;
use super::virtual_router::Facts;
use super::{VirtualRoute, VirtualRule, text};

/// `RT_TABLE_*` (linux/rtnetlink.h).
const TABLE_DEFAULT: u32 = 253;
const TABLE_MAIN: u32 = 254;
const TABLE_LOCAL: u32 = 255;

/// What stands in the file so far: the kernel has each route and each rule once.
#[derive(Debug)]
pub(super) struct Installed {
    routes: Seen<(IpNet, u32, Option<u32>)>,
    rules: Seen<Rule>,
}

type Rule = (
    (Family, u32, u32),
    (Option<IpNet>, Option<IpNet>, Option<u32>, Option<String>),
);

#[derive(Debug, Clone, Copy)]
enum To {
    Default,
    Net(IpNet),
}

impl Installed {
    pub(super) fn new() -> Installed {
        Installed {
            routes: Seen::new(),
            rules: Seen::new(),
        }
    }

    pub(super) fn routes(&mut self, v: &Value<'_>, facts: &Facts<'_>) -> Option<Vec<VirtualRoute>> {
        let list = v.list()?;
        let read: Vec<_> = list.iter().map(|item| self.route(item, facts)).collect();
        read.into_iter().collect()
    }

    pub(super) fn rules(&mut self, v: &Value<'_>, facts: &Facts<'_>) -> Option<Vec<VirtualRule>> {
        let list = v.list()?;
        let read: Vec<_> = list.iter().map(|item| self.rule(item, facts)).collect();
        read.into_iter().collect()
    }

    fn route(&mut self, item: &Value<'_>, facts: &Facts<'_>) -> Option<VirtualRoute> {
        let mut s = item.section()?;
        let to = s.need("to", "\"default\"", |v| {
            if v.text()? == "default" {
                return Some(To::Default);
            }
            v.parse(text::network).map(To::Net)
        });
        let written = match to {
            Some(To::Net(net)) => Some(Family::of(net.addr())),
            Some(To::Default) | None => None,
        };
        let via = s.maybe("via", |v| host(v, written));
        let family = written.or_else(|| via.flatten().map(Family::of));
        let source = s.maybe("source", |v| host(v, family));
        let family = family
            .or_else(|| source.flatten().map(Family::of))
            .or(facts.family);
        let has_interface = s.has("interface");
        let interface = s.maybe("interface", |v| v.parse(text::interface));
        let table = s.or("table", TABLE_MAIN, table);
        let metric = s.maybe("metric", |v| v.integer(0..=u32::MAX));
        let nowhere = !s.has("via") && !has_interface;
        s.finish();
        if nowhere {
            item.report(
                "leads nowhere",
                "add `via = \"192.168.1.1\"` or `interface = \"eth0\"`",
            );
            return None;
        }
        if let Some(Some(IpAddr::V6(via))) = via
            && via.is_unicast_link_local()
            && !has_interface
        {
            item.report(
                format!("{via} is link-local, and each link has its own"),
                "add `interface = \"eth0\"`",
            );
            return None;
        }
        let to = match (to?, family?) {
            (To::Net(net), _) => net,
            (To::Default, Family::V4) => IpNet::V4(Ipv4Net::default()),
            (To::Default, Family::V6) => IpNet::V6(Ipv6Net::default()),
        };
        let route = VirtualRoute {
            to,
            via: via?,
            interface: interface?,
            source: source?,
            table: table?,
            metric: metric?,
        };
        self.routes.note(
            (route.to, route.table, route.metric),
            item,
            "the same route stands there already",
            "remove one of the two, or give them different metrics",
        );
        Some(route)
    }

    fn rule(&mut self, item: &Value<'_>, facts: &Facts<'_>) -> Option<VirtualRule> {
        let mut s = item.section()?;
        let priority = s.need("priority", "100", |v| v.integer(1..=u32::MAX));
        let from = s.maybe("from", |v| v.parse(text::network));
        let family = from.flatten().map(family_of);
        let to = s.maybe("to", |v| {
            let to = v.parse(text::network)?;
            of_family(v, to.addr(), family)?;
            Some(to)
        });
        let family = family.or_else(|| to.flatten().map(family_of));
        let fwmark = s.maybe("fwmark", |v| v.integer(1..=u32::MAX));
        let interface = s.maybe("interface", |v| v.parse(text::interface));
        let table = s.need("table", "100", table);
        let selects = ["from", "to", "fwmark", "interface"]
            .iter()
            .any(|key| s.has(key));
        s.finish();
        if !selects {
            item.report(
                "selects every packet of this host",
                "add `from`, `to`, `fwmark` or `interface`",
            );
            return None;
        }
        let rule = VirtualRule {
            family: family.or(facts.family)?,
            priority: priority?,
            from: from?,
            to: to?,
            fwmark: fwmark?,
            interface: interface?,
            table: table?,
        };
        self.rules.note(
            (
                (rule.family, rule.priority, rule.table),
                (rule.from, rule.to, rule.fwmark, rule.interface.clone()),
            ),
            item,
            "the same rule stands there already",
            "remove one of the two",
        );
        Some(rule)
    }
}

fn family_of(net: IpNet) -> Family {
    Family::of(net.addr())
}

/// The address of a host, of the family of the rest.
fn host(v: &Value<'_>, family: Option<Family>) -> Option<IpAddr> {
    let address = v.parse(text::ip_address)?;
    of_family(v, address, family)?;
    Some(address)
}

fn of_family(v: &Value<'_>, address: IpAddr, family: Option<Family>) -> Option<()> {
    match family {
        Some(family) if Family::of(address) != family => {
            let family = text::family(family);
            v.report(
                format!("{address} is not {family} like the rest of it"),
                format!("write an {family} address"),
            );
            None
        }
        Some(_) | None => Some(()),
    }
}

/// A routing table, by number or by the name that `ip route` has for it.
fn table(v: &Value<'_>) -> Option<u32> {
    let table = if v.is_integer() {
        v.integer(1..=u32::MAX)?
    } else if v.text()? == "local" {
        TABLE_LOCAL
    } else {
        v.choice(&[("main", TABLE_MAIN), ("default", TABLE_DEFAULT)], &[])?
    };
    if table == TABLE_LOCAL {
        v.report(
            "the table \"local\" is the kernel's own",
            "write \"main\", or the number of another table",
        );
        return None;
    }
    Some(table)
}
