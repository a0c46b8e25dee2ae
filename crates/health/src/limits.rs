//! How many probes may be on their way at once, so that checks never take the last file descriptor
//! or port of this machine: whoever waits for its turn is late, not failed.

use rustix::process::{Resource, getrlimit};

use crate::check::DESCRIPTORS_MAX;

/// File descriptors that are not for probes: the control API, netlink, adverts.
const RESERVE: u64 = 512;
/// More are never needed at once, and a host has 28,232 ports for connections to one target where
/// nobody has configured it.
const MOST: u64 = 20_000;

/// File descriptors that all probes together may have at once, by this process' soft limit.
pub(crate) fn descriptors() -> u32 {
    allowed(getrlimit(Resource::Nofile).current)
}

/// `None` is no limit.
fn allowed(limit: Option<u64>) -> u32 {
    let limit = limit.unwrap_or(u64::MAX);
    let reserve = RESERVE.min(limit / 2);
    let left = u32::try_from((limit - reserve).min(MOST)).unwrap_or(u32::MAX);
    // Each kind of probe must find room.
    left.max(DESCRIPTORS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_process_keeps_its_descriptors() {
        assert_eq!(allowed(Some(1024)), 512);
        assert_eq!(allowed(Some(4096)), 3584);
        assert_eq!(allowed(Some(65_536)), 20_000);
        assert_eq!(allowed(None), 20_000);
        assert_eq!(allowed(Some(40)), 20);
        assert_eq!(allowed(Some(3)), DESCRIPTORS_MAX);
    }
}
