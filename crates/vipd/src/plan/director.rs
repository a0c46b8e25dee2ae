//! `[global]`, `[ipvs]`, `[sysctl]`, `[[sync_group]]`, `[[track_script]]`, `[[notify]]`.

use std::collections::BTreeSet;
use std::time::Duration;

use ipvs::Timeouts;

use super::Risk;
use super::words::{Notes, Shown, arrow};
use crate::config::{Global, Ipvs, Notify, NotifyBy, OnStop, Sync, SyncGroup, Sysctl, TrackScript};

pub(super) fn global(notes: &mut Notes, old: &Global, new: &Global) {
    let Global {
        name,
        control_socket,
        http,
        http_public,
        state_dir,
    } = old;
    notes.about("global");
    notes.key(Risk::None, "name", name, &new.name);
    let moved = Some("vipctl needs --socket from then on");
    let socket = (control_socket, &new.control_socket);
    notes.key_with(Risk::None, "control_socket", socket.0, socket.1, moved);
    notes.key(Risk::None, "http", http, &new.http);
    notes.key(Risk::None, "http_public", http_public, &new.http_public);
    let partly = Some(
        "what virtual MACs and kernel settings were before vipd stays in the old one until a restart",
    );
    notes.key_with(
        Risk::Restart,
        "state_dir",
        state_dir,
        &new.state_dir,
        partly,
    );
}

pub(super) fn sysctl(notes: &mut Notes, old: Sysctl, new: Sysctl) {
    let Sysctl { manage } = old;
    notes.about("sysctl");
    let given_back = (manage && !new.manage).then_some("what it was before is given back");
    notes.key_with(Risk::None, "manage", &manage, &new.manage, given_back);
}

pub(super) fn ipvs(notes: &mut Notes, old: &Ipvs, new: &Ipvs) {
    let Ipvs {
        resync_interval,
        on_stop,
        timeouts,
        sysctl,
        sync,
    } = old;
    notes.about("ipvs");
    let interval = (resync_interval, &new.resync_interval);
    notes.key(Risk::None, "resync_interval", interval.0, interval.1);
    notes.key(Risk::None, "on_stop", on_stop, &new.on_stop);
    notes.key(Risk::None, "timeouts", timeouts, &new.timeouts);
    let names: BTreeSet<&str> = sysctl.keys().chain(new.sysctl.keys()).copied().collect();
    for name in names {
        let (before, after) = (sysctl.get(name), new.sysctl.get(name));
        if before != after {
            let shown =
                |value: Option<&String>| value.cloned().unwrap_or("as it was found".to_owned());
            let change = arrow(&shown(before), &shown(after));
            notes.add(
                Risk::None,
                &format!("sysctl {name}"),
                Vec::new(),
                change,
                None,
            );
        }
    }
    match (sync, &new.sync) {
        (None, None) => {}
        (Some(_), None) => {
            let note = Some("the peer learns of no connections any more");
            notes.add(Risk::None, "sync", Vec::new(), "ends".to_owned(), note);
        }
        (None, Some(sync)) => {
            let change = format!("begins on {}", sync.interface);
            notes.add(Risk::None, "sync", Vec::new(), change, None);
        }
        (Some(old), Some(new)) => connection_sync(notes, old, new),
    }
}

fn connection_sync(notes: &mut Notes, old: &Sync, new: &Sync) {
    let Sync {
        interface,
        id,
        group,
        port,
        ttl,
        max_length,
        full_table,
        refresh,
    } = old;
    let both = Some("the peer must have the same");
    notes.key(Risk::None, "sync.interface", interface, &new.interface);
    notes.key_with(Risk::None, "sync.id", id, &new.id, both);
    notes.key_with(Risk::None, "sync.group", group, &new.group, both);
    notes.key_with(Risk::None, "sync.port", port, &new.port, both);
    notes.key(Risk::None, "sync.ttl", ttl, &new.ttl);
    notes.key(Risk::None, "sync.max_length", max_length, &new.max_length);
    notes.key(Risk::None, "sync.full_table", full_table, &new.full_table);
    notes.key(Risk::None, "sync.refresh", refresh, &new.refresh);
}

