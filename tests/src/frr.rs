//! FRR's vrrpd on a host: the other router of the scenarios of interoperation.
//!
//! FRR puts no addresses on: they stand for ever on a macvlan that has the virtual MAC, and while
//! vrrpd is not master zebra takes that macvlan's carrier away (`protodown`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::host::Host;
use crate::process::Process;
use crate::{run, wait_until};

const PROGRAMS: &str = "/usr/lib/frr";
/// The number of the virtual router, and the last byte of its MAC.
const VRID: u8 = 51;

/// What vrrpd is told.
#[derive(Debug, Clone)]
pub struct Router<'a> {
    /// Of the protocol.
    pub version: u8,
    /// Its priority.
    pub priority: u8,
    /// Advert interval.
    pub interval: Duration,
    /// The virtual addresses, with prefix lengths.
    pub addresses: &'a [&'a str],
    /// IPv6: a link-local address of the macvlan's own, from which adverts come; without one they
    /// come from the virtual address.
    pub link_local: Option<&'a str>,
}

/// A running zebra and vrrpd.
#[derive(Debug)]
pub struct Frr {
    host: Host,
    folder: PathBuf,
    vrrpd: Process,
    zebra: Process,
}

impl Frr {
    /// Makes the macvlan unless it is there, and starts both programs.
    ///
    /// # Errors
    ///
    /// They are not installed, or zebra does not serve.
    pub fn start(host: &Host, router: &Router<'_>) -> Result<Frr> {
        let folder = host.folder().join(format!("{}-frr", host.name()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        // Both give their privileges away to their own user, who needs the folder.
        run(Command::new("chown").arg("frr:frr").arg(&folder))?;
        prepare(host, router)?;
        fs::write(folder.join("zebra.conf"), "")?;
        fs::write(folder.join("vrrpd.conf"), config(router))?;
        let zebra = start(host, &folder, "zebra")?;
        let socket = folder.join("zserv");
        wait_until(Duration::from_secs(20), "zebra serves", || {
            Ok(socket.exists())
        })
        .with_context(|| zebra.output())?;
        let vrrpd = start(host, &folder, "vrrpd")?;
        Ok(Frr {
            host: host.clone(),
            folder,
            vrrpd,
            zebra,
        })
    }

    /// Stops vrrpd gracefully: it gives up what it has, and says so to its peers.
    ///
    /// # Errors
    ///
    /// It goes on.
    pub fn stop(mut self) -> Result<()> {
        self.vrrpd.signal("TERM")?;
        let patience = Duration::from_secs(20);
        let status = self.vrrpd.wait(patience)?;
        ensure!(
            status.success(),
            "vrrpd ended with {status}: {}",
            self.log()
        );
        // What it said last is zebra's to do.
        wait_until(patience, "no carrier where the addresses are", || {
            Ok(!self
                .host
                .run("ip -brief link show type macvlan")?
                .contains(" UP "))
        })
        .map(|_| ())
    }

    /// The state its log says it entered last: `Master`, `Backup` or `Initialize`.
    #[must_use]
    pub fn state(&self) -> Option<String> {
        let log = self.log();
        let (_, last) = log.rsplit_once(" -> ")?;
        Some(last.lines().next()?.to_owned())
    }

    /// The log of vrrpd so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("vrrpd.log")).unwrap_or_default()
    }
}

impl Drop for Frr {
    /// Removes what FRR keeps for the case of a crash, and leaves behind.
    fn drop(&mut self) {
        for (program, process) in [("zebra", &self.zebra), ("vrrpd", &self.vrrpd)] {
            let _ = fs::remove_dir_all(format!("/var/tmp/frr/{program}.{}", process.id()));
        }
    }
}

fn start(host: &Host, folder: &Path, program: &str) -> Result<Process> {
    let path = |name: &str| folder.join(name).display().to_string();
    host.spawn(
        program,
        &Path::new(PROGRAMS).join(program),
        &[
            "-f",
            &path(&format!("{program}.conf")),
            "-z",
            &path("zserv"),
            "-i",
            &path(&format!("{program}.pid")),
            "--vty_socket",
            &folder.display().to_string(),
            "--log",
            &format!("file:{}", path(&format!("{program}.log"))),
        ],
    )
}

fn prepare(host: &Host, router: &Router<'_>) -> Result<()> {
    let over_ipv6 = router.addresses.iter().any(|address| address.contains(':'));
    let (name, family) = if over_ipv6 {
        ("vrrp6", 2)
    } else {
        ("vrrp4", 1)
    };
    if host.run(&format!("ip link show dev {name}")).is_ok() {
        return Ok(());
    }
    host.ip(&format!(
        "link add {name} link eth0 address 00:00:5e:00:0{family}:{VRID:02x} \
         type macvlan mode bridge"
    ))?;
    host.ip(&format!("link set {name} addrgenmode none"))?;
    // vrrpd takes the link-local address that was added last.
    let own = router.link_local.map(|address| format!("{address}/64"));
    let own = own.as_deref().into_iter();
    for address in router.addresses.iter().copied().chain(own) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        host.ip(&format!("addr add {address} dev {name}{nodad}"))?;
    }
    // A Linux host answers ARP for the addresses of all its interfaces, those without carrier, too.
    host.run("sysctl -q -w net.ipv4.conf.all.arp_ignore=1")?;
    host.ip(&format!("link set {name} up"))
}

fn config(router: &Router<'_>) -> String {
    let Router {
        version,
        priority,
        interval,
        addresses,
        ..
    } = router;
    let mut text = format!(
        "interface eth0\n vrrp {VRID} version {version}\n vrrp {VRID} priority {priority}\n \
         vrrp {VRID} advertisement-interval {}\n",
        interval.as_millis()
    );
    for address in *addresses {
        let address = address.split('/').next().unwrap_or_default();
        let family = if address.contains(':') { "ipv6" } else { "ip" };
        text.push_str(&format!(" vrrp {VRID} {family} {address}\n"));
    }
    text
}
