//! `vipd realserver`: makes this host a real server of virtual servers by direct routing or through tunnels.
//!
//! Level-triggered as the daemon is: what the role of this host needs (`role.rs`, `thing.rs`) is compared with
//! how the host is (`kernel.rs`), and only the difference is changed. Everything that is changed is remembered
//! first (`record.rs`), and undone from there. It needs no daemon, and nothing of it stays in memory; `--watch`
//! (`watch.rs`) does the same again and again, without the addresses of services that fail here.

mod gue;
mod kernel;
mod outcome;
mod record;
mod role;
mod thing;
mod watch;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use ipvs::{Family, Tunnel};

use self::kernel::Kernel;
use self::outcome::Step;
use self::record::{Done, Record};
use self::role::{Role, Way};
use self::thing::{Difference, LOOPBACK, Thing};
use crate::config::{Config, Scope, VirtualAddress};
use crate::control::client;
use crate::instance;
use crate::net::links::Links;
use crate::status::Status;

/// How often the host is looked at and changed, at most, until nothing is left to do.
const LOOKS: u32 = 3;

pub use outcome::Outcome;
pub use watch::watch;

/// What this host is, and where that is remembered.
#[derive(Debug)]
pub struct Host {
    who: Who,
    control_socket: PathBuf,
    state_dir: PathBuf,
}

/// Where the role of this host is written.
#[derive(Debug)]
pub enum Who {
    /// In the directors' file.
    File {
        /// The file.
        config: Box<Config>,
        /// What it is called.
        name: String,
    },
    /// On the command line.
    Hand {
        /// The virtual addresses.
        virtual_addresses: Vec<IpAddr>,
        /// `None`: direct routing.
        tunnel: Option<Tunnel>,
        /// Where the tunnel ends; `None`: at this host's only address.
        local: Option<IpAddr>,
    },
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Makes the host as it should be.
    Set,
    /// Only tells where it differs.
    Check,
    /// Makes it as it was.
    Undo,
}

impl Host {
    /// That host; without a state directory that of the file, or the usual one.
    #[must_use]
    pub fn new(who: Who, state_dir: Option<PathBuf>) -> Host {
        let global = match &who {
            Who::File { config, .. } => config.global.clone(),
            Who::Hand { .. } => crate::config::Global::default(),
        };
        Host {
            who,
            control_socket: global.control_socket,
            state_dir: state_dir.unwrap_or(global.state_dir),
        }
    }

    /// Does it.
    ///
    /// # Errors
    ///
    /// Nothing was done, because this host has no such role, must not have it, or cannot be looked at.
    pub async fn act(&self, action: Action) -> Result<Outcome, String> {
        let kernel = Kernel::open()?;
        if action == Action::Undo {
            return self.undo(&kernel).await;
        }
        let role = self.role(&kernel).await?;
        let wanted = thing::wanted(&role);
        match action {
            Action::Check => {
                let record = Record::look(&self.state_dir)?;
                let found = self.differences(&kernel, &role, &wanted, &record).await?;
                Ok(Outcome::new(
                    action,
                    &role,
                    found.into_iter().map(Step::found).collect(),
                ))
            }
            // Undone above.
            Action::Set | Action::Undo => {
                let steps = self.set(&kernel, &role, &wanted).await?;
                Ok(Outcome::new(Action::Set, &role, steps))
            }
        }
    }

    async fn role(&self, kernel: &Kernel) -> Result<Role, String> {
        let links = kernel.links().await?;
        match &self.who {
            Who::File { config, name } => {
                let known = links.iter().flat_map(|link| link.addresses.iter());
                let addresses = known.map(|known| known.address.addr()).collect();
                Role::of(config, name, &addresses)
            }
            Who::Hand {
                virtual_addresses,
                tunnel,
                local,
            } => Role::by_hand(virtual_addresses, |family| match tunnel {
                None => Ok(Way::Direct),
                Some(tunnel) => {
                    let end = match local {
                        Some(local) => *local,
                        None => only_address(&links, family, virtual_addresses)?,
                    };
                    Ok(Way::Tunnel(end, *tunnel))
                }
            }),
        }
    }

    async fn differences(
        &self,
        kernel: &Kernel,
        role: &Role,
        wanted: &[Thing],
        record: &Record,
    ) -> Result<Vec<Difference>, String> {
        let facts = kernel.facts(wanted).await?;
        if let Some(why) = thing::objection(role, &facts) {
            return Err(why);
        }
        if let Some(why) = self.master_of(role).await {
            return Err(why);
        }
        Ok(thing::differences(wanted, &record.things(), &facts))
    }

    /// Changes what differs, to the first failure: what comes after it may rest on it.
    async fn set(
        &self,
        kernel: &Kernel,
        role: &Role,
        wanted: &[Thing],
    ) -> Result<Vec<Step>, String> {
        let mut record = Record::open(&self.state_dir)?;
        let mut steps = Vec::new();
        let mut failed = false;
        // What goes with a device that is made anew (its address, its settings) shows in the next look.
        for _ in 0..LOOKS {
            let found = self.differences(kernel, role, wanted, &record).await?;
            let again = |difference: &Difference| matches!(difference.thing, Thing::Device(_));
            let again = found.iter().any(again);
            for difference in found {
                if failed {
                    steps.push(Step::found(difference));
                    continue;
                }
                let earlier = record.of(&difference.thing).cloned();
                let done = match earlier.filter(|_| !thing::is_wanted(wanted, &difference.thing)) {
                    Some(earlier) => restore(kernel, &mut record, &earlier).await.map(|_| ()),
                    None => change(kernel, &mut record, &difference).await,
                };
                failed = done.is_err();
                steps.push(Step::done(difference, done));
            }
            if failed || !again {
                break;
            }
        }
        Ok(steps)
    }

