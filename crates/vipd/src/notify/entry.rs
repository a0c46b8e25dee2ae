//! One `[[notify]]` and its lanes: what waits, in which order, and what is old news.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::delivery::Way;
use super::{Counts, WAITING_MAX};
use crate::config::{Notify, NotifyBy};
use crate::events::{Event, Kind};

/// One `[[notify]]`.
pub(super) struct Entry {
    pub(super) config: Arc<Notify>,
    pub(super) way: Way,
    pub(super) lanes: BTreeMap<String, Lane>,
    /// Lanes that have something to tell and tell nothing.
    pub(super) ready: VecDeque<String>,
    pub(super) telling: usize,
    /// How many events its lanes hold.
    pub(super) waiting: usize,
    pub(super) failing: bool,
}

/// What one object has for one entry.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) told_of: Option<Arc<Event>>,
    pub(super) waiting: VecDeque<Arc<Event>>,
    pub(super) failures: u32,
    pub(super) turn: Turn,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has nothing to tell.
    #[default]
    Idle,
    /// It is among those that are ready.
    Ready,
    Telling,
    /// It has failed and is tried again later.
    Resting,
}

impl Entry {
    pub(super) fn new(config: &Notify) -> Entry {
        Entry {
            config: Arc::new(config.clone()),
            way: Way::of(config),
            lanes: BTreeMap::new(),
            ready: VecDeque::new(),
            telling: 0,
            waiting: 0,
            failing: false,
        }
    }

    pub(super) fn is_webhook(&self) -> bool {
        matches!(self.config.by, NotifyBy::Webhook(_))
    }

    pub(super) fn take(&mut self, event: &Arc<Event>, counts: &mut Counts) {
        let lane = self.lanes.entry(event.object.clone()).or_default();
        let waited = lane.waiting.len();
        lane.waiting.retain(|older| !makes_old(event, older));
        let coalesced = waited.saturating_sub(lane.waiting.len());
        lane.waiting.push_back(Arc::clone(event));
        if lane.turn == Turn::Idle {
            lane.turn = Turn::Ready;
            self.ready.push_back(event.object.clone());
        }
        self.waiting = self.waiting.saturating_add(1).saturating_sub(coalesced);
        counts.coalesced += u64::try_from(coalesced).unwrap_or(u64::MAX);
        if self.waiting > WAITING_MAX && self.drop_oldest() {
            self.waiting -= 1;
            counts.dropped += 1;
        }
        counts.waiting = u64::try_from(self.waiting).unwrap_or(u64::MAX);
    }

    /// A lane may tell again, and does if it has something to tell.
    pub(super) fn free(&mut self, object: String) {
        let Some(lane) = self.lanes.get_mut(&object) else {
            return;
        };
        if lane.waiting.is_empty() {
            self.lanes.remove(&object);
        } else {
            lane.turn = Turn::Ready;
            self.ready.push_back(object);
        }
    }

    pub(super) fn drop_oldest(&mut self) -> bool {
        let lanes = self.lanes.values_mut();
        let oldest = lanes.min_by_key(|lane| lane.waiting.front().map_or(u64::MAX, |e| e.id));
        oldest.is_some_and(|lane| lane.waiting.pop_front().is_some())
    }
}

impl Lane {
    pub(super) fn events(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.told_of.iter().chain(&self.waiting)
    }
}

/// Whether the one event is all that need be known if the other one is not known yet.
pub(super) fn makes_old(newer: &Event, older: &Event) -> bool {
    let topic = |event: &Event| Kind::named(&event.kind).and_then(Kind::topic);
    topic(newer).is_some_and(|topic_of| topic(older) == Some(topic_of))
}
