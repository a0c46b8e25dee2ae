//! The keys beside `checks`: how many of them must pass, and when they run.

use std::time::Duration;

use super::check::INTERVAL;
use super::section::Section;
use super::{Require, When};

impl Require {
    /// `Some(None)` where it is not written.
    pub(super) fn read(s: &mut Section<'_>) -> Option<Option<Require>> {
        s.maybe("require", |v| {
            v.choice(&[("all", Require::All), ("any", Require::Any)], &[])
        })
    }
}

impl When {
    pub(super) fn read(s: &mut Section<'_>) -> Option<When> {
        let has_router = s.has("vrrp");
        let master = s.or("when", false, |v| {
            let master = v.choice(&[("always", false), ("master", true)], &[])?;
            if master && !has_router {
                v.report(
                    "\"master\" needs to know of which virtual router",
                    "add `vrrp = \"...\"`",
                );
                return None;
            }
            Some(master)
        });
        if master == Some(false) {
            s.pointless(
                &["backup_interval"],
                "its checks run at their own pace on a backup, too",
                "remove it, or write when = \"master\"",
            );
            return Some(When::Always);
        }
        let backup_interval: Option<Option<Duration>> =
            s.maybe("backup_interval", |v| v.duration(INTERVAL));
        master?;
        Some(When::Master {
            backup_interval: backup_interval?,
        })
    }
}
