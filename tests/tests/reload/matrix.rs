//! From any configuration to any other: after a reload the kernel holds what it holds after a fresh
//! start with the new file.

use anyhow::{Result, ensure};
use lab::director::Director;
use lab::{Host, Lab, wait_until};

use crate::{PATIENCE, router};

/// Every kind of thing that a virtual router holds, in different hands.
fn configurations() -> Vec<(&'static str, String, usize)> {
    let a = "\"10.77.0.10/24\"";
    let b = "\"10.77.0.9/24\"";
    let two = format!("{}{}", router("a", 51, 150, a), router("b", 52, 150, b));
    let routes = "virtual_routes = [{ to = \"10.99.0.0/16\", via = \"10.77.0.1\", table = 99 }]\n\
                  virtual_rules = [{ priority = 99, from = \"10.77.0.10\", table = 99 }]\n";
    vec![
        ("nothing", String::new(), 0),
        ("one", router("a", 51, 150, a), 1),
        ("two", two.clone(), 2),
        (
            "swapped",
            two.replace("vrid = 51", "vrid = 0")
                .replace("vrid = 52", "vrid = 51")
                .replace("vrid = 0", "vrid = 52"),
            2,
        ),
        ("all in one", router("b", 52, 150, &format!("{b}, {a}")), 1),
        (
            "another prefix",
            router("a", 51, 150, "\"10.77.0.10/32\""),
            1,
        ),
        (
            "on another interface",
            router(
                "a",
                51,
                150,
                "{ address = \"10.77.0.10/24\", interface = \"eth1\" }",
            ),
            1,
        ),
        (
            "routes and no accept",
            format!("{}accept = false\n{routes}", router("a", 51, 150, a)),
            1,
        ),
        (
            "a virtual MAC",
            format!("{}virtual_mac = true\n", router("a", 51, 150, a)),
            1,
        ),
        (
            "IPv6",
            router("six", 51, 150, "\"fe80::51/64\", \"2001:db8::10/64\""),
            1,
        ),
    ]
}

#[test]
fn a_reload_leaves_what_a_fresh_start_with_the_new_file_leaves() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    lab.add_interface(&host, "eth1", "10.78.0.11/24")?;
    let configurations = configurations();
    let mut fresh = Vec::new();
    for (name, text, routers) in &configurations {
        let director = Director::start(&host, text)?;
        wait_until_masters(&director, *routers)?;
        fresh.push((name, settled(&host, None)?));
        director.stop()?;
    }
    let director = Director::start(&host, "")?;
    // Three walks through all of them: none has a common divisor with their number.
    let count = configurations.len();
    let (mut at, mut pairs) = (0, 0);
    for step in [1, 3, 7] {
        for _ in 0..count {
            let from = configurations[at].0;
            at = (at + step) % count;
            let (_, text, routers) = &configurations[at];
            director.write_config(text)?;
            director.vipctl(&["reload"])?;
            wait_until_masters(&director, *routers)?;
            let (name, wanted) = &fresh[at];
            let found = settled(&host, Some(wanted))?;
            ensure!(
                found == *wanted,
                "{from} → {name}: there is\n{found}\nand not\n{wanted}"
            );
            pairs += 1;
        }
    }
    println!("{pairs} reloads end as a fresh start does");
    Ok(())
}

fn wait_until_masters(director: &Director, routers: usize) -> Result<()> {
    wait_until(PATIENCE, "every virtual router is master", || {
        let status = director.status()?;
        let all = status
            .pointer("/vrrp")
            .and_then(|all| all.as_array().cloned())
            .unwrap_or_default();
        let master = |router: &serde_json::Value| {
            router.get("state").and_then(|s| s.as_str()) == Some("master")
        };
        Ok(all.len() == routers && all.iter().all(master))
    })
    .map(|_| ())
}

/// What the kernel holds when it is as wanted, or does not change any more.
fn settled(host: &Host, wanted: Option<&str>) -> Result<String> {
    let (mut last, mut same) = (String::new(), 0);
    lab::wait_for(PATIENCE, "a kernel at rest", || {
        let now = held(host)?;
        // The kernel is not done with its own addresses.
        if now.contains(" tentative") {
            return Ok(None);
        }
        same = if now == last { same + 1 } else { 0 };
        last = now;
        let enough = wanted == Some(&*last) || same > wanted.map_or(8, |_| 100);
        Ok(enough.then(|| last.clone()))
    })
}

/// Addresses, routes, rules and tables of the firewall, without what differs by nature.
fn held(host: &Host) -> Result<String> {
    let text = host.sh(
        "ip -o address show | sed 's/^[0-9]*: //; s/ *valid_lft.*//' | grep -v 'scope link.*proto kernel_ll' | sort; \
         ip -o -d link show type macvlan | sed 's/^[0-9]*: //; s/@.*link/ link/' | awk '{print $1, $3}' | sort; \
         ip route show table all | grep -v '^fe80\\|^multicast\\|^ff00\\|^anycast' | sort; ip rule show | sort; \
         nft list ruleset",
    )?;
    Ok(text)
}
