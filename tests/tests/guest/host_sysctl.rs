//! What a director sets on its host because it translates, that it is given back exactly, and that it is only
//! told where that is wanted.

use anyhow::{Result, ensure};
use lab::director::Director;
use lab::{Host, Lab, wait_until};

use crate::PATIENCE;

/// Virtual servers of both families with this forwarding.
fn servers(forwarding: &str) -> String {
    let server = |name: &str, address: &str, real: &str| {
        format!(
            "[[virtual_server]]\nname = \"{name}\"\naddress = \"{address}\"\nforwarding = \"{forwarding}\"\n\
             [[virtual_server.real_server]]\naddress = \"{real}\"\n"
        )
    };
    server("http", "10.77.0.10:80", "10.77.0.21") + &server("http6", "[fd77::10]:80", "fd77::21")
}

/// A host of two networks, on which somebody has set something already.
fn host(lab: &Lab) -> Result<Host> {
    let host = lab.host("lb1", "10.77.0.11/24")?;
    lab.add_interface(&host, "eth1", "10.78.0.11/24")?;
    host.ip("addr add fd77::11/64 dev eth0 nodad")?;
    // The kernel changes these with ip_forward.
    host.sh(
        "sysctl -q -w net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
         sysctl -q -w net.ipv4.conf.eth1.forwarding=1 net.ipv4.conf.all.accept_redirects=0
         sysctl -q -w net.ipv6.conf.eth1.forwarding=1 net.ipv6.conf.eth0.accept_ra=1
         sysctl -q -w net.ipv6.conf.eth1.accept_ra=0
         sysctl -q -w net.ipv4.conf.all.send_redirects=1 net.ipv4.conf.eth0.send_redirects=1",
    )?;
    Ok(host)
}

/// Every setting of every interface; `sysctl -a` takes seconds in an emulated guest.
fn all(host: &Host) -> Result<String> {
    // Some cannot be read, which is no matter.
    host.sh("cd /proc/sys/net; { grep -rs . ipv4/ip_forward ipv4/conf ipv6/conf || true; } | sort")
}

fn is(host: &Host, name: &str, value: &str) -> Result<()> {
    let what = format!("{name} = {value}");
    let found = || Ok(host.run(&format!("sysctl -n net.{name}"))?.trim() == value);
    wait_until(PATIENCE, &what, found).map(|_| ())
}

/// What NAT needs, as it should be.
fn set(host: &Host) -> Result<()> {
    for (name, value) in [
        ("ipv4.ip_forward", "1"),
        ("ipv4.conf.all.send_redirects", "0"),
        ("ipv4.conf.eth0.send_redirects", "0"),
        ("ipv6.conf.all.forwarding", "1"),
        ("ipv6.conf.eth0.accept_ra", "2"),
        ("ipv6.conf.eth1.accept_ra", "0"),
        // No real server is there.
        ("ipv4.conf.eth1.send_redirects", "1"),
    ] {
        is(host, name, value)?;
    }
    Ok(())
}

fn same(before: &str, host: &Host) -> Result<()> {
    let after = all(host)?;
    let differing = before
        .lines()
        .zip(after.lines())
        .filter(|(one, other)| one != other);
    let differing: Vec<_> = differing.collect();
    ensure!(before == after, "{differing:#?}");
    Ok(())
}

#[test]
fn a_director_that_translates_forwards_and_gives_back_exactly_what_was_there() -> Result<()> {
    let lab = Lab::new()?;
    let host = host(&lab)?;
    let before = all(&host)?;
    let director = Director::start(&host, &servers("nat"))?;
    set(&host)?;
    // Somebody else's hands.
    host.run("sysctl -q -w net.ipv4.ip_forward=0")?;
    is(&host, "ipv4.ip_forward", "1")?;
    director.wait_for_event(&["ipvs.repaired", "net.ipv4.ip_forward"])?;
    director.stop()?;
    same(&before, &host)?;

    // A crash, and what comes after it.
    let director = Director::start(&host, &servers("fullnat"))?;
    set(&host)?;
    director.kill_and_release(&[])?;
    same(&before, &host)?;

    // Direct routing and tunnels need nothing.
    let director = Director::start(&host, &servers("nat"))?;
    set(&host)?;
    director.reload(&servers("dr"))?;
    is(&host, "ipv4.ip_forward", "0")?;
    is(&host, "ipv6.conf.all.forwarding", "0")?;
    is(&host, "ipv6.conf.eth0.accept_ra", "1")?;
    is(&host, "ipv4.conf.eth0.send_redirects", "1")?;
    same(&before, &host)?;
    // The file of nothing but tunnels is read, and has nothing to set.
    director.reload(&servers("tun"))?;
    director.stop()?;
    same(&before, &host)
}

#[test]
fn what_must_not_be_managed_is_told_with_the_command_that_mends_it() -> Result<()> {
    let lab = Lab::new()?;
    let host = host(&lab)?;
    let before = all(&host)?;
    let text = format!("[sysctl]\nmanage = false\n{}", servers("nat"));
    let director = Director::start(&host, &text)?;
    let commands = [
        "sysctl -w net.ipv4.ip_forward=1",
        "sysctl -w net.ipv4.conf.all.send_redirects=0",
        "sysctl -w net.ipv4.conf.eth0.send_redirects=0",
        "sysctl -w net.ipv6.conf.all.forwarding=1",
        "sysctl -w net.ipv6.conf.eth0.accept_ra=2",
    ];
    for command in commands {
        wait_until(PATIENCE, command, || {
            Ok(director.status_text()?.contains(command))
        })?;
    }
    same(&before, &host)?;
    // From the last to the first: a host that forwards listens to nobody.
    for command in commands.iter().rev() {
        host.run(command)?;
    }
    wait_until(PATIENCE, "nothing is told", || {
        Ok(!director.status_text()?.contains("sysctl -w"))
    })?;
    // What an operator has set is not given back.
    director.reload(&servers("nat"))?;
    director.stop()?;
    is(&host, "ipv4.ip_forward", "1")
}
