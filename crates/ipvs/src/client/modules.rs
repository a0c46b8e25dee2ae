//! Modules of the kernel's IPVS, loaded before the kernel has to load them itself.
//!
//! The kernel loads the scheduler of a new service while it holds the lock of all of IPVS
//! (`ip_vs_add_service`, `__ip_vs_mutex`). `ip_vs_lblc` and `ip_vs_lblcr` register themselves for every
//! network namespace, and wait for one that is just being removed; its removal waits for that same
//! lock (`ip_vs_service_nets_cleanup`). From then on nobody on this host can use IPVS or remove a
//! namespace until the process that asked is killed (seen with Linux 6.1). What is loaded before it is
//! asked for cannot hang so.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::diff::Change;

/// Loads the module of IPVS itself; whether that went well.
pub(super) fn load_ipvs() -> bool {
    load("ip_vs")
}

/// Loads what the kernel would load for these changes. Best effort: where modprobe is missing or
/// not allowed, the kernel is left to it.
pub(super) fn load_for(changes: &[Change]) {
    for module in modules_of(changes) {
        if !Path::new("/sys/module").join(&module).exists() {
            load(&module);
        }
    }
}

/// The modules that these changes need, by the rules the kernel makes their names with. A name that
/// is none of a module's is left to the kernel to refuse.
fn modules_of(changes: &[Change]) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    let mut add = |prefix: &str, name: &str| {
        if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            modules.insert(format!("{prefix}_{name}"));
        }
    };
    for change in changes {
        let (Change::AddService(_, service) | Change::SetService(_, service)) = change else {
            continue;
        };
        add("ip_vs", service.scheduler.as_str());
        let persistence = service.persistence.as_ref();
        if let Some(engine) = persistence.and_then(|p| p.engine.as_ref()) {
            add("ip_vs_pe", engine);
        }
    }
    modules
}

fn load(module: &str) -> bool {
    Command::new("modprobe")
        .args(["-q", "--", module])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use super::*;
    use crate::table::{Persistence, Protocol, Service, ServiceFlags, ServiceKey};

    #[test]
    fn modules_have_the_names_the_kernel_asks_for() {
        let key = ServiceKey::Address {
            protocol: Protocol::Udp,
            address: "192.0.2.1:5060".parse().unwrap(),
        };
        let service = |scheduler: &str, engine: Option<&str>| Service {
            scheduler: scheduler.into(),
            flags: ServiceFlags::default(),
            persistence: engine.map(|engine| Persistence {
                timeout: Duration::from_secs(60),
                prefix_length: 32,
                engine: Some(engine.to_owned()),
            }),
        };
        let changes = [
            Change::AddService(key, service("lblcr", None)),
            Change::SetService(key, service("rr", Some("sip"))),
            Change::AddService(key, service("../rr", None)),
            Change::RemoveService(key),
        ];
        let modules = ["ip_vs_lblcr", "ip_vs_pe_sip", "ip_vs_rr"].map(str::to_owned);
        assert_eq!(modules_of(&changes), modules.into());
    }
}
