//! What each `[[notify]]` has done.

use std::collections::BTreeMap;

use super::{Families, Labels};
use crate::notify::Counts;

pub(super) fn write(all: &BTreeMap<String, Counts>, families: &mut Families) {
    for (name, counts) in all {
        let labels = Labels::new([("notify", name)]);
        families
            .counter("vipd_notify_deliveries", "Tries to tell, by their result")
            .extend([
                (labels.with("result", "ok"), counts.told),
                (labels.with("result", "failed"), counts.failed),
            ]);
        families
            .counter(
                "vipd_notify_coalesced",
                "Events not told because something newer made them old",
            )
            .push((labels.clone(), counts.coalesced));
        families
            .counter(
                "vipd_notify_dropped",
                "Events not told because too many waited, or for too long",
            )
            .push((labels.clone(), counts.dropped));
        families
            .gauge("vipd_notify_waiting", "Events that are still to be told")
            .push((labels, counts.waiting));
    }
}
