//! A host with a kernel of its own, for what no namespace has: a clock that can be set.
//!
//! The kernel is User Mode Linux, the root is this machine's with a layer in memory on top, and systemd is
//! its first process, which starts nothing but D-Bus where something asks for it. Commands go in and
//! answers come out by a folder of the lab that both see.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::host::Host;
use crate::process::{Process, is_alive};
use crate::{Lab, binary, ip, wait_for};

/// A boot takes 12 s on an idle machine.
const PATIENCE: Duration = Duration::from_secs(180);
const TARGET: &str = "[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\nRequires=lab.service\n";
const SERVICE: &str = "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\nAfter=dbus.socket\n\
                       [Service]\nExecStart=/bin/sh /etc/lab.sh\n";

/// A host on the lab's switch; dropping it switches it off.
#[derive(Debug)]
pub struct OwnKernel {
    folder: PathBuf,
    process: Process,
    commands: Cell<u32>,
}

impl OwnKernel {
    /// Boots it, with this address on `eth0`. `time_server` is whom its systemd-timesyncd asks, once it is
    /// to.
    ///
    /// # Errors
    ///
    /// It does not come up; with its console.
    pub fn boot(lab: &Lab, name: &str, address: &str, time_server: &str) -> Result<OwnKernel> {
        let folder = lab.folder().join(name);
        let (own, layer) = (folder.join("own"), folder.join("layer"));
        let programs = binary("vipd")?;
        let programs = programs.parent().context("a folder of programs")?;
        let units = own.join("etc/systemd/system");
        for made in [&layer, &units, &own.join("lab"), &own.join("programs")] {
            fs::create_dir_all(made)?;
        }
        // Disks that this machine has are waited for there in vain.
        for disks in ["etc/fstab", "etc/crypttab"] {
            fs::write(own.join(disks), "")?;
        }
        fs::write(units.join("lab.target"), TARGET)?;
        fs::write(units.join("lab.service"), SERVICE)?;
        symlink("lab.target", units.join("default.target"))?;
        let time = format!("[Time]\nNTP={time_server}\n");
        fs::write(own.join("etc/systemd/timesyncd.conf"), time)?;
        let script = format!(
            "mount -t hostfs -o {} lab /lab\n\
             mount -t hostfs -o {} programs /programs\n\
             ip link set lo up; ip link set vec0 name eth0\n\
             ip addr add {address} dev eth0; ip link set eth0 up\n\
             n=0\n\
             while :; do\n\
             [ -e /lab/$n.sh ] || {{ sleep 0.1; continue; }}\n\
             sh -e /lab/$n.sh </dev/null >/lab/$n.out 2>&1\n\
             echo $? >/lab/code; mv /lab/code /lab/$n.code; n=$((n+1))\n\
             done\n",
            folder.display(),
            programs.display(),
        );
        fs::write(own.join("etc/lab.sh"), script)?;
        let switch = Host::new("switch", lab.switch(), Arc::clone(&lab.inner));
        ip(
            switch.namespace(),
            &format!("tuntap add mode tap name {name}"),
        )?;
        ip(
            switch.namespace(),
            &format!("link set {name} master br0 up"),
        )?;
        // The mounts are this process's own, and go with it. What says that this machine is a container
        // is not true of that one, which would not set its clock then.
        let line = format!(
            "set -e; mount -t tmpfs layer {0}; mkdir {0}/upper {0}/work {0}/root; cp -a {1}/. {0}/upper\n\
             mount -t overlay -o lowerdir=/,upperdir={0}/upper,workdir={0}/work root {0}/root\n\
             rm -f {0}/root/.dockerenv {0}/root/run/.containerenv\n\
             exec linux.uml mem=256M uml_dir={0} umid={name} quiet root=/dev/root rootfstype=hostfs \
             rootflags={0}/root rw init=/lib/systemd/systemd net.ifnames=0 con=null con0=null,fd:1 \
             vec0:transport=tap,ifname={name},depth=128",
            layer.display(),
            own.display()
        );
        let process = switch.spawn(name, Path::new("sh"), &["-c", &line])?;
        let booted = OwnKernel {
            folder,
            process,
            commands: Cell::new(0),
        };
        booted.sh("true")?;
        Ok(booted)
    }

    /// A folder of this machine that is `/lab` there.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a shell script there and returns what it printed. The built programs are in `/programs`.
    ///
    /// # Errors
    ///
    /// It failed, or did not end; with what it said.
    pub fn sh(&self, script: &str) -> Result<String> {
        let number = self.commands.replace(self.commands.get() + 1);
        let file = |end: &str| self.folder.join(format!("{number}.{end}"));
        fs::write(file("new"), script)?;
        fs::rename(file("new"), file("sh"))?;
        let code = wait_for(PATIENCE, script, || {
            ensure!(is_alive(self.process.id()), "it has ended");
            Ok(fs::read_to_string(file("code")).ok())
        })
        .with_context(|| format!("its console:\n{}", self.process.output()))?;
        let said = fs::read_to_string(file("out"))?;
        ensure!(code.trim() == "0", "{script}: {code}{said}");
        Ok(said)
    }
}
