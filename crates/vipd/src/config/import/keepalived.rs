//! `keepalived.conf`.
//!
//! `expand` makes lines of the files (comments, conditions, definitions, includes), `lexer` words of the
//! lines, `block` the tree of blocks. Each block then has a module of its name that writes what it means to
//! vipd.toml, with `context` at hand: what the rest of the file says, and where problems go.

mod address;
mod block;
mod check;
mod command;
mod context;
mod expand;
mod front;
mod global;
mod group;
mod instance;
mod lexer;
mod lost;
mod notify;
mod pace;
mod real;
mod route;
mod script;
mod track;
mod virtual_server;

use super::document::Document;
use super::host::Host;
use super::name::Names;
use super::notes::Notes;
use block::Node;
use context::Context;

/// Everything that the first file of `notes` says, and what it includes.
pub(super) fn read(notes: &mut Notes, id: Option<&str>, host: &dyn Host) -> Document {
    let lines = expand::lines(notes, id, host);
    let tree = block::tree(&lines, notes);
    hide_secrets(&tree, notes);
    let mut document = Document::default();
    let mut cx = Context::new(&tree, notes, host);
    let mut names = Names::default();
    global::write(&tree, &mut cx, &mut document);
    virtual_server::announce(&tree, &mut names);
    for node in &tree {
        match node.keyword() {
            // Read before everything else.
            "global_defs"
            | "track_file"
            | "vrrp_track_file"
            | "vrrp_track_process"
            | "virtual_server_group" => {}
            "vrrp_script" => script::write(node, &mut cx, &mut document),
            "vrrp_instance" => instance::write(node, &mut cx, &mut document),
            "vrrp_sync_group" => group::write(node, &mut cx, &mut document),
            "virtual_server" => virtual_server::write(node, &mut cx, &mut names, &mut document),
            _ => lost::report(node, &lost::TOP, "keepalived.conf", &mut cx),
        }
    }
    cx.notifies.write(&mut document);
    document
}

fn hide_secrets(nodes: &[Node], notes: &mut Notes) {
    for node in nodes {
        if matches!(node.keyword(), "auth_pass" | "password" | "key") {
            for word in node.args() {
                notes.hide(&word.place);
            }
        }
        hide_secrets(&node.children, notes);
    }
}
