//! SIGHUP: the file is read again, and is in force wholly or not at all.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use health::Health;
use ipvs::{ServiceKey, Table};

use super::{Director, Reload, Wake, serves};
use crate::config::{Config, RealServer, VirtualServer};
use crate::desired;
use crate::events::Kind;

/// A configuration that a reload has read, and what the kernel holds of services that are new in it.
#[derive(Debug)]
pub struct Loaded {
    config: Config,
    kernel: Table,
}

impl Director {
    /// Reads the file again, beside the loop: a slow disk or a slow kernel must not hold up a change
    /// of role.
    pub(super) fn begin_reload(&mut self) {
        let _ = sd_notify::NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[sd_notify::NotifyState::Reloading, now]));
        let (path, known) = (self.config_path.clone(), self.managed.clone());
        let wake = self.wake.clone();
        tokio::task::spawn_blocking(move || {
            let loaded = load(&path, &known);
            let _ = wake.send(Wake::Loaded(Box::new(loaded)));
        });
    }

    /// Puts what was read in force. What does not validate changes nothing.
    pub(super) async fn finish_reload(&mut self, loaded: Result<Loaded, String>) {
        let result = match loaded {
            // The listeners are the last thing that can fail, and the first that changes.
            Ok(loaded) => self
                .listeners
                .rebind(&loaded.config.global)
                .await
                .map(|()| loaded),
            Err(why) => Err(why),
        };
        let file = self.config_path.display().to_string();
        let error = match result {
            Ok(loaded) => {
                self.replace(loaded);
                self.events
                    .record(Kind::ConfigReloaded, file, "configuration reloaded");
                None
            }
            Err(why) => {
                let message = format!("reload refused, nothing changed:\n{why}");
                self.events.record(Kind::ConfigRefused, file, message);
                Some(why)
            }
        };
        self.last_reload = Some(Reload {
            at: SystemTime::now(),
            error,
        });
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    pub(super) fn replace(&mut self, loaded: Loaded) {
        let old = std::mem::replace(&mut self.config, loaded.config);
        let health = self.health.clone();
        let before = |server: &VirtualServer, real: &RealServer| {
            let known = old
                .virtual_servers
                .iter()
                .find(|s| s.keys.iter().any(|key| server.keys.contains(key)));
            let known = known.and_then(|s| s.real_servers.iter().find(|r| r.key == real.key));
            match known {
                Some(real) => Some(desired::state(real, &health)),
                None => serves(&loaded.kernel, server, real).then_some(Health::Up),
            }
        };
        self.loaded = SystemTime::now();
        self.keep_overrides();
        self.enforce(&before);
    }
}

/// Reads a file for a reload, and what the kernel holds of services that are new in it: they are
/// adopted as at the start.
fn load(path: &Path, known: &BTreeSet<ServiceKey>) -> Result<Loaded, String> {
    let config = Config::load(path).map_err(|error| error.to_string())?;
    let new = config
        .virtual_servers
        .iter()
        .flat_map(|server| &server.keys)
        .any(|key| !known.contains(key));
    let kernel = if new {
        let dump = ipvs::Client::open()
            .map_err(|error| error.to_string())?
            .dump();
        dump.map_err(|error| format!("reading the IPVS table: {error}"))?
            .table
    } else {
        Table::new()
    };
    Ok(Loaded { config, kernel })
}
