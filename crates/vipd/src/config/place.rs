//! Where something stands in the file, as the keys that lead to it.
//!
//! Every value has its place, and of 40,000 real servers hardly one is ever asked for it: it is put in
//! words only where something is wrong.

use std::fmt;
use std::rc::Rc;

/// A path such as `vrrp "web".track[1].weight`.
#[derive(Debug, Clone)]
pub(super) enum Place<'a> {
    /// The whole file.
    Root,
    /// A key of a table.
    Key(Rc<Place<'a>>, &'a str),
    /// An item of a list, from 0.
    Item(Rc<Place<'a>>, usize),
    /// An item of a list that is called by its name.
    Named(Rc<Place<'a>>, &'a str),
}

impl<'a> Place<'a> {
    pub(super) fn key(table: &Rc<Place<'a>>, key: &'a str) -> Place<'a> {
        Place::Key(Rc::clone(table), key)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Root => Ok(()),
            Place::Key(table, key) => {
                if !matches!(**table, Place::Root) {
                    write!(f, "{table}.")?;
                }
                // Keys that TOML would quote are quoted.
                let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                if !key.is_empty() && key.chars().all(bare) {
                    f.write_str(key)
                } else {
                    write!(f, "{key:?}")
                }
            }
            Place::Item(list, index) => write!(f, "{list}[{index}]"),
            Place::Named(list, name) => write!(f, "{list} {name:?}"),
        }
    }
}