pub(super) fn sync_groups(notes: &mut Notes, old: &[SyncGroup], new: &[SyncGroup]) {
    let together = Some("its members are master together or not at all");
    for group in old {
        let SyncGroup { name, members } = group;
        notes.about(format!("sync_group {name}"));
        match new.iter().find(|other| other.name == *name) {
            Some(other) => notes.list(Risk::MayMove, "members", members, &other.members),
            None => notes.whole(Risk::None, "removed", Some("its members go their own ways")),
        }
    }
    for group in new {
        if !old.iter().any(|known| known.name == group.name) {
            notes.about(format!("sync_group {}", group.name));
            let change = format!("added: {}", group.members.shown());
            notes.whole(Risk::MayMove, change, together);
        }
    }
}

pub(super) fn track_scripts(notes: &mut Notes, old: &[TrackScript], new: &[TrackScript]) {
    for script in old {
        let TrackScript {
            name,
            command,
            interval,
            timeout,
            rise,
            fall,
            user,
        } = script;
        notes.about(format!("track_script {name}"));
        let Some(other) = new.iter().find(|other| other.name == *name) else {
            notes.whole(Risk::None, "removed", None);
            continue;
        };
        let again = Some("it is started anew");
        let (before, after) = (command.join(" "), other.command.join(" "));
        if command != &other.command {
            let change = arrow(&before, &after);
            notes.add(Risk::MayMove, "command", Vec::new(), change, again);
        }
        notes.key(Risk::None, "interval", interval, &other.interval);
        notes.key(Risk::None, "timeout", timeout, &other.timeout);
        notes.key(Risk::None, "rise", rise, &other.rise);
        notes.key(Risk::None, "fall", fall, &other.fall);
        notes.key_with(Risk::MayMove, "user", user, &other.user, again);
    }
    for script in new {
        if !old.iter().any(|known| known.name == script.name) {
            notes.about(format!("track_script {}", script.name));
            let change = format!("added: {}", script.command.join(" "));
            notes.whole(Risk::None, change, None);
        }
    }
}

/// What is told stands in general words: tokens are in URLs, headers and arguments.
pub(super) fn notify(notes: &mut Notes, old: &[Notify], new: &[Notify]) {
    for entry in old {
        let Notify {
            name,
            events,
            objects,
            timeout,
            by,
        } = entry;
        notes.about(format!("notify {name}"));
        let Some(other) = new.iter().find(|other| other.name == *name) else {
            notes.whole(Risk::None, "removed", Some("nobody is told by it any more"));
            continue;
        };
        notes.list(Risk::None, "events", events, &other.events);
        notes.list(Risk::None, "objects", objects, &other.objects);
        notes.key(Risk::None, "timeout", timeout, &other.timeout);
        if by == &other.by {
            continue;
        }
        match (by, &other.by) {
            (NotifyBy::Command { .. }, NotifyBy::Webhook(_)) => {
                notes.whole(Risk::None, "a command → a webhook", None);
            }
            (NotifyBy::Webhook(_), NotifyBy::Command { .. }) => {
                notes.whole(Risk::None, "a webhook → a command", None);
            }
            (
                NotifyBy::Command {
                    program,
                    keepalived_arguments,
                },
                NotifyBy::Command {
                    program: program_then,
                    keepalived_arguments: then,
                },
            ) => {
                notes.other(Risk::None, "command or user", program, program_then);
                notes.key(
                    Risk::None,
                    "keepalived_arguments",
                    keepalived_arguments,
                    then,
                );
            }
            (NotifyBy::Webhook(webhook), NotifyBy::Webhook(then)) => {
                notes.other(Risk::None, "webhook or headers", webhook, then);
            }
        }
    }
    for entry in new {
        if !old.iter().any(|known| known.name == entry.name) {
            notes.about(format!("notify {}", entry.name));
            let change = format!("added: {}", entry.events.shown());
            notes.whole(Risk::None, change, None);
        }
    }
}

impl Shown for OnStop {
    fn shown(&self) -> String {
        match self {
            OnStop::Remove => "remove",
            OnStop::Keep => "keep",
        }
        .to_owned()
    }
}

impl Shown for Timeouts {
    fn shown(&self) -> String {
        let Timeouts { tcp, tcp_fin, udp } = self;
        let one = |timeout: &Duration| match timeout.is_zero() {
            true => "the kernel's".to_owned(),
            false => timeout.shown(),
        };
        format!(
            "tcp {}, tcp_fin {}, udp {}",
            one(tcp),
            one(tcp_fin),
            one(udp)
        )
    }
}
