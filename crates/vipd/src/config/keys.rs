//! Every key of the file as data: its type, range, unit, default, and what it is for.
//!
//! The JSON Schema, the reference, the manual page and "did you mean" come from these tables. The parser
//! reads the same keys by itself: in debug builds each table that is read to its end is compared with its
//! table here (`disagreement`), and `tests/schema.rs` compares types, ranges, words and defaults. So
//! **who adds a key to the parser adds it here**, or the tests say which one is missing.

mod check;
mod director;
mod router;
mod server;

pub use director::ROOT;

/// A table of the file.
#[derive(Debug)]
pub struct Table {
    /// What it is, in a line.
    pub doc: &'static str,
    /// Keys of which exactly one is written; empty: there is no such choice.
    pub one_of: &'static [&'static str],
    /// Its keys, in the order in which a person reads them.
    pub keys: &'static [Key],
}

/// A key of a table.
#[derive(Debug)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What holds where it is not written.
    pub absent: Absent,
    /// What it is for, in a line or two.
    pub doc: &'static str,
    /// The values of `type` beside it with which it may stand; empty: all.
    pub of: &'static [&'static str],
}

/// What a value may be.
#[derive(Debug)]
pub enum Kind {
    /// `true` or `false`
    Boolean,
    /// A whole number from one to the other.
    Integer(i64, i64),
    /// A text with a unit, from one to the other, milliseconds.
    Duration(u64, u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text with a meaning.
    Text(&'static Form),
    /// A list.
    List(&'static Kind),
    /// A table.
    Table(&'static Table),
    /// A list of tables, each of which may stand under a header `[[...]]`.
    Tables(&'static Table),
    /// A table whose keys are the user's.
    Map(&'static Kind),
    /// One of several.
    Either(&'static [Kind]),
}

/// A kind of text.
#[derive(Debug)]
pub struct Form {
    /// What people call it.
    pub name: &'static str,
    /// A regular expression that all of them match (the parser knows more).
    pub pattern: &'static str,
}

/// What holds where a key is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It must be written.
    Problem,
    /// The same as with this value, as TOML.
    Value(&'static str),
    /// What no value says.
    Words(&'static str),
}

impl Table {
    /// The key of that name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Kind {
    /// The table that it is, or that its items are.
    #[must_use]
    pub fn table(&self) -> Option<&'static Table> {
        match self {
            Kind::Table(table) | Kind::Tables(table) => Some(table),
            Kind::List(kind) => kind.table(),
            Kind::Either(kinds) => kinds.iter().find_map(Kind::table),
            Kind::Boolean
            | Kind::Integer(..)
            | Kind::Duration(..)
            | Kind::Word(_)
            | Kind::Text(_)
            | Kind::Map(_) => None,
        }
    }
}

/// The table that a problem's path leads to: `vrrp "web".garp`, `virtual_server[0].check`.
pub(super) fn table_at(path: &str) -> Option<&'static Table> {
    let mut table = &ROOT;
    for step in steps(path) {
        table = table.key(&step)?.kind.table()?;
    }
    Some(table)
}

/// A path without the names and numbers of list items: `vrrp.garp`.
pub(super) fn place_of(path: &str) -> String {
    steps(path).join(".")
}

/// The keys of a path, without the names and numbers of list items.
fn steps(path: &str) -> Vec<String> {
    let mut steps = vec![String::new()];
    let (mut quoted, mut escaped, mut number) = (false, false, false);
    for c in path.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' => number = true,
            ']' => number = false,
            '.' => steps.push(String::new()),
            ' ' => {}
            _ if number => {}
            _ => steps.last_mut().into_iter().for_each(|step| step.push(c)),
        }
    }
    steps.retain(|step| !step.is_empty());
    steps
}

/// Where the parser, which asked a table for these keys, and the table here differ.
pub(super) fn disagreement(path: &str, asked: &[&str], refused: &[&str]) -> Option<String> {
    let Some(table) = table_at(path) else {
        return Some(format!("config::keys has no table {path}"));
    };
    // What is refused may be planned, and is no key then.
    if let Some(key) = asked.iter().find(|key| table.key(key).is_none()) {
        return Some(format!("config::keys has no key {key} in {path:?}"));
    }
    // The keys of other types are refused only where they are written.
    let unread = |key: &&Key| {
        key.of.is_empty() && !asked.contains(&key.name) && !refused.contains(&key.name)
    };
    let unread = table.keys.iter().find(unread)?;
    Some(format!(
        "the parser does not know the key {} of config::keys in {path:?}",
        unread.name
    ))
}

/// A key that must be there.
const fn need(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        absent: Absent::Problem,
        doc,
        of: &[],
    }
}

/// A key with a default, as TOML.
const fn or(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        absent: Absent::Value(default),
        ..need(name, kind, doc)
    }
}

/// A key whose absence means something else than a value.
const fn may(name: &'static str, kind: Kind, absent: &'static str, doc: &'static str) -> Key {
    Key {
        absent: Absent::Words(absent),
        ..need(name, kind, doc)
    }
}

impl Key {
    /// Only with these values of `type`.
    const fn of(self, types: &'static [&'static str]) -> Key {
        Key { of: types, ..self }
    }
}

const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;
const U32: i64 = u32::MAX as i64;
const I32: i64 = i32::MAX as i64;

const NAME: Kind = Kind::Text(&Form {
    name: "name",
    pattern: r"^\S(.{0,62}\S)?$",
});
const INTERFACE: Kind = Kind::Text(&Form {
    name: "interface",
    pattern: r"^[^/:\s]{1,15}$",
});
const PATH: Kind = Kind::Text(&Form {
    name: "absolute path",
    pattern: "^/",
});
const ADDRESS: Kind = Kind::Text(&Form {
    name: "IP address",
    pattern: r"^([0-9.]{7,15}|[0-9A-Fa-f:.]{2,45}|\[[0-9A-Fa-f:.]{2,45}\])$",
});
const ADDRESS_AND_PORT: Kind = Kind::Text(&Form {
    name: "IP:port",
    pattern: r"^([0-9.]{7,15}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}$",
});
const ADDRESS_OR_PORT: Kind = Kind::Text(&Form {
    name: "IP, or IP:port",
    pattern: r"^([0-9.]{7,15}(:[0-9]{1,5})?|[0-9A-Fa-f:.]{2,45}|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?)$",
});
const PREFIX: Kind = Kind::Text(&Form {
    name: "IP address/length",
    pattern: r"^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$",
});
const TEXT: Kind = Kind::Text(&Form {
    name: "text",
    pattern: "",
});
const SOME_TEXT: Kind = Kind::Text(&Form {
    name: "text, not empty",
    pattern: "(?s).",
});
const HOST: Kind = Kind::Text(&Form {
    name: "host name",
    pattern: r"^\S{1,254}$",
});
const URL: Kind = Kind::Text(&Form {
    name: "http:// or https:// URL",
    pattern: r"^[Hh][Tt][Tt][Pp][Ss]?://[^/]",
});
const PORT: Kind = Kind::Integer(1, 65535);
const COMMAND: Kind = Kind::List(&TEXT);
