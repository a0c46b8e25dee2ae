//! Two directors on one switch, without real servers.

use std::time::Duration;

use anyhow::Result;

use crate::cluster::VIP;
use crate::director::Director;
use crate::{Host, Lab, wait_until};

/// Longer than any election of these tests.
pub const ELECTION: Duration = Duration::from_secs(10);

/// The hosts of a pair; nothing runs on them yet.
#[derive(Debug)]
pub struct Pair {
    /// Everything goes with it.
    pub lab: Lab,
    /// 10.77.0.11
    pub lb1: Host,
    /// 10.77.0.12
    pub lb2: Host,
}

impl Pair {
    /// Makes the hosts.
    ///
    /// # Errors
    ///
    /// Not root.
    pub fn new() -> Result<Pair> {
        let lab = Lab::new()?;
        let (lb1, lb2) = (
            lab.host("lb1", "10.77.0.11/24")?,
            lab.host("lb2", "10.77.0.12/24")?,
        );
        Ok(Pair { lab, lb1, lb2 })
    }

    /// Starts a director of version 2 with each of these priorities.
    ///
    /// # Errors
    ///
    /// One does not answer.
    pub fn start(&self, first: u8, second: u8) -> Result<(Director, Director)> {
        self.start_with(&router(first), &router(second))
    }

    /// Starts a director with each of these configurations.
    ///
    /// # Errors
    ///
    /// One does not answer.
    pub fn start_with(&self, first: &str, second: &str) -> Result<(Director, Director)> {
        let lb1 = Director::start(&self.lb1, first)?;
        let lb2 = Director::start(&self.lb2, second)?;
        Ok((lb1, lb2))
    }

    /// Starts directors of priorities 150 and 100 with [`fast`] and these further lines, and waits
    /// until the first is master and the second knows it.
    ///
    /// # Errors
    ///
    /// They do not get that far.
    pub fn start_fast(&self, more: &str) -> Result<(Director, Director)> {
        let (lb1, lb2) = self.start_with(&fast(150, more), &fast(100, more))?;
        self.wait_for_holders(&["lb1"])?;
        lb2.wait_for_status("/vrrp/0/master/address", &"10.77.0.11".into())?;
        Ok((lb1, lb2))
    }

    /// Waits until exactly these have the virtual address, as `ip` tells.
    ///
    /// # Errors
    ///
    /// Others have it.
    pub fn wait_for_holders(&self, wanted: &[&str]) -> Result<()> {
        let mut holders = Vec::new();
        wait_until(ELECTION, &format!("the address on {wanted:?}"), || {
            holders = self.holders()?;
            Ok(holders == wanted)
        })
        .map(|_| ())
        .map_err(|error| error.context(format!("it is on {holders:?}")))
    }

    /// Who has the virtual address, as `ip` tells.
    ///
    /// # Errors
    ///
    /// `ip` failed.
    pub fn holders(&self) -> Result<Vec<&str>> {
        let mut holders = Vec::new();
        for host in [&self.lb1, &self.lb2] {
            if host.has_address(VIP)? {
                holders.push(host.name());
            }
        }
        Ok(holders)
    }
}

/// The virtual router `web` of version 2.
#[must_use]
pub fn router(priority: u8) -> String {
    format!(
        "[[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\npriority = {priority}\n\
         virtual_addresses = [\"{VIP}/24\"]\n"
    )
}

/// The virtual router `web` of version 3 with ten adverts a second, and further lines: keys of its
/// table, then other tables.
#[must_use]
pub fn fast(priority: u8, more: &str) -> String {
    let router = router(priority);
    format!("{router}version = 3\nadvert_interval = \"100ms\"\n{more}\n")
}
