//! How values are written in a plan, and where its changes are collected.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{Change, Risk};
use crate::config::shown_duration;

/// The changes so far, and whom the next one is about.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) changes: Vec<Change>,
    object: String,
}

/// A value as the configuration writes it.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

impl Notes {
    /// What follows is about that object.
    pub(super) fn about(&mut self, object: impl Into<String>) {
        self.object = object.into();
    }

    /// How many changes there are.
    pub(super) fn count(&self) -> usize {
        self.changes.len()
    }

    /// Notes the change of a key, if it is one.
    pub(super) fn key<T: Shown + PartialEq + ?Sized>(
        &mut self,
        risk: Risk,
        key: &str,
        old: &T,
        new: &T,
    ) {
        self.key_with(risk, key, old, new, None);
    }

    /// The same, with what follows from it.
    pub(super) fn key_with<T: Shown + PartialEq + ?Sized>(
        &mut self,
        risk: Risk,
        key: &str,
        old: &T,
        new: &T,
        note: Option<&str>,
    ) {
        if old != new {
            self.add(risk, key, Vec::new(), arrow(old, new), note);
        }
    }

    /// Notes that a key has another value that is not shown.
    pub(super) fn other<T: PartialEq + ?Sized>(&mut self, risk: Risk, key: &str, old: &T, new: &T) {
        if old != new {
            self.add(risk, key, Vec::new(), "changes".to_owned(), None);
        }
    }

    /// Notes something about the whole object.
    pub(super) fn whole(&mut self, risk: Risk, change: impl Into<String>, note: Option<&str>) {
        self.add(risk, "", Vec::new(), change.into(), note);
    }

    pub(super) fn add(
        &mut self,
        risk: Risk,
        key: &str,
        of: Vec<String>,
        change: String,
        note: Option<&str>,
    ) {
        self.changes.push(Change {
            object: self.object.clone(),
            risk,
            key: key.to_owned(),
            of,
            change,
            note: note.map(str::to_owned),
        });
    }

    /// Notes what comes into a list and what leaves it; or another order.
    pub(super) fn list<T: Shown + PartialEq>(
        &mut self,
        risk: Risk,
        key: &str,
        old: &[T],
        new: &[T],
    ) {
        if old == new {
            return;
        }
        let count = self.count();
        for gone in old.iter().filter(|item| !new.contains(item)) {
            self.add(
                risk,
                key,
                Vec::new(),
                format!("without {}", gone.shown()),
                None,
            );
        }
        for come in new.iter().filter(|item| !old.contains(item)) {
            self.add(
                risk,
                key,
                Vec::new(),
                format!("with {}", come.shown()),
                None,
            );
        }
        if self.count() == count {
            let change = "in another order".to_owned();
            self.add(Risk::None, key, Vec::new(), change, None);
        }
    }
}

/// `1 → 5`
pub(super) fn arrow<T: Shown + ?Sized>(old: &T, new: &T) -> String {
    format!("{} → {}", old.shown(), new.shown())
}

macro_rules! shown_as_displayed {
    ($($kind:ty),*) => {$(
        impl Shown for $kind {
            fn shown(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

shown_as_displayed!(
    bool, u8, u16, u32, i32, str, String, IpAddr, SocketAddr, IpNet
);

impl Shown for Duration {
    fn shown(&self) -> String {
        shown_duration(*self)
    }
}

impl Shown for PathBuf {
    fn shown(&self) -> String {
        self.display().to_string()
    }
}

impl Shown for RangeInclusive<u16> {
    fn shown(&self) -> String {
        let (start, end) = (self.start(), self.end());
        if start == end {
            start.to_string()
        } else {
            format!("{start}-{end}")
        }
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> String {
        self.as_ref().map_or("none".to_owned(), Shown::shown)
    }
}

impl<T: Shown> Shown for [T] {
    fn shown(&self) -> String {
        let items: Vec<String> = self.iter().map(Shown::shown).collect();
        if items.is_empty() {
            return "none".to_owned();
        }
        items.join(", ")
    }
}

impl<T: Shown> Shown for Vec<T> {
    fn shown(&self) -> String {
        self.as_slice().shown()
    }
}
