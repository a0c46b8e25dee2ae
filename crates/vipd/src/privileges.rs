//! What of its rights the daemon hands on to the programs it starts: nothing, unless it lends them.
//!
//! systemd gives the user `vipd` its capabilities by way of the ambient set (capabilities(7)), which every
//! program inherits over execve(2), whichever user it becomes before: setuid(2) takes capabilities
//! away from root only. A script would run with the rights to change the network. So the daemon empties
//! that set before its first thread starts, and fills it for a moment where a program is started that
//! needs them. As root there is nothing to do: root's programs have all rights anyway.

use std::io;

use health::program::User;
use rustix::process::getuid;
use rustix::thread::{
    CapabilitySet, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
};

/// What those need that change the network for the daemon.
const LENT: [CapabilitySet; 2] = [CapabilitySet::NET_ADMIN, CapabilitySet::NET_RAW];

/// Whether this process may do what a director does.
///
/// # Errors
///
/// Says which capability is missing.
pub fn sufficient() -> Result<(), String> {
    has(&[
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    ])
}

/// Whether this process may change addresses, tunnels and settings of the network.
///
/// # Errors
///
/// Says which capability is missing.
pub fn sufficient_for_network() -> Result<(), String> {
    has(&[(CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN")])
}

fn has(needed: &[(CapabilitySet, &str)]) -> Result<(), String> {
    let effective = effective().map_err(|error| error.to_string())?;
    for (capability, name) in needed.iter().copied() {
        if !effective.contains(capability) {
            return Err(format!(
                "not permitted: vipd needs {name}; run it as root or give it the capability \
                 (the systemd unit does)"
            ));
        }
    }
    Ok(())
}

/// Keeps programs that are started from here on from inheriting capabilities. To be called before
/// there are other threads: each has a set of its own, a copy of that of the thread that starts it.
///
/// # Errors
///
/// The kernel refused.
pub fn keep() -> io::Result<()> {
    Ok(clear_ambient_capability_set()?)
}

/// Does what is asked, which is to start a program, and has it inherit the capabilities for the network.
/// It must not wait: another program that this thread starts meanwhile would inherit them, too.
pub fn lend<T>(start: impl FnOnce() -> T) -> T {
    for capability in LENT {
        // Refused to root, whose inheritable set is empty and whose programs need no ambient one.
        let _needless = configure_capability_in_ambient_set(capability, true);
    }
    let started = start();
    // It was emptied before, so that cannot be refused.
    let _empty = clear_ambient_capability_set();
    started
}

/// The user that runs scripts for which the configuration names none: `nobody`, or the daemon itself if
/// it may not become another user.
#[must_use]
pub fn default_user() -> String {
    let may_change = effective().is_ok_and(|has| has.contains(CapabilitySet::SETUID));
    let itself = getuid();
    // Nothing runs as root unless that is written.
    if may_change || itself.is_root() {
        return NOBODY.to_owned();
    }
    User::name(itself.as_raw()).unwrap_or_else(|| NOBODY.to_owned())
}

const NOBODY: &str = "nobody";

fn effective() -> io::Result<CapabilitySet> {
    Ok(capabilities(None)?.effective)
}
