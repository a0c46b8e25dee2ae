//! Virtual servers, and the synchronisation of connections, of two directors.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipvs::{DestinationKey, ServiceKey};

use super::Differences;
use crate::config::locate::Step::{Item, Key};
use crate::config::{Config, RealServer, VirtualServer};

pub(super) fn compare(own: &Config, peer: &Config, found: &mut Differences) {
    synchronisation(own, peer, found);
    let (here, there) = (Index::of(own), Index::of(peer));
    for (index, server) in own.virtual_servers.iter().enumerate() {
        match there.counterpart(server) {
            Some(number) => {
                if let Some(theirs) = peer.virtual_servers.get(number) {
                    servers([index, number], server, theirs, found);
                }
            }
            None => found.add(
                vec![Key("virtual_server"), Item(index)],
                Vec::new(),
                format!("the peer has no virtual server {:?}", server.name),
                "add it there, or its clients find nobody after a failover",
            ),
        }
    }
    for (index, server) in peer.virtual_servers.iter().enumerate() {
        if here.counterpart(server).is_none() {
            found.add(
                Vec::new(),
                vec![Key("virtual_server"), Item(index)],
                format!("only the peer has the virtual server {:?}", server.name),
                "add it here, or its clients find nobody after a failover",
            );
        }
    }
}

/// The numbers of virtual servers by name, and by what the kernel finds them by.
struct Index<'c> {
    names: HashMap<&'c str, usize>,
    keys: BTreeMap<ServiceKey, usize>,
}

impl<'c> Index<'c> {
    fn of(config: &'c Config) -> Index<'c> {
        let servers = || config.virtual_servers.iter().enumerate();
        Index {
            names: servers().map(|(n, it)| (it.name.as_str(), n)).collect(),
            keys: servers()
                .flat_map(|(n, it)| it.keys.iter().map(move |key| (*key, n)))
                .collect(),
        }
    }

    fn counterpart(&self, server: &VirtualServer) -> Option<usize> {
        let by_key = || server.keys.iter().find_map(|key| self.keys.get(key));
        self.names
            .get(server.name.as_str())
            .or_else(by_key)
            .copied()
    }
}

fn servers(
    numbers: [usize; 2],
    own: &VirtualServer,
    peer: &VirtualServer,
    found: &mut Differences,
) {
    let at = |key| numbers.map(|number| vec![Key("virtual_server"), Item(number), Key(key)]);
    let mut differ = |key, differs: bool, message: String| {
        if differs {
            let [own, peer] = at(key);
            found.add(own, peer, message, "write the same in both files");
        }
    };
    let shown = |keys: &[ServiceKey]| {
        let keys: Vec<String> = keys.iter().map(ServiceKey::to_string).collect();
        keys.join(", ")
    };
    differ(
        "name",
        own.name != peer.name,
        format!("the name is {:?} here and {:?} there", own.name, peer.name),
    );
    let keys = |server: &VirtualServer| server.keys.iter().copied().collect::<BTreeSet<_>>();
    differ(
        "address",
        keys(own) != keys(peer),
        format!(
            "it is {} here and {} there",
            shown(&own.keys),
            shown(&peer.keys)
        ),
    );
    let scheduler = |server: &VirtualServer| server.service.scheduler.as_str().to_owned();
    differ(
        "scheduler",
        scheduler(own) != scheduler(peer),
        format!(
            "the scheduler is {} here and {} there",
            scheduler(own),
            scheduler(peer)
        ),
    );
    differ(
        "scheduler_flags",
        scheduler(own) == scheduler(peer) && own.service.flags != peer.service.flags,
        "the flags of the scheduler differ".to_owned(),
    );
    differ(
        "persistence",
        own.service.persistence != peer.service.persistence || own.netmask6 != peer.netmask6,
        "the persistence differs: after a failover clients would change their real server"
            .to_owned(),
    );
    differ(
        "mark",
        own.marks != peer.marks,
        "other packets get the firewall mark".to_owned(),
    );
    differ(
        "quorum",
        own.quorum != peer.quorum,
        format!(
            "the quorum is {} here and {} there",
            own.quorum, peer.quorum
        ),
    );
    differ(
        "sorry_server",
        own.sorry_server != peer.sorry_server,
        "the sorry servers differ".to_owned(),
    );
    real_servers(numbers, own, peer, found);
}

fn real_servers(
    numbers: [usize; 2],
    own: &VirtualServer,
    peer: &VirtualServer,
    found: &mut Differences,
) {
    type Reals<'s> = BTreeMap<DestinationKey, (usize, &'s RealServer)>;
    fn reals(server: &VirtualServer) -> Reals<'_> {
        let reals = server.real_servers.iter().enumerate();
        reals.map(|(n, real)| (real.key, (n, real))).collect()
    }
    let [here, there] = numbers.map(|number| vec![Key("virtual_server"), Item(number)]);
    let at = |mut server: Vec<_>, number| {
        server.extend([Key("real_server"), Item(number)]);
        server
    };
    let (mine, theirs) = (reals(own), reals(peer));
    for (key, (number, real)) in &mine {
        let place = at(here.clone(), *number);
        let Some((other, their)) = theirs.get(key) else {
            found.add(
                place,
                there.clone(),
                format!("the peer has no real server {key}"),
                "add it there, or remove it here",
            );
            continue;
        };
        if real.destination != their.destination || real.masquerade != their.masquerade {
            let (a, b) = (&real.destination, &their.destination);
            let what = if a.weight != b.weight {
                format!("the weight is {} here and {} there", a.weight, b.weight)
            } else if a.forwarding != b.forwarding || real.masquerade != their.masquerade {
                "it is forwarded in another way there".to_owned()
            } else {
                "the thresholds differ".to_owned()
            };
            found.add(
                place,
                at(there.clone(), *other),
                what,
                "write the same in both files",
            );
        }
    }
    for (key, (number, _)) in &theirs {
        if !mine.contains_key(key) {
            found.add(
                here.clone(),
                at(there.clone(), *number),
                format!("only the peer has the real server {key}"),
                "add it here, or remove it there",
            );
        }
    }
}

fn synchronisation(own: &Config, peer: &Config, found: &mut Differences) {
    let at = |key| vec![Key("ipvs"), Key("sync"), Key(key)];
    let sync = || vec![Key("ipvs"), Key("sync")];
    let (mine, theirs) = match (&own.ipvs.sync, &peer.ipvs.sync) {
        (None, None) => return,
        (Some(mine), Some(theirs)) => (mine, theirs),
        (mine, _) => {
            let whose = if mine.is_some() { "here" } else { "there" };
            found.add(
                sync(),
                sync(),
                format!("connections are synchronised only {whose}"),
                "write `sync` in both files",
            );
            return;
        }
    };
    for (key, differs, here, there) in [
        (
            "id",
            mine.id != theirs.id,
            mine.id.to_string(),
            theirs.id.to_string(),
        ),
        (
            "group",
            mine.group != theirs.group,
            mine.group.to_string(),
            theirs.group.to_string(),
        ),
        (
            "port",
            mine.port != theirs.port,
            mine.port.to_string(),
            theirs.port.to_string(),
        ),
    ] {
        if differs {
            found.add(
                at(key),
                at(key),
                format!("is {here} here and {there} there: the directors do not hear each other"),
                "write the same in both files",
            );
        }
    }
}
