//! What is valid and still hardly meant: `vipd check` shows it with its place, and the log says it.
//!
//! Each lint has a name that stays (docs/config.md lists them). A lint never makes a file invalid.

mod host;
mod server;

use std::collections::BTreeSet;
use std::fmt::Display;

use ::vrrp::{Authentication, PRIORITY_OWNER};
use ipvs::{Family, Forwarding};

pub(super) use self::host::on_host;
use super::locate::Step::{self, Item, Key};
use super::{Config, Tracked, VirtualAddress, VirtualServer, Vrrp, When};

/// The names of all lints, in alphabetical order.
pub const NAMES: [&str; 19] = [
    "address-not-held",
    "auth-permissive",
    "check-overlap",
    "mark-takes-clients",
    "no-fallback",
    "no-real-server",
    "one-packet-nat",
    "one-packet-persistence",
    "owner-delay",
    "panic-or-sorry",
    "quorum-regain",
    "quorum-unreachable",
    "script-directory",
    "script-owner",
    "secret-readable",
    "slow-start-steps",
    "sorry-never",
    "track-unchecked",
    "vip-outside-subnets",
];

/// One thing to think about again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// The name of the lint.
    pub name: &'static str,
    /// Where it may stand; the first place that is written counts.
    pub places: Vec<Vec<Step>>,
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Lint {
    fn new(
        name: &'static str,
        place: Vec<Step>,
        message: impl Display,
        help: impl Display,
    ) -> Lint {
        Lint {
            name,
            places: vec![place],
            message: message.to_string(),
            help: help.to_string(),
        }
    }
}

impl Config {
    /// Families whose packets this host must forward: those that it translates.
    #[must_use]
    pub fn translated_families(&self) -> BTreeSet<Family> {
        let servers = self.virtual_servers.iter().flat_map(VirtualServer::servers);
        servers
            .filter(|(_, forwarding, _)| *forwarding == Forwarding::Nat)
            .map(|(key, _, _)| Family::of(key.0.ip()))
            .collect()
    }

    /// What to think about again, a line each: `virtual_server "http": why [lint]`.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let line = |lint: &Lint| {
            let place = lint.places.first().map_or(&[][..], Vec::as_slice);
            let about = match place {
                [Key("vrrp"), Item(at), ..] => {
                    self.vrrp.get(*at).map(|it| format!("vrrp {:?}", it.name))
                }
                [Key("virtual_server"), Item(at), ..] => self
                    .virtual_servers
                    .get(*at)
                    .map(|it| format!("virtual_server {:?}", it.name)),
                [Key(key), ..] => Some((*key).to_owned()),
                [] | [Item(_), ..] => None,
            };
            format!(
                "{}: {} [{}]",
                about.unwrap_or_default(),
                lint.message,
                lint.name
            )
        };
        let mut lines: Vec<String> = self.lints().iter().map(line).collect();
        lines.dedup();
        lines
    }

    /// What to think about again, whichever host it is for.
    #[must_use]
    pub fn lints(&self) -> Vec<Lint> {
        let mut found = Vec::new();
        for index in 0..self.vrrp.len() {
            self.routers_lints(index, &mut found);
        }
        let held = |vrrp: &Vrrp| vrrp.addresses.iter().map(VirtualAddress::ip).collect();
        let held = self
            .vrrp
            .iter()
            .map(|vrrp| (vrrp.name.as_str(), held(vrrp)));
        let held: server::Held<'_> = held.collect();
        for (index, server) in self.virtual_servers.iter().enumerate() {
            server::lints(self, &held, index, server, &mut found);
        }
        found
    }

    fn routers_lints(&self, index: usize, found: &mut Vec<Lint>) {
        let Some(vrrp) = self.vrrp.get(index) else {
            return;
        };
        let at = |key| vec![Key("vrrp"), Item(index), Key(key)];
        let parameters = &vrrp.parameters;
        if parameters.priority == PRIORITY_OWNER && !parameters.preempt_delay.is_zero() {
            found.push(Lint::new(
                "owner-delay",
                at("preempt_delay"),
                "the address owner (priority 255) is master at once, whoever else is",
                "remove it, or write a priority from 1 to 254",
            ));
        }
        if let Authentication::Hmac(hmac) = &parameters.authentication
            && hmac.permissive
        {
            let mut place = at("authentication");
            place.push(Key("mode"));
            found.push(Lint::new(
                "auth-permissive",
                place,
                "adverts that nobody signed are accepted, too",
                "write mode = \"enforce\" as soon as all directors have their keys",
            ));
        }
        for (number, track) in vrrp.track.iter().enumerate() {
            let Tracked::VirtualServer(name) = &track.what else {
                continue;
            };
            // Virtual routers that a lost quorum would keep in fault for ever.
            let unchecked = When::Master {
                backup_interval: None,
            };
            if self
                .virtual_server(name)
                .is_some_and(|server| server.when == unchecked)
            {
                let mut place = at("track");
                place.push(Item(number));
                found.push(Lint::new(
                    "track-unchecked",
                    place,
                    format!(
                        "tracks virtual_server {name:?}, which is not checked while this director \
                         is backup: a lost quorum is never found again"
                    ),
                    "give the virtual server a backup_interval",
                ));
            }
        }
    }
}
