//! `vipctl ipvs` beside the real ipvsadm: the same table, shown and saved by both.

use anyhow::{Context, Result, ensure};
use lab::director::Director;
use lab::nginx::Nginx;
use lab::{Host, Lab, wait_until};
use serde_json::Value;

use crate::PATIENCE;

/// A service of every kind, and a destination of every kind.
const EVERY_KIND: &str = "\
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 3 -x 100 -y 50
-a -t 10.0.0.1:80 -r 10.1.0.2:8080 -m -w 2147483647
-a -t 10.0.0.1:80 -r 10.1.0.3:80 -g -w 0
-a -t 10.0.0.1:80 -r 10.1.0.4:80 -i --tun-type gue --tun-port 6080 --tun-csum
-a -t 10.0.0.1:80 -r 10.1.0.5:80 -i --tun-type gue --tun-port 6081 --tun-remcsum
-a -t 10.0.0.1:80 -r 10.1.0.6:80 -i --tun-type gue --tun-port 6082
-a -t 10.0.0.1:80 -r 10.1.0.7:80 -i --tun-type gre --tun-csum
-a -t 10.0.0.1:80 -r 10.1.0.8:80 -i --tun-type gre
-a -t 10.0.0.1:80 -r 10.1.0.9:80 -i
-a -t 10.0.0.1:80 -r [2001:db8::7]:80 -i
-a -t 10.0.0.1:80 -r 192.168.7.1:80 -m
-a -t 10.0.0.1:80 -r 250.1.2.3:80 -m
-A -t 192.168.0.1:443 -s wlc -p 600
-A -t 10.0.0.1:0 -s wlc -p 600
-A -t 10.0.0.2:443 -s sh -b sh-fallback,sh-port -p 60 -M 255.255.255.0
-A -t 10.0.0.3:443 -s mh -b mh-fallback,mh-port
-A -t 10.0.0.4:443 -s wlc -b flag-1,flag-3
-A -u 10.0.0.1:53 -s rr -o
-A -u 10.0.0.1:5060 -s rr -p 300 --pe sip -o
-a -u 10.0.0.1:5060 -r 10.1.0.1:5060 -m
-A --sctp-service 10.0.0.1:9 -s lc
-A -f 7 -s wrr -p 300 -M 255.255.0.0
-a -f 7 -r 10.1.0.1:0 -g -w 5
-A -f 9 -6 -s wrr -p 300 -M 64
-a -f 9 -6 -r [2001:db8::9]:0 -g
-A -t [2001:db8::1]:80 -s wlc
-a -t [2001:db8::1]:80 -r [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:80 -m
-a -t [2001:db8::1]:80 -r [2001:db8::21]:80 -m -x 5
";

#[test]
fn every_table_is_ipvsadms_to_the_last_byte() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let lb1 = Director::start(&host, OWN)?;
    same(&host, &lb1, "list", "-Ln")?;
    restore_with_ipvsadm(&host, EVERY_KIND)?;
    for (ours, theirs) in [
        ("list", "-Ln"),
        ("list --nosort", "-Ln --nosort"),
        ("list --thresholds", "-Ln --thresholds"),
        ("list --persistent-conn", "-Ln --persistent-conn"),
        ("list --tun-info", "-Ln --tun-info"),
        (
            "list --tun-info 10.0.0.1:80",
            "-Ln --tun-info -t 10.0.0.1:80",
        ),
        ("stats", "-Ln --stats"),
        ("stats --exact --nosort", "-Ln --stats --exact --nosort"),
        ("rate", "-Ln --rate"),
        ("connections", "-Lnc"),
        ("timeouts", "-Ln --timeout"),
        ("daemon", "-Ln --daemon"),
    ] {
        same(&host, &lb1, ours, theirs)?;
    }
    // The virtual server by its name, and a mark.
    let by_name = lb1.vipctl(&["ipvs", "list", "own"])?;
    ensure!(
        by_name == host.run("ipvsadm -Ln -t 10.77.0.10:80")?,
        "{by_name}"
    );
    let mark = lb1.vipctl(&["ipvs", "rate", "fwmark 7"])?;
    ensure!(mark == host.run("ipvsadm -Ln --rate -f 7")?, "{mark}");
    let unknown = lb1.refused(&["ipvs", "list", "nobody"])?;
    ensure!(
        unknown.contains("no service of the name or address nobody"),
        "{unknown}"
    );
    let named = lb1.vipctl(&["ipvs", "list", "--resolve", "10.0.0.1:80"])?;
    ensure!(named.contains("TCP  10.0.0.1:http rr"), "{named}");
    let json: Value = serde_json::from_str(&lb1.vipctl(&["ipvs", "list", "--json", "own"])?)?;
    ensure!(json["services"][0]["virtual_server"] == "own", "{json}");
    ensure!(
        json["services"][0]["real_servers"][0]["forwarding"] == "dr",
        "{json}"
    );
    Ok(())
}

