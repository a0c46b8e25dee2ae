//! vipd.toml(5): the tables of keys as a manual page.

use std::fmt::Write;

use vipd::config::keys::{Absent, Key, ROOT, Table};

use crate::manual::escaped;
use crate::reference::{absent, header, kind, tables};

/// The page.
#[must_use]
pub fn config_page() -> String {
    let mut page = String::from(
        ".TH vipd.toml 5 \"\" \"\" vipd\n.SH NAME\nvipd.toml \\- configuration of the load\\-balancer director vipd\n\
         .SH DESCRIPTION\nOne TOML file of at most 8 MiB. Durations are strings with a unit: \"250ms\", \"5s\", \"1h30m\".\n\
         .B vipd check\nfinds every mistake in it,\n.B vipd schema\nprints its JSON Schema for editors.\n",
    );
    let _ = writeln!(page, ".SH TABLES");
    for key in ROOT.keys {
        let _ = writeln!(
            page,
            ".TP\n.B {}\n{}",
            escaped(&header(&[key.name])),
            escaped(key.doc)
        );
    }
    for (path, table) in tables() {
        part(&path, table, &mut page);
    }
    page.push_str(".SH \"SEE ALSO\"\n.BR vipd (8),\n.BR vipctl (8)\n");
    page
}

fn part(path: &[&str], table: &Table, page: &mut String) {
    let _ = writeln!(
        page,
        ".SH \"{}\"\n{}",
        escaped(&header(path).to_uppercase()),
        escaped(table.doc)
    );
    for key in table.keys {
        let Key { name, doc, .. } = key;
        let without = match key.absent {
            Absent::Words(words) => format!("default: {words}"),
            other @ (Absent::Problem | Absent::Value(_)) => absent(other),
        };
        let mut about = format!("{}; {without}. {doc}", kind(&key.kind));
        if !key.of.is_empty() {
            about.push_str(&format!(" Only with type {}.", key.of.join(", ")));
        }
        let _ = writeln!(
            page,
            ".TP\n.B {}\n{}",
            escaped(name),
            escaped(&about.replace('`', ""))
        );
    }
}
