//! `--watch`: a virtual address is here only while a service behind it is well here.
//!
//! The checks are those that the directors make, aimed at this host itself. An address goes when every virtual
//! server on it fails, because one that is well still needs it: the directors see the others fail by
//! themselves. Before the first verdict an address stays as it is. Settings and devices stay in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use health::{CheckSpec, Health, Plan, Report, Runner};
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::kernel::Kernel;
use super::outcome::{Outcome, Step};
use super::record::Record;
use super::role::{Role, Service};
use super::thing::{self, LOOPBACK, Thing};
use super::{Action, Host};
use crate::config::Require;

/// How often the host is looked at without any news.
const LOOK: Duration = Duration::from_secs(2);

/// Sets this host up, keeps it so, and takes addresses away whose services fail, until SIGTERM or SIGINT; then
/// it makes everything as it was. What happens is said.
///
/// # Errors
///
/// At the beginning, as [`Host::act`]; or a signal cannot be waited for.
pub async fn watch(host: &Host, say: impl Fn(&str, Option<&Outcome>)) -> Result<(), String> {
    let kernel = Kernel::open()?;
    let role = host.role(&kernel).await?;
    let (sender, mut reports) = mpsc::unbounded_channel();
    let mut runner =
        Runner::new(sender).map_err(|error| format!("the thread of the checks: {error}"))?;
    let checks = role
        .services
        .iter()
        .flat_map(|service| service.checks.iter().cloned());
    runner.set(
        checks
            .map(|check| (check, Plan::from(Health::Unknown)))
            .collect(),
    );
    let stop = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
    let (mut terminate, mut interrupt) = (
        stop(SignalKind::terminate())?,
        stop(SignalKind::interrupt())?,
    );
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut verdicts, mut known, mut complaint) = (Verdicts::default(), BTreeMap::new(), None);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = look.tick() => {}
            report = reports.recv() => {
                let Some(report) = report else {
                    return Err("the thread of the checks has ended".to_owned());
                };
                verdicts.take(&report);
                if report.transition.is_none() {
                    continue;
                }
            }
        }
        for (ip, health) in verdicts.of(&role) {
            if known.insert(ip, health) != Some(health) {
                say(&verdicts.words(&role, ip, health), None);
            }
        }
        match host.pass(&kernel, &role, &known).await {
            Ok(steps) => {
                let lines: Vec<String> = steps.iter().map(Step::line).collect();
                let failed = steps.iter().any(Step::failed);
                // What cannot be done is tried again with every look, and said once.
                let said = failed && complaint.as_ref() == Some(&lines);
                if !steps.is_empty() && !said {
                    let outcome = Outcome::new(Action::Set, &role, steps);
                    say(&lines.join("\n"), Some(&outcome));
                }
                complaint = failed.then_some(lines);
            }
            Err(why) => {
                let lines = vec![why];
                if complaint.as_ref() != Some(&lines) {
                    say(&lines.join("\n"), None);
                }
                complaint = Some(lines);
            }
        }
    }
    let outcome = host.act(Action::Undo).await?;
    say(&outcome.lines().join("\n"), Some(&outcome));
    Ok(())
}

impl Host {
    /// Makes the host as it should be with what is believed of its services.
    async fn pass(
        &self,
        kernel: &Kernel,
        role: &Role,
        known: &BTreeMap<IpAddr, Health>,
    ) -> Result<Vec<Step>, String> {
        let earlier = Record::look(&self.state_dir)?.things();
        let wanted = with(&thing::wanted(role), known, &earlier);
        self.set(kernel, role, &wanted).await
    }
}

/// What is wanted while some services fail.
fn with(things: &[Thing], known: &BTreeMap<IpAddr, Health>, earlier: &[Thing]) -> Vec<Thing> {
    let keeps = |thing: &Thing| match thing.virtual_address().and_then(|ip| known.get(&ip)) {
        Some(Health::Down) => false,
        Some(Health::Unknown) => earlier.contains(thing),
        Some(Health::Up) | None => true,
    };
    let mut wanted: Vec<Thing> = things
        .iter()
        .filter(|thing| keeps(thing))
        .cloned()
        .collect();
    let down = known.iter().filter(|(_, health)| **health == Health::Down);
    let gone: BTreeSet<Thing> = down
        .map(|(ip, _)| Thing::NoAddress {
            interface: LOOPBACK.to_owned(),
            address: IpNet::from(*ip),
        })
        .collect();
    wanted.extend(gone);
    wanted
}

/// What the checks say.
#[derive(Default)]
struct Verdicts {
    health: BTreeMap<Arc<CheckSpec>, Health>,
    /// The newest failure of each, in words.
    failures: BTreeMap<Arc<CheckSpec>, String>,
}

impl Verdicts {
    fn take(&mut self, report: &Report) {
        self.health.insert(Arc::clone(&report.spec), report.health);
        match &report.outcome {
            Ok(_) => self.failures.remove(&report.spec),
            Err(_) => self
                .failures
                .insert(Arc::clone(&report.spec), report.to_string()),
        };
    }