#[test]
fn what_either_saves_the_other_restores_to_the_same_table() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    host.run("ip link set lo up")?;
    restore_with_ipvsadm(&host, EVERY_KIND)?;
    host.run("ipvsadm --set 901 121 301")?;
    let lb1 = Director::start(&host, NOTHING)?;
    let dump = || -> Result<String> {
        Ok(host.run("ipvsadm -Ln")?
            + &host.run("ipvsadm -Ln --thresholds")?
            + &host.run("ipvsadm -Ln --tun-info")?)
    };
    let right = dump()?;
    let theirs = host.run("ipvsadm -S -n")?;
    // Ours is theirs, but that the thresholds are in it.
    let ours = lb1.vipctl(&["ipvs", "save"])?;
    let without = ours.replace(" -x 100 -y 50", "").replace(" -x 5", "");
    ensure!(without == theirs, "ours:\n{ours}\ntheirs:\n{theirs}");
    ensure!(ours != theirs, "the thresholds are lost");

    host.run("ipvsadm -C")?;
    restore_with_ipvsadm(&host, &ours)?;
    ensure!(dump()? == right, "{}", dump()?);

    let file = host.folder().join("saved");
    let path = file.to_str().context("a path")?;
    std::fs::write(&file, &ours)?;
    host.run("ipvsadm -C")?;
    let said = lb1.vipctl(&["ipvs", "restore", path])?;
    ensure!(
        said.contains("restored: 12 services, 17 real servers"),
        "{said}"
    );
    ensure!(dump()? == right, "{}", dump()?);
    let said = lb1.vipctl(&["ipvs", "restore", path])?;
    ensure!(said.contains("changes made: 0"), "{said}");

    // Theirs, but for what it has lost.
    host.run("ipvsadm -C")?;
    std::fs::write(&file, &theirs)?;
    lb1.vipctl(&["ipvs", "restore", path])?;
    ensure!(host.run("ipvsadm -S -n")? == theirs);

    // Everything, through ipvsadm and through us. Mixed families keep daemons out.
    host.run("ipvsadm -d -t 10.0.0.1:80 -r [2001:db8::7]:80")?;
    host.run("ipvsadm --start-daemon backup --mcast-interface lo --syncid 8 --sync-maxlen 1400")?;
    let all = lb1.vipctl(&["ipvs", "save", "--all"])?;
    let settings = "--set 901 121 301\n--start-daemon backup --mcast-interface lo --syncid 8 \
                    --sync-maxlen 1400 --mcast-group 224.0.0.81 --mcast-port 8848 --mcast-ttl 1\n";
    ensure!(all.ends_with(settings), "{all}");
    let state = || -> Result<String> {
        Ok(host.run("ipvsadm -Ln --daemon")? + &host.run("ipvsadm -Ln --timeout")?)
    };
    let before = state()?;
    std::fs::write(&file, &all)?;
    for ours in [false, true] {
        host.run("ipvsadm -C")?;
        host.run("ipvsadm --stop-daemon backup")?;
        host.run("ipvsadm --set 900 120 300")?;
        if ours {
            lb1.vipctl(&["ipvs", "restore", path])?;
        } else {
            restore_with_ipvsadm(&host, &all)?;
        }
        ensure!(state()? == before, "ours {ours}: {}", state()?);
    }
    host.run("ipvsadm --stop-daemon backup")?;
    Ok(())
}