    async fn undo(&self, kernel: &Kernel) -> Result<Outcome, String> {
        let mut record = Record::open(&self.state_dir)?;
        let mut steps = Vec::new();
        let mut stays = false;
        for done in record.done.clone().iter().rev() {
            // A host that still has the address stays silent about it.
            let result = if stays && matches!(done.thing, Thing::Setting { .. }) {
                Err("kept: an address is still there".to_owned())
            } else {
                restore(kernel, &mut record, done).await
            };
            stays |= result.is_err() && matches!(done.thing, Thing::Address { .. });
            steps.push(Step::undone(&done.thing, result));
        }
        Ok(Outcome::new(Action::Undo, &Role::default(), steps))
    }

    /// Whether a daemon in this network namespace is, or is about to be, master for one of the addresses.
    async fn master_of(&self, role: &Role) -> Option<String> {
        instance::running()?;
        let status: Status = client::status(&self.control_socket).await.ok()?;
        let masters = status.vrrp.iter().filter(|router| router.state == "master");
        for router in masters {
            let held = router.virtual_addresses.iter();
            let held = held.filter_map(|text| text.split('/').next()?.parse::<IpAddr>().ok());
            if let Some(ip) = held
                .into_iter()
                .find(|ip| role.virtual_addresses.contains_key(ip))
            {
                return Some(format!(
                    "this host is the director that holds {ip} (virtual router {} is master): a director is no \
                     real server of its own while it is master",
                    router.name
                ));
            }
        }
        None
    }
}

/// The address that a tunnel ends at if nobody says which.
fn only_address(
    links: &Links,
    family: Family,
    virtual_addresses: &[IpAddr],
) -> Result<IpAddr, String> {
    let links = links
        .iter()
        .filter(|link| link.name != LOOPBACK && link.mac.is_some());
    let known = links.flat_map(|link| link.addresses.iter());
    let own = known.filter(|known| known.scope == 0 && !known.ours && !known.deprecated);
    let own = own.map(|known| known.address.addr());
    let own: BTreeSet<IpAddr> = own
        .filter(|ip| Family::of(*ip) == family && !virtual_addresses.contains(ip))
        .collect();
    let mut each = own.iter();
    match (each.next(), each.next()) {
        (Some(only), None) => Ok(*only),
        (None, _) => Err(
            "this host has no address at which a tunnel could end: add --local ADDRESS".to_owned(),
        ),
        (Some(_), Some(_)) => {
            let shown: Vec<String> = own.iter().map(IpAddr::to_string).collect();
            Err(format!(
                "this host has several addresses ({}): say with --local at which one the tunnel ends",
                shown.join(", ")
            ))
        }
    }
}

/// Makes a thing so, and remembers what was there before.
async fn change(
    kernel: &Kernel,
    record: &mut Record,
    difference: &Difference,
) -> Result<(), String> {
    let thing = &difference.thing;
    let mut done = Done {
        thing: thing.clone(),
        before: None,
        set: None,
        label: None,
        scope: None,
    };
    match thing {
        Thing::Setting { interface, name } => {
            done.before = Some(kernel::setting(interface, name)?);
            done.set = Some(difference.should.clone());
        }
        Thing::NoAddress { interface, address } => {
            let links = kernel.links().await?;
            let known = links
                .named(interface)
                .and_then(|link| link.addresses.get(*address));
            let label = known.and_then(|known| known.label.clone());
            done.label = label.map(|label| label.to_string());
            done.scope = known.map(|known| known.scope);
        }
        Thing::Loopback
        | Thing::GuePort { .. }
        | Thing::Device(_)
        | Thing::Address { .. }
        | Thing::Local { .. } => {}
    }
    let new = record.of(thing).is_none();
    record.remember(done)?;
    let made = kernel.make(thing, &difference.should).await;
    if made.is_err() && new {
        record.forget(thing)?;
    }
    made
}

/// Makes a thing as it was; says what became of it.
async fn restore(kernel: &Kernel, record: &mut Record, done: &Done) -> Result<String, String> {
    let said = match (&done.thing, &done.before, &done.set) {
        (Thing::Setting { interface, name }, Some(before), Some(set)) => {
            match kernel::setting(interface, name) {
                Ok(found) if found == *set => {
                    kernel::set(interface, name, before)?;
                    format!("{before} again")
                }
                Ok(found) => format!("left at {found}, which somebody else has set"),
                // It went with its interface.
                Err(_) => "gone".to_owned(),
            }
        }
        (Thing::NoAddress { interface, address }, _, _) => {
            let scope = match done.scope {
                Some(254) => Scope::Host,
                Some(253) => Scope::Link,
                Some(_) | None => Scope::Global,
            };
            let address = VirtualAddress {
                address: *address,
                interface: interface.clone(),
                advertise: false,
                label: done.label.clone(),
                scope,
                prefix_route: true,
            };
            kernel.add_address(&address).await?;
            "there again".to_owned()
        }
        (thing, _, _) => {
            kernel.unmake(thing).await?;
            match thing {
                Thing::Loopback => "down again".to_owned(),
                Thing::GuePort { .. } => "closed".to_owned(),
                Thing::Setting { .. }
                | Thing::Device(_)
                | Thing::NoAddress { .. }
                | Thing::Address { .. }
                | Thing::Local { .. } => "removed".to_owned(),
            }
        }
    };
    record.forget(&done.thing)?;
    Ok(said)
}
