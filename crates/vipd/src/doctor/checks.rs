//! What the checks say of this host, and what they only warn of.

use super::catalogue as c;
use super::facts::Facts;
use super::{Finding, Remedy};
use crate::config::Config;

pub(super) fn findings(_config: &Config, facts: &Facts) -> Vec<Finding> {
    let Some(status) = &facts.status else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if let Some(all) = &status.checks.all_failing {
        let evidence = vec![format!(
            "the checks of all {} targets fail since {}",
            all.targets, all.since
        )];
        let words = "see from here whether the real servers can be reached at all (`ping`, `ip route get`), \
                     and what this director lost: a cable, a route, a rule of its firewall; meanwhile the \
                     peer may serve";
        let remedy = Remedy::words(words).command("vipctl maintenance on");
        found.push(Finding::new(
            c::ALL_CHECKS_FAIL,
            &status.name,
            evidence,
            remedy,
        ));
    }
    for server in &status.virtual_servers {
        for real in &server.real_servers {
            for check in &real.checks {
                if let Some(warning) = &check.warning {
                    let object = format!("{}/{}", server.name, real.address);
                    let evidence = vec![format!("the {} check says: {warning}", check.kind)];
                    let words = "mend it on the real server; of a certificate: renew it there, and have the \
                                 service read it";
                    let remedy = Remedy::words(words).on(&real.address);
                    found.push(Finding::new(c::CHECK_WARNS, object, evidence, remedy));
                }
            }
        }
    }
    found
}