#[test]
fn a_restore_is_all_or_nothing_and_never_the_configurations() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let lb1 = Director::start(&host, OWN)?;
    wait_until(
        PATIENCE,
        "the table",
        || Ok(host.ipvsadm_save()?.len() == 2),
    )?;
    let before = host.run("ipvsadm -S -n")?;
    let file = host.folder().join("saved");
    let path = file.to_str().context("a path")?;
    for (text, reasons) in [
        (
            "-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r web1:80\n-a -t 10.0.0.2:80 -r 10.1.0.1\n",
            [
                "line 2: \"web1\" is no address",
                "line 3: there is no such service",
            ],
        ),
        (
            "-A -t 10.0.0.1:80\n-A -t 10.77.0.10:80 -s wlc\n",
            [
                "tcp 10.77.0.10:80 is the virtual server own",
                "nothing was restored",
            ],
        ),
        (
            "-A -t 10.0.0.1:80\n-A -t 10.0.0.2:80 -s nosuch\n",
            ["everything is as it was", "nosuch"],
        ),
    ] {
        std::fs::write(&file, text)?;
        let why = lb1.refused(&["ipvs", "restore", path])?;
        for reason in reasons {
            ensure!(why.contains(reason), "{text}\n{why}");
        }
        ensure!(host.run("ipvsadm -S -n")? == before, "{text}");
    }
    // What is restored is not vipd's: it survives a resync, a reload and the end.
    std::fs::write(&file, "-A -t 10.0.0.1:80\n")?;
    lb1.vipctl(&["ipvs", "restore", path])?;
    lb1.reload(&OWN.replace("rr", "wrr"))?;
    wait_until(PATIENCE, "the reload", || {
        Ok(host.run("ipvsadm -S -n")?.contains("10.77.0.10:80 -s wrr"))
    })?;
    lb1.stop()?;
    let left = host.run("ipvsadm -S -n")?;
    ensure!(left == "-A -t 10.0.0.1:80 -s wlc\n", "{left}");
    Ok(())
}

#[test]
fn counters_are_ipvsadms_in_the_tables_the_status_and_the_metrics() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let client = lab.host("client", "10.77.0.100/24")?;
    let _nginx = Nginx::start(&host)?;
    host.run("ip address add 10.77.0.10/32 dev eth0")?;
    let text = format!("[global]\nhttp = \"127.0.0.1:9650\"\n{WITH_TRAFFIC}");
    let lb1 = Director::start(&host, &text)?;
    wait_until(
        PATIENCE,
        "the table",
        || Ok(host.ipvsadm_save()?.len() == 2),
    )?;
    for _ in 0..5 {
        ensure!(client.get("http://10.77.0.10:80/").is_some(), "no answer");
    }
    // Those that a client has just closed change their state, and all their seconds.
    wait_until(PATIENCE, "the same connections", || {
        let ours = lb1.vipctl(&["ipvs", "connections"])?;
        let theirs = host.run("ipvsadm -Lnc")?;
        Ok(ours.lines().count() == 7 && without_seconds(&ours) == without_seconds(&theirs))
    })?;
    let of_service = lb1.vipctl(&["ipvs", "connections", "own"])?;
    ensure!(of_service.lines().count() == 7, "{of_service}");
    // The kernel sums up every two seconds.
    wait_until(PATIENCE, "five connections are counted", || {
        let stats = lb1.vipctl(&["ipvs", "stats", "--exact", "own"])?;
        let counted = numbers(&stats, "10.77.0.10:80");
        Ok(counted.first() == Some(&5) && counted == numbers(&stats, "10.77.0.11:80"))
    })?;
    same(&host, &lb1, "stats --exact", "-Ln --stats --exact")?;
    let theirs = numbers(&host.run("ipvsadm -Ln --stats --exact")?, "10.77.0.10:80");
    let names = [
        "connections",
        "in_packets",
        "out_packets",
        "in_bytes",
        "out_bytes",
    ];
    let matches_metrics = |wanted: &[u64]| -> Result<()> {
        let metrics = host
            .get("http://127.0.0.1:9650/metrics")
            .context("metrics")?;
        for (name, value) in names.iter().zip(wanted) {
            let line =
                format!("vipd_virtual_server_{name}_total{{virtual_server=\"own\"}} {value}\n");
            ensure!(metrics.contains(&line), "no {line} in\n{metrics}");
            let name = name.replace("connections", "scheduled_connections");
            let line = format!(
                "vipd_real_server_{name}_total{{virtual_server=\"own\",real_server=\"10.77.0.11:80\"}} {value}\n"
            );
            ensure!(metrics.contains(&line), "no {line} in\n{metrics}");
        }
        Ok(())
    };
    matches_metrics(&theirs)?;
    let status = lb1.status()?;
    for (name, value) in names.iter().zip(&theirs) {
        let server = &status["virtual_servers"][0];
        ensure!(server["counters"][name] == *value, "{name}: {server}");
        ensure!(
            server["real_servers"][0]["counters"][name] == *value,
            "{name}: {server}"
        );
    }
    let top = lb1.vipctl(&["top", "--once"])?;
    ensure!(
        top.contains("own 10.77.0.10:80") && top.contains("-> 10.77.0.11:80"),
        "{top}"
    );
    // Zeroed, ipvsadm's begin anew; the metrics do not go back.
    let said = lb1.vipctl(&["ipvs", "zero", "own"])?;
    ensure!(said.contains("the counters of own are zero"), "{said}");
    let zeroed = numbers(&host.run("ipvsadm -Ln --stats --exact")?, "10.77.0.10:80");
    ensure!(zeroed == [0; 5], "{zeroed:?}");
    matches_metrics(&theirs)?;
    Ok(())
}

