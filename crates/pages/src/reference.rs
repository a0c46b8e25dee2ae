//! docs/config-reference.md: the tables of keys as Markdown.

use std::fmt::Write;

use vipd::config::keys::{Absent, Kind, ROOT, Table};
use vipd::config::schema::shown;

/// The document.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Configuration reference\n\n\
         Every key, from the tables that the daemon checks a file by (`crates/vipd/src/config/keys.rs`);\n\
         [config.md](config.md) explains them. Generated: `UPDATE_EXPECT=1 cargo test -p pages` writes it anew.\n",
    );
    for (path, table) in tables() {
        let _ = writeln!(text, "\n## `{}`\n\n{}\n", header(&path), table.doc);
        if !table.one_of.is_empty() {
            let keys: Vec<String> = table.one_of.iter().map(|key| format!("`{key}`")).collect();
            let _ = writeln!(text, "Exactly one of {} is written.\n", keys.join(", "));
        }
        text.push_str("| key | type | default | |\n|---|---|---|---|\n");
        for key in table.keys {
            let mut doc = key.doc.to_owned();
            if !key.of.is_empty() {
                let of: Vec<String> = key.of.iter().map(|of| format!("`\"{of}\"`")).collect();
                doc.push_str(&format!(" Only with `type` {}.", of.join(", ")));
            }
            let kind = kind(&key.kind).replace('|', "\\|");
            let absent = match key.absent {
                Absent::Value(value) => format!("`{value}`"),
                other @ (Absent::Problem | Absent::Words(_)) => absent(other),
            };
            let doc = doc.replace('|', "\\|");
            let _ = writeln!(text, "| `{}` | {kind} | {absent} | {doc} |", key.name);
        }
    }
    text
}

/// Every table, and the keys that lead to it first; a table that stands in several places once.
pub(crate) fn tables() -> Vec<(Vec<&'static str>, &'static Table)> {
    fn below(
        path: &[&'static str],
        table: &'static Table,
        found: &mut Vec<(Vec<&'static str>, &'static Table)>,
    ) {
        for key in table.keys {
            let Some(table) = key.kind.table() else {
                continue;
            };
            if found.iter().all(|(_, known)| !std::ptr::eq(*known, table)) {
                let path = [path, &[key.name]].concat();
                found.push((path.clone(), table));
                below(&path, table, found);
            }
        }
    }
    let mut found = Vec::new();
    below(&[], &ROOT, &mut found);
    found
}

/// As the table is written: `[global]`, `[[vrrp]]`, `[[virtual_server]] check`.
pub(crate) fn header(path: &[&str]) -> String {
    let Some((first, rest)) = path.split_first() else {
        return String::new();
    };
    let list = ROOT
        .key(first)
        .is_some_and(|key| matches!(key.kind, Kind::Tables(_)));
    let mut text = match (list, rest) {
        (true, ["real_server", ..]) => "[[virtual_server.real_server]]".to_owned(),
        (true, _) => format!("[[{first}]]"),
        (false, _) => format!("[{first}]"),
    };
    for key in rest.iter().filter(|key| **key != "real_server") {
        text.push_str(&format!(" {key}"));
    }
    text
}

/// A type as people read it.
pub(crate) fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "boolean".to_owned(),
        Kind::Integer(from, to) => format!("{from} to {to}"),
        Kind::Duration(from, to) => format!("duration, {} to {}", shown(*from), shown(*to)),
        Kind::Word(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
            words.join(", ")
        }
        Kind::Text(form) => form.name.to_owned(),
        Kind::List(Kind::Table(_)) => "list of tables".to_owned(),
        Kind::List(item) => format!("list of: {}", self::kind(item)),
        Kind::Table(_) => "table".to_owned(),
        Kind::Tables(_) => "list of tables".to_owned(),
        Kind::Map(_) => "table of texts".to_owned(),
        Kind::Either(kinds) => {
            let kinds: Vec<String> = kinds.iter().map(self::kind).collect();
            kinds.join("; ")
        }
    }
}

/// What holds without the key.
pub(crate) fn absent(absent: Absent) -> String {
    match absent {
        Absent::Problem => "required".to_owned(),
        Absent::Value(value) => format!("default {value}"),
        Absent::Words(words) => words.to_owned(),
    }
}
