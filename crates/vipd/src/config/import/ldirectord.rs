//! `ldirectord.cf`: global directives, then a block for each virtual server, indented.

mod address;
mod check;
mod directive;
mod settings;
mod virtual_server;

use super::document::{Document, Section};
use super::host::Host;
use super::name::Names;
use super::notes::Notes;
use address::Ports;
use directive::Directive;
use settings::Settings;

/// Everything that the file says.
pub(super) fn read(notes: &mut Notes, host: &dyn Host) -> Document {
    let (global, blocks) = directive::blocks(notes);
    let ports = Ports::read(host);
    let mut document = Document::default();
    let mut settings = Settings::default();
    let mut ipvs = Section::new("[ipvs]");
    for line in &global {
        if !settings.read(line, notes) {
            self::global(line, &mut ipvs, notes);
        }
    }
    document.push(ipvs);
    let mut names = Names::default();
    for block in &blocks {
        virtual_server::announce(block, &ports, &mut names);
    }
    let mut notifies = Vec::new();
    for block in &blocks {
        let mut around = virtual_server::Around {
            settings: &settings,
            ports: &ports,
            names: &mut names,
            notifies: &mut notifies,
        };
        if let Some(server) = virtual_server::read(block, &mut around, notes) {
            document.push(server.section());
        }
    }
    for notify in notifies {
        document.push(notify);
    }
    document
}

/// What is of the daemon alone.
fn global(line: &Directive, ipvs: &mut Section, notes: &mut Notes) {
    const NO_COPY: &str = "vipd copies no configuration";
    match line.key.as_str() {
        "cleanstop" => match line.value.as_str() {
            "no" => ipvs.set("on_stop", "keep"),
            "yes" => {}
            _ => line.lost(notes, "is neither yes nor no", "write yes or no"),
        },
        "autoreload" if line.value == "no" => {}
        "autoreload" => {
            let help = "run `vipctl plan`, then `vipctl reload --confirm 1m`";
            line.lost(notes, "vipd reloads when it is told to", help);
        }
        "callback" => line.lost(notes, NO_COPY, "copy it yourself, then run `vipctl reload`"),
        "execute" => {
            let help = "import that file, too; the systemd unit vipd@NAME runs a second daemon";
            line.lost(notes, "vipd has one file for each daemon", help);
        }
        "maintenancedir" => {
            let help = "run `vipctl drain VIRTUAL_SERVER REAL_SERVER`, and `vipctl enable`";
            line.lost(notes, "no file takes a real server out", help);
        }
        "logfile" => line.idle(notes, "vipd's log is in the journal"),
        "fork" | "supervised" => line.idle(notes, "vipd is one process, in the foreground"),
        "emailalertfrom" | "smtp" => settings::no_mail(line, notes),
        _ => line.lost(
            notes,
            "not known in ldirectord.cf",
            "it is left out of the result",
        ),
    }
}
