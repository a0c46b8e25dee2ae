//! Counters of the advert path: atomics, so that whoever reads them never holds the path up.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vrrp::{ChecksumForm, Discard};

/// Adverts of one virtual router.
#[derive(Debug, Default)]
pub struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    /// Of the received ones of version 3 over IPv4: with and without the pseudo-header in the sum.
    forms: [AtomicU64; 2],
    /// By the position of the reason. Most routers never discard anything, and there may be a
    /// thousand: it is there from the first on.
    discarded: OnceLock<Box<[AtomicU64]>>,
}

/// What [`Counters`] have counted, for another process that goes on with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    sent: u64,
    received: u64,
    forms: [u64; 2],
    discarded: BTreeMap<String, u64>,
}

impl Counters {
    /// What they have counted so far.
    pub(crate) fn counts(&self) -> Counts {
        let discarded = self.discarded().filter(|(_, count)| *count > 0);
        let [pseudo_header, message_only] = &self.forms;
        let forms = [pseudo_header, message_only].map(|form| form.load(Ordering::Relaxed));
        Counts {
            sent: self.sent(),
            received: self.received(),
            forms,
            discarded: discarded.map(|(name, n)| (name.to_owned(), n)).collect(),
        }
    }

    /// Goes on from there.
    pub(crate) fn go_on(&self, counts: &Counts) {
        self.sent.fetch_add(counts.sent, Ordering::Relaxed);
        self.received.fetch_add(counts.received, Ordering::Relaxed);
        for (form, count) in self.forms.iter().zip(counts.forms) {
            form.fetch_add(count, Ordering::Relaxed);
        }
        for (reason, count) in &counts.discarded {
            let position = Discard::NAMES.iter().position(|name| name == reason);
            self.add_discarded(position, *count);
        }
    }

    /// Counts an advert that the kernel took.
    pub fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an advert that was accepted, and the form of its sum if it has a choice.
    pub fn count_received(&self, form: Option<ChecksumForm>) {
        self.received.fetch_add(1, Ordering::Relaxed);
        let [pseudo_header, message_only] = &self.forms;
        match form {
            None => {}
            Some(ChecksumForm::PseudoHeader) => drop(pseudo_header.fetch_add(1, Ordering::Relaxed)),
            Some(ChecksumForm::MessageOnly) => drop(message_only.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Counts an advert that was discarded, under its reason.
    pub fn count_discarded(&self, discard: &Discard) {
        let position = Discard::NAMES
            .iter()
            .position(|name| *name == discard.name());
        self.add_discarded(position, 1);
    }

    fn add_discarded(&self, position: Option<usize>, count: u64) {
        let none = || Discard::NAMES.iter().map(|_| AtomicU64::new(0)).collect();
        let counters = self.discarded.get_or_init(none);
        if let Some(counter) = position.and_then(|position| counters.get(position)) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Adverts sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Adverts accepted.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Adverts accepted of version 3 over IPv4, by the form of their sum as `checksum` names it.
    pub fn forms(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.forms.iter().map(|count| count.load(Ordering::Relaxed));
        ["rfc5798", "rfc9568"].into_iter().zip(counts)
    }

    /// Adverts discarded, by reason; every reason is there.
    pub fn discarded(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = self.discarded.get();
        Discard::NAMES
            .iter()
            .enumerate()
            .map(move |(reason, name)| {
                let counter = counters.and_then(|counters| counters.get(reason));
                let count = counter.map_or(0, |counter| counter.load(Ordering::Relaxed));
                (*name, count)
            })
    }
}

/// Upper bounds of the histogram of how late adverts left.
pub const LATENESS_BOUNDS: [Duration; 9] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
];
