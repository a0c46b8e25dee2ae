//! Where in a file a value stands that the configuration no longer knows the place of.
//!
//! What the parser makes of a file has no places in it, because the daemon needs none. `vipd check`
//! reads the file once more, and follows the keys.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A step on the way from the whole file to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To the value of a key.
    Key(&'static str),
    /// To an item of a list, from 0.
    Item(usize),
}

/// Keys whose items go by a name: the key of the list, and that of the name.
const NAMED: [(&str, &str); 5] = [
    ("vrrp", "name"),
    ("sync_group", "name"),
    ("track_script", "name"),
    ("virtual_server", "name"),
    ("real_server", "address"),
];

/// A value's place, or that of what it would stand in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// As problems call it: `vrrp "web".priority`.
    pub(super) key: String,
    /// In bytes of the file.
    pub(super) span: Range<usize>,
    /// Whether it is written; otherwise the place is that of the next table around it.
    pub(super) written: bool,
}

/// The first of several places that is written; else the place around the first.
pub(super) fn first(root: &DeTable<'_>, places: &[Vec<Step>]) -> Found {
    let mut found = places.iter().map(|steps| locate(root, steps));
    let first = found.next().unwrap_or_else(|| locate(root, &[]));
    if first.written {
        return first;
    }
    found.find(|other| other.written).unwrap_or(first)
}

fn locate(root: &DeTable<'_>, steps: &[Step]) -> Found {
    let mut found = Found {
        key: String::new(),
        span: 0..0,
        written: true,
    };
    let mut value: Option<&Spanned<DeValue<'_>>> = None;
    let mut list = "";
    for (depth, step) in steps.iter().enumerate() {
        let next = match *step {
            Step::Key(key) => {
                list = key;
                if depth > 0 {
                    found.key.push('.');
                }
                found.key.push_str(key);
                let table = match value {
                    None if depth == 0 => Some(root),
                    within => within.and_then(|value| value.get_ref().as_table()),
                };
                table.and_then(|table| table.get(key))
            }
            Step::Item(index) => {
                let array = value.and_then(|value| value.get_ref().as_array());
                let item = array.and_then(|array| array.get(index));
                found.key.push_str(&called(list, index, item));
                item
            }
        };
        found.written = next.is_some();
        if let Some(next) = next {
            found.span = next.span();
        }
        value = next;
    }
    found
}

/// ` "web"`, or `[3]`.
fn called(list: &str, index: usize, item: Option<&Spanned<DeValue<'_>>>) -> String {
    let name = NAMED.iter().find(|(key, _)| *key == list);
    let name = name.and_then(|(_, name)| {
        let table = item?.get_ref().as_table()?;
        table.get(*name)?.get_ref().as_str()
    });
    match name {
        Some(name) => format!(" {name:?}"),
        None => format!("[{index}]"),
    }
}
