//! `vipd release`: removes what a dead daemon left behind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ipvs::Table;
use tokio::net::UnixStream;

use crate::config::{Config, OnStop, Vrrp, is_way};
use crate::holdings::{Role, virtual_macs_of};
use crate::instance::{self, Lock};
use crate::net::addresses::{self, RouterAddresses, Wanted};
use crate::net::links::{self, Links};
use crate::net::{firewall, ipvs_sysctl, routes, virtual_mac};
use crate::vrrp_loop::{Spec, say_stop};

/// How long the kernel may take for everything.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Removes the virtual addresses of the configuration and every other one that vipd had added,
/// after telling the peers with priority 0; with `ipvs` also the configured services. Returns what
/// was done, a line each, and what was not. Of the virtual routers in `mute` the key is not known: their
/// peers cannot be told. What a guard is doing is waited for, unless that is who runs it.
///
/// # Errors
///
/// A daemon is running there, or the kernel refused.
pub async fn release(
    config: &Config,
    mute: &BTreeSet<String>,
    ipvs: bool,
    after_guard: bool,
) -> Result<Vec<String>, String> {
    let socket = &config.global.control_socket;
    if UnixStream::connect(socket).await.is_ok() {
        let socket = socket.display();
        return Err(format!(
            "vipd is running (it answers at {socket}): stop it first"
        ));
    }
    if let Some(who) = instance::running() {
        return Err(format!("vipd is running ({who}): stop it first"));
    }
    let _lock = match after_guard {
        true => None,
        false => Some(Lock::guard()?),
    };
    let release = async {
        let mut done = release_holdings(config, mute, ipvs).await?;
        if ipvs {
            done.extend(release_services(config)?);
        }
        Ok(done)
    };
    tokio::time::timeout(TIMEOUT, release)
        .await
        .unwrap_or_else(|_| Err(format!("the kernel did not answer within {TIMEOUT:?}")))
}

/// Removes everything that a master holds beside IPVS. What the table needs to work (marks, settings) stays
/// with it where it is kept.
pub(crate) async fn release_holdings(
    config: &Config,
    mute: &BTreeSet<String>,
    ipvs: bool,
) -> Result<Vec<String>, String> {
    let mut done = release_addresses(config, mute).await?;
    done.extend(routes::release().await?);
    if ipvs || config.ipvs.on_stop == OnStop::Remove {
        done.extend(firewall::release().await?);
        done.extend(ipvs_sysctl::release(&config.global.state_dir)?);
    }
    let macs = virtual_macs_of(config, |_| Role::default());
    done.extend(virtual_mac::release(&macs, &config.global.state_dir).await?);
    Ok(done)
}

async fn release_addresses(
    config: &Config,
    mute: &BTreeSet<String>,
) -> Result<Vec<String>, String> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    let links = links::dump(&handle)
        .await
        .map_err(|e| format!("reading the addresses: {e}"))?;
    let wanted: Wanted = config
        .vrrp
        .iter()
        .map(|vrrp| {
            let router = RouterAddresses {
                addresses: vrrp.addresses.clone(),
                hold: false,
                owner: vrrp.parameters.priority == vrrp::PRIORITY_OWNER,
                announce: 0,
                garp: vrrp.garp,
            };
            (vrrp.name.clone(), router)
        })
        .collect();
    let left = addresses::unwanted(&links, &wanted, &BTreeSet::new());
    let mut done = Vec::new();
    // The peers first: they take over while the addresses go.
    for vrrp in &config.vrrp {
        let held = vrrp.addresses.iter().any(|address| {
            left.iter()
                .any(|(_, place)| *place == (address.interface.clone(), address.address))
        });
        if !held {
            continue;
        }
        if mute.contains(&vrrp.name) {
            done.push(format!(
                "did not tell the peers of router {}, whose key cannot be read: they wait until its \
                 master is missed",
                vrrp.name
            ));
        } else if let Some(told) = resign(vrrp, &links, config) {
            // The addresses go all the same.
            done.push(told.unwrap_or_else(|why| why));
        }
    }
    for (index, (interface, address)) in left {
        addresses::delete(&handle, index, address)
            .await
            .map_err(|error| format!("removing {address} from {interface}: {error}"))?;
        done.push(format!("removed {address} from {interface}"));
    }
    Ok(done)
}

/// Sends one advert of priority 0 in the name of a virtual router (RFC 3768 §5.3.4).
fn resign(vrrp: &Vrrp, links: &Links, config: &Config) -> Option<Result<String, String>> {
    let link = links.named(&vrrp.interface).filter(|link| link.up)?;
    let source = config.advert_source(vrrp, link)?;
    let what = format!(
        "router {} (VRID {} on {})",
        vrrp.name, vrrp.parameters.vrid, vrrp.interface
    );
    let spec = Spec::new(config, vrrp, Arc::default());
    Some(match say_stop(&spec, link, source) {
        Ok(()) => Ok(format!("told the peers that {what} gives up")),
        Err(error) => Err(format!("telling the peers about {what}: {error}")),
    })
}

fn release_services(config: &Config) -> Result<Vec<String>, String> {
    if config.virtual_servers.is_empty() {
        return Ok(Vec::new());
    }
    let mut client = ipvs::Client::open().map_err(|error| error.to_string())?;
    let dump = client
        .dump()
        .map_err(|error| format!("reading the IPVS table: {error}"))?;
    let configured = |key| {
        config
            .virtual_servers
            .iter()
            .any(|server| server.keys.contains(&key))
            || is_way(&key)
    };
    let ours: Table = dump
        .table
        .into_iter()
        .filter(|(key, _)| configured(*key))
        .collect();
    let changes = ipvs::diff(&ours, &Table::new());
    let results = client.apply(&changes);
    changes
        .iter()
        .zip(results)
        .map(|(change, result)| {
            result
                .map(|()| change.to_string())
                .map_err(|e| e.to_string())
        })
        .collect()
}