/// A virtual server that is in the table at once.
const OWN: &str = "\
[ipvs]\nresync_interval = \"1s\"\n[[virtual_server]]\nname = \"own\"\naddress = \"10.77.0.10:80\"\n\
scheduler = \"rr\"\nforwarding = \"dr\"\ncheck = { type = \"none\" }\n\
[[virtual_server.real_server]]\naddress = \"10.77.0.21:80\"\n";

/// One whose real server is the director itself, so that a client needs no second machine.
const WITH_TRAFFIC: &str = "\
[[virtual_server]]\nname = \"own\"\naddress = \"10.77.0.10:80\"\nscheduler = \"rr\"\n\
forwarding = \"nat\"\ncheck = { type = \"none\" }\n\
[[virtual_server.real_server]]\naddress = \"10.77.0.11:80\"\n";

const NOTHING: &str = "";

/// Both print the same.
pub(crate) fn same(host: &Host, director: &Director, ours: &str, theirs: &str) -> Result<()> {
    let words: Vec<&str> = std::iter::once("ipvs").chain(ours.split(' ')).collect();
    let theirs_of = || host.run(&format!("ipvsadm {theirs}"));
    // Seconds pass between the two, and rates with them.
    wait_until(PATIENCE, ours, || {
        Ok(director.vipctl(&words)? == theirs_of()?)
    })
    .map_err(|error| {
        let ours = director.vipctl(&words).unwrap_or_default();
        error.context(format!(
            "ours:\n{ours}\ntheirs:\n{}",
            theirs_of().unwrap_or_default()
        ))
    })?;
    Ok(())
}

fn restore_with_ipvsadm(host: &Host, text: &str) -> Result<()> {
    let file = host.folder().join("for-ipvsadm");
    std::fs::write(&file, text)?;
    let line = format!("ipvsadm -R < {}", file.display());
    let output = host.command("sh").args(["-c", &line]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{line}: {said}");
    Ok(())
}

/// The connections without the time they have left, which is in columns 4 to 9.
pub(crate) fn without_seconds(table: &str) -> Vec<String> {
    let lines = table.lines().map(|line| {
        let kept = line.char_indices().filter(|(at, _)| !(4..9).contains(at));
        kept.map(|(_, character)| character).collect()
    });
    lines.collect()
}

/// The numbers in the line of that address.
fn numbers(table: &str, address: &str) -> Vec<u64> {
    let line = table.lines().find(|line| line.contains(address));
    let words = line.unwrap_or_default().split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}
