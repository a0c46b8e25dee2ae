//! An upgrade that nobody notices: another process takes the daemon's place while adverts, addresses and
//! everything else go on; and one that fails, after which everything is as it was. Directors are network
//! namespaces of this machine; they need root, and no IPVS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

mod carried;
mod failed;
mod guarded;
mod instances;
mod meanwhile;
mod unnoticed;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::Result;
use lab::Host;
use lab::pair::Pair;
use lab::process::Process;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What happens on a host from now on to interfaces, addresses, routes and rules, as `ip monitor` tells.
pub(crate) fn monitor(host: &Host) -> Result<Process> {
    host.monitor(&["link", "address", "route", "rule"])
}

/// What `ip monitor` saw, but for what it was tried with, and the addresses that the kernel makes for an
/// interface of its own accord.
pub(crate) fn seen(monitor: &Process) -> Vec<String> {
    let text = monitor.output();
    // iproute2 complains of interfaces whose other end is in a namespace without a number.
    let noise = ["192.0.2.99", "fe80::", "Error: Peer netns reference"];
    let ours = |line: &&str| !noise.iter().any(|noise| line.contains(noise));
    text.lines().filter(ours).map(str::to_owned).collect()
}

/// A program that says what a new vipd says, up to the moment when it is to take over the adverts; `then`
/// follows. `told` runs when it knows everything, before it is ready.
pub(crate) fn pretender(pair: &Pair, name: &str, told: &str, then: &str) -> Result<String> {
    let text = format!(
        "#!/usr/bin/python3\n\
         import json, socket, struct, sys, time\n\
         s = socket.socket(fileno=0)\n\
         _, fds, _, _ = socket.recv_fds(s, 1, 8)\n\
         def hear():\n\
         \x20   n, = struct.unpack('=I', s.recv(4, socket.MSG_WAITALL))\n\
         \x20   return json.loads(s.recv(n, socket.MSG_WAITALL))\n\
         def say(what):\n\
         \x20   text = json.dumps(what).encode()\n\
         \x20   s.sendall(struct.pack('=I', len(text)) + text)\n\
         hear(); hear(); hear()\n\
         say({{'Prepared': {{'version': '9.9'}}}})\n\
         hear()\n\
         {told}\n\
         say('Ready')\n\
         adverts = socket.socket(fileno=fds[1])\n\
         {then}\n"
    );
    let program = pair.lab.folder().join(name);
    fs::write(&program, text)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    Ok(program.display().to_string())
}
