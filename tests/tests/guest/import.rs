//! `vipd import`: the table that another program makes of its file is the table that vipd makes of what
//! was imported from it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use lab::director::Director;
use lab::import::import;
use lab::keepalived::Keepalived;
use lab::{Host, Lab, wait_until};
use serde_json::json;

use crate::PATIENCE;

const KEEPALIVED: &str = "\
virtual_server 10.77.0.10 80 {
    lvs_sched wrr
    lvs_method DR
    protocol TCP
    persistence_timeout 600
    persistence_granularity 255.255.255.0
    real_server 10.77.0.21 80 {
        weight 3
        uthreshold 100
        lthreshold 50
    }
    real_server 10.77.0.22 8080 {
    }
}
virtual_server 10.77.0.10 443 {
    lvs_sched sh
    sh-port
    protocol TCP
    real_server 10.77.0.21 8443 {
    }
    real_server 10.77.0.22 443 {
        weight 0
        lvs_method DR
    }
}
virtual_server 10.77.0.10 53 {
    lb_algo rr
    lb_kind NAT
    ops
    real_server 10.77.0.21 53 {
    }
}
virtual_server 10.77.0.11 {
    lvs_method DR
    protocol TCP
    real_server 10.77.0.21 {
    }
}
virtual_server fwmark 7 {
    lvs_sched mh
    mh-fallback
    lvs_method TUN type gue port 6080 csum
    real_server 10.77.0.21 0 {
    }
}
virtual_server 2001:db8::10 80 {
    lvs_method NAT
    protocol TCP
    real_server 2001:db8::21 81 {
    }
}
virtual_server_group farm {
    10.77.0.30-32 80
    10.77.0.40 81
}
virtual_server group farm {
    lvs_sched lc
    lvs_method NAT
    protocol TCP
    real_server 10.77.0.21 8000 {
        weight 2
    }
}
";

/// What vipd can hold of what IPVS can.
const TABLE: &str = "\
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 3
-a -t 10.0.0.1:80 -r 10.1.0.2:8080 -m -w 2147483647
-a -t 10.0.0.1:80 -r 10.1.0.3:80 -g -w 0
-a -t 10.0.0.1:80 -r 10.1.0.4:80 -i --tun-type gue --tun-port 6080 --tun-csum
-a -t 10.0.0.1:80 -r 10.1.0.5:80 -i --tun-type gue --tun-port 6081 --tun-remcsum
-a -t 10.0.0.1:80 -r 10.1.0.7:80 -i --tun-type gre --tun-csum
-a -t 10.0.0.1:80 -r 10.1.0.9:80 -i
-a -t 10.0.0.1:80 -r [2001:db8::7]:80 -i
-A -t 10.0.0.1:0 -s wlc -p 600
-A -t 10.0.0.2:443 -s sh -b sh-fallback,sh-port -p 60 -M 255.255.255.0
-A -t 10.0.0.3:443 -s mh
-A -u 10.0.0.1:53 -s rr -o
-A -u 10.0.0.1:5060 -s rr -p 300 --pe sip -o
-a -u 10.0.0.1:5060 -r 10.1.0.1:5060 -m
-A --sctp-service 10.0.0.1:9 -s lc
-A -f 7 -s wrr -p 300 -M 255.255.0.0
-a -f 7 -r 10.1.0.1:0 -g -w 5
-A -f 9 -6 -s wrr -p 300 -M 64
-a -f 9 -6 -r [2001:db8::9]:0 -g
-A -t [2001:db8::1]:80 -s wlc
-a -t [2001:db8::1]:80 -r [2001:db8::21]:8080 -m
";

/// Short: ldirectord starts ipvsadm for each line several times, which takes its time here.
const LDIRECTORD: &str = "\
checkinterval = 1
quiescent = no
virtual = 10.77.0.10:80
    real = 10.77.0.21:80 gate 3
    scheduler = wlc
    persistent = 600
    netmask = 255.255.255.0
    checktype = on
virtual = 10.77.0.10:443
    real = 10.77.0.21:8443 masq 5
    checktype = on
";

#[test]
fn keepaliveds_file_makes_the_same_table() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let keepalived = Keepalived::balance(&host, KEEPALIVED)?;
    let wanted = settled(&host, 22).with_context(|| keepalived.log())?;
    keepalived.stop()?;
    made_by_vipd(&host, "keepalived", KEEPALIVED, &wanted)
}

#[test]
fn what_ipvsadm_saves_makes_the_same_table() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let file = host.folder().join("table");
    fs::write(&file, TABLE)?;
    host.sh(&format!("ipvsadm -R < {}", file.display()))?;
    let wanted = settled(&host, TABLE.lines().count())?;
    let saved = host.run("ipvsadm -S -n")?;
    host.run("ipvsadm -C")?;
    made_by_vipd(&host, "ipvsadm", &saved, &wanted)
}

#[test]
fn ldirectords_file_makes_the_same_table() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let file = host.folder().join("ldirectord.cf");
    fs::write(&file, LDIRECTORD)?;
    let path = file.to_str().context("a path")?;
    let program = Path::new("/usr/sbin/ldirectord");
    let mut ldirectord = host.spawn("ldirectord", program, &["-d", path, "start"])?;
    let wanted = settled(&host, 4).with_context(|| ldirectord.output())?;
    ldirectord.signal("TERM")?;
    ldirectord.wait(PATIENCE)?;
    made_by_vipd(&host, "ldirectord", LDIRECTORD, &wanted)
}

/// The table, once it has so many lines.
fn settled(host: &Host, lines: usize) -> Result<Vec<String>> {
    // Perl takes long to start here.
    let settled = wait_until(3 * PATIENCE, "the table", || {
        Ok(host.ipvsadm_save()?.len() == lines)
    });
    settled.with_context(|| format!("{:#?}", host.ipvsadm_save()))?;
    table(host)
}

fn table(host: &Host) -> Result<Vec<String>> {
    let mut lines = host.ipvsadm_save()?;
    let thresholds = host.run("ipvsadm -Ln --thresholds")?;
    lines.extend(thresholds.lines().map(str::to_owned));
    Ok(lines)
}

fn made_by_vipd(host: &Host, format: &str, text: &str, wanted: &[String]) -> Result<()> {
    wait_until(PATIENCE, "an empty table", || {
        Ok(host.ipvsadm_save()?.is_empty())
    })?;
    let toml = import(host, format, text)?;
    let vipd = Director::start(host, &toml)?;
    let same = wait_until(PATIENCE, "the same table", || Ok(table(host)? == wanted));
    same.with_context(|| format!("wanted {wanted:#?}, has {:#?} of\n{toml}", table(host)))?;
    vipd.wait_for_status("/ipvs/in_sync", &json!(true))?;
    vipd.stop()
}
