//! The metrics of virtual routers.

use super::family::{Families, Labels};
use crate::director_loop::Director;

pub(super) fn write(director: &Director, families: &mut Families) {
    for vrrp in &director.config.vrrp {
        let of = Labels::new([("name", &vrrp.name)]);
        let labels = || of.clone();
        let with = |key, value: &str| of.with(key, value);
        let router = director.routers.get(&vrrp.name);
        let now = router.map_or("initialize".to_owned(), |r| r.report.state.to_string());
        for state in ["initialize", "backup", "master", "fault"] {
            families
                .gauge(
                    "vipd_vrrp_state",
                    "1 for the state the virtual router is in",
                )
                .push((with("state", state), u64::from(now == state)));
        }
        families
            .counter("vipd_vrrp_transitions", "Changes of state")
            .push((labels(), router.map_or(0, |r| r.transitions)));
        let report = router.map(|router| &router.report);
        for (name, help, holds) in [
            (
                "vipd_vrrp_rival",
                "Whether another master is heard while this one is master",
                report.is_some_and(|report| report.rival.is_some()),
            ),
            (
                "vipd_vrrp_suspect",
                "Whether it waits because somebody answers for the addresses of a silent master",
                report.is_some_and(|report| report.suspect.is_some()),
            ),
            (
                "vipd_vrrp_incompatible_peer",
                "Whether a peer is heard whose adverts cannot be accepted",
                report.is_some_and(|report| report.incompatible.is_some()),
            ),
        ] {
            families
                .gauge(name, help)
                .push((labels(), u64::from(holds)));
        }
        families
            .gauge("vipd_vrrp_priority", "The priority in its adverts")
            .push((
                labels(),
                report.map_or(0, |r| u64::from(r.effective_priority)),
            ));
        if let Some(counters) = director.counters.get(&vrrp.name) {
            families
                .counter("vipd_vrrp_adverts_sent", "Adverts sent")
                .push((labels(), counters.sent()));
            families
                .counter("vipd_vrrp_adverts_received", "Adverts accepted")
                .push((labels(), counters.received()));
            for (form, count) in counters.forms() {
                families
                    .counter(
                        "vipd_vrrp_adverts_checksum",
                        "Adverts of version 3 over IPv4 accepted, by the form of their checksum",
                    )
                    .push((with("form", form), count));
            }
            for (reason, count) in counters.discarded() {
                families
                    .counter(
                        "vipd_vrrp_adverts_discarded",
                        "Adverts discarded, by rule broken",
                    )
                    .push((with("reason", reason), count));
            }
        }
    }
}