    /// What is believed of each virtual address.
    fn of(&self, role: &Role) -> BTreeMap<IpAddr, Health> {
        let ips = role.virtual_addresses.keys();
        ips.map(|ip| {
            let services = role
                .services
                .iter()
                .filter(|it| it.virtual_addresses.contains(ip));
            let found = services.map(|service| self.of_service(service));
            (*ip, decided(found, Health::Up).unwrap_or(Health::Up))
        })
        .collect()
    }

    fn of_service(&self, service: &Service) -> Health {
        let found = service.checks.iter();
        let found = found.map(|check| self.health.get(check).copied().unwrap_or(Health::Unknown));
        let decides = match service.require {
            Require::All => Health::Down,
            Require::Any => Health::Up,
        };
        decided(found, decides).unwrap_or(Health::Up)
    }

    fn words(&self, role: &Role, ip: IpAddr, health: Health) -> String {
        match health {
            Health::Unknown => format!("{ip}: stays as it is until its services have been checked"),
            Health::Up => format!("{ip}: is well"),
            Health::Down => {
                let services = role
                    .services
                    .iter()
                    .filter(|it| it.virtual_addresses.contains(&ip));
                let said = services.map(|service| {
                    let failures = service
                        .checks
                        .iter()
                        .filter_map(|check| self.failures.get(check));
                    let failures: Vec<&str> = failures.map(String::as_str).collect();
                    format!("{}: {}", service.name, failures.join(", "))
                });
                let said: Vec<String> = said.collect();
                format!(
                    "{ip}: withdrawn, because no service behind it is well here ({})",
                    said.join("; ")
                )
            }
        }
    }
}

/// One that decides alone, or what all of them have in common; `None`: there are none.
fn decided(found: impl Iterator<Item = Health>, decides: Health) -> Option<Health> {
    found.reduce(|one, next| match (one, next) {
        (one, next) if one == decides || next == decides => decides,
        (Health::Unknown, _) | (_, Health::Unknown) => Health::Unknown,
        (one @ (Health::Up | Health::Down), Health::Up | Health::Down) => one,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::config::Config;

    fn role() -> Role {
        let text = r#"
[[virtual_server]]
name = "http"
address = "192.0.2.10:80"
check = { type = "tcp" }
[[virtual_server.real_server]]
address = "10.0.0.21"
[[virtual_server]]
name = "https"
address = "192.0.2.10:443"
check = { type = "tcp" }
[[virtual_server.real_server]]
address = "10.0.0.21"
[[virtual_server]]
name = "unchecked"
address = "192.0.2.11:80"
check = { type = "none" }
[[virtual_server.real_server]]
address = "10.0.0.21"
"#;
        let config = Config::parse(text, "vipd.toml").unwrap();
        Role::of(&config, "vipd.toml", &["10.0.0.21".parse().unwrap()].into()).unwrap()
    }

    fn believed(verdicts: &[(u16, Health)]) -> Health {
        let role = role();
        let mut known = Verdicts::default();
        for check in role.services.iter().flat_map(|service| &service.checks) {
            if let Some((_, health)) = verdicts
                .iter()
                .find(|(port, _)| *port == check.target.port())
            {
                known.health.insert(Arc::new(check.clone()), *health);
            }
        }
        *known.of(&role).get(&"192.0.2.10".parse().unwrap()).unwrap()
    }

    #[test]
    fn an_address_goes_only_when_every_service_behind_it_fails() {
        assert_eq!(believed(&[]), Health::Unknown);
        assert_eq!(believed(&[(80, Health::Down)]), Health::Unknown);
        assert_eq!(
            believed(&[(80, Health::Down), (443, Health::Up)]),
            Health::Up
        );
        assert_eq!(
            believed(&[(80, Health::Down), (443, Health::Down)]),
            Health::Down
        );
    }

    #[test]
    fn settings_stay_whatever_the_services_do_and_an_address_of_unknown_health_stays_as_it_is() {
        let things = thing::wanted(&role());
        let shown = |health, earlier: &[Thing]| -> Vec<String> {
            let known = [("192.0.2.10".parse().unwrap(), health)].into();
            let wanted = with(&things, &known, earlier);
            wanted
                .iter()
                .map(Thing::to_string)
                .filter(|it| it.contains("192.0.2.10"))
                .collect()
        };
        let here = ["192.0.2.10/32 on lo", "local route of 192.0.2.10"];
        assert_eq!(shown(Health::Up, &[]), here);
        assert_eq!(shown(Health::Unknown, &things), here);
        assert!(shown(Health::Unknown, &[]).is_empty());
        let down = with(
            &things,
            &[("192.0.2.10".parse().unwrap(), Health::Down)].into(),
            &things,
        );
        let gone = down
            .iter()
            .filter(|it| matches!(it, Thing::NoAddress { .. }))
            .count();
        assert_eq!(gone, 1);
        assert!(
            down.iter()
                .any(|it| it.to_string() == "net.ipv4.conf.all.arp_ignore")
        );
        assert!(
            down.iter()
                .any(|it| it.to_string() == "192.0.2.11/32 on lo")
        );
    }
}
