//! What happened: one bounded list in memory, which the log, `vipctl events` and whoever wants to
//! be told share. [`Events::record`] is the one way in, so that log and list never differ.
//!
//! Identifiers go up by one from the millisecond of the start: they go up over restarts, too, and a
//! follower that knows the last one it saw misses nothing. What happened before the start comes from
//! `state_dir` (`store`).

mod fields;
mod kind;
pub mod store;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tracing::{Level, error, info, warn};

pub use self::fields::Fields;
pub use self::kind::Kind;
use crate::net::sys;

/// How many are kept; the oldest go first.
pub const CAPACITY: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Greater than that of every event before.
    pub id: u64,
    /// When, to the millisecond.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// The name of its [`Kind`]; a string, so that a client reads the events of a newer daemon.
    pub kind: Cow<'static, str>,
    /// To what: the name of a virtual router or a virtual server, `VIRTUAL_SERVER/REAL_SERVER`, an
    /// address, a file.
    pub object: String,
    /// What, in words.
    pub message: String,
    /// Why, in words.
    #[serde(default)]
    pub cause: String,
    /// What follows from it, in words.
    #[serde(default)]
    pub consequence: Cow<'static, str>,
    /// What else programs may want to know, by name.
    #[serde(default)]
    pub fields: Fields,
}

/// What is known of an event beside its kind, object and message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Why; `None`: the message says it.
    pub cause: Option<String>,
    /// See [`Event::fields`].
    pub fields: Fields,
}

/// Events in the order they happened, as the control API hands them out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Newest last.
    pub events: Vec<Event>,
    /// The identifier of the newest event there is.
    pub last_id: u64,
}

/// The list. Shared by whoever records and whoever reads; nobody holds its lock for longer than a
/// copy takes.
#[derive(Debug)]
pub struct Events {
    kept: Mutex<VecDeque<Event>>,
    last_id: watch::Sender<u64>,
    followers: Mutex<Vec<mpsc::UnboundedSender<Event>>>,
}

impl Default for Events {
    fn default() -> Events {
        Events::after(Vec::new())
    }
}

impl Events {
    /// A list that goes on after those events of another run.
    #[must_use]
    pub fn after(before: Vec<Event>) -> Events {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let first = u64::try_from(since_epoch.unwrap_or_default().as_millis()).unwrap_or(0);
        // The clock may have been set back.
        let known = before.last().map_or(0, |event| event.id);
        let more = before.len().saturating_sub(CAPACITY);
        Events {
            kept: Mutex::new(before.into_iter().skip(more).collect()),
            last_id: watch::Sender::new(first.max(known)),
            followers: Mutex::default(),
        }
    }

    /// Logs what happened and keeps it; returns its identifier.
    pub fn record(&self, kind: Kind, object: impl Into<String>, message: impl Into<String>) -> u64 {
        self.record_with(kind, object, message, Details::default())
    }

    /// As [`Events::record`], with more to say.
    pub fn record_with(
        &self,
        kind: Kind,
        object: impl Into<String>,
        message: impl Into<String>,
        details: Details,
    ) -> u64 {
        let (object, message) = (object.into(), message.into());
        let event = kind.name();
        match kind.level() {
            Level::ERROR => error!(event, object, "{object}: {message}"),
            Level::WARN => warn!(event, object, "{object}: {message}"),
            // No kind has a lower level.
            _ => info!(event, object, "{object}: {message}"),
        }
        let mut kept = self.kept();
        let id = *self.last_id.borrow() + 1;
        if kept.len() == CAPACITY {
            kept.pop_front();
        }
        let event = Event {
            id,
            at: SystemTime::now(),
            kind: Cow::Borrowed(event),
            object,
            cause: details.cause.unwrap_or_else(|| message.clone()),
            message,
            consequence: Cow::Borrowed(kind.consequence()),
            fields: details.fields,
        };
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|follower| follower.send(event.clone()).is_ok());
        kept.push_back(event);
        self.last_id.send_replace(id);
        id
    }

    /// Every event from here on, also of a burst that the list does not hold. Who follows must never
    /// wait: nothing bounds what it has not taken.
    #[must_use]
    pub fn follow(&self) -> mpsc::UnboundedReceiver<Event> {
        let (follower, events) = mpsc::unbounded_channel();
        let _kept = self.kept();
        let mut followers = self
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        followers.push(follower);
        events
    }

    /// At most `limit` events that came after the one with that identifier, the oldest of them
    /// first. An identifier that was never given out is from before a clock was set back: then
    /// everything is new.
    #[must_use]
    pub fn since(&self, id: u64, limit: usize) -> Page {
        let kept = self.kept();
        let last_id = self.last_id();
        let after = if id > last_id { 0 } else { id };
        let events = kept.iter().filter(|event| event.id > after);
        Page {
            events: events.take(limit).cloned().collect(),
            last_id,
        }
    }

    /// The last `limit` events.
    #[must_use]
    pub fn newest(&self, limit: usize) -> Page {
        let kept = self.kept();
        let older = kept.len().saturating_sub(limit);
        Page {
            events: kept.iter().skip(older).cloned().collect(),
            last_id: self.last_id(),
        }
    }

    /// The identifier of the newest event; before the first one, that which it follows.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        *self.last_id.borrow()
    }

    /// Returns when [`Events::since`] has something new for that identifier.
    pub async fn wait(&self, id: u64) {
        let mut last_id = self.last_id.subscribe();
        // The sender lives as long as `self`.
        let _ = last_id.wait_for(|last_id| *last_id != id).await;
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Event>> {
        // Whoever panicked with the lock left a list that is whole: the last step is one push.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Event {
    /// The event for people: local time, kind, object, message. A message of several lines goes on
    /// indented.
    #[must_use]
    pub fn line(&self) -> String {
        let at = sys::local_time(self.at);
        let message: Vec<String> = self.message.lines().map(crate::status::plain).collect();
        let message = message.join("\n    ");
        let object = crate::status::plain(&self.object);
        format!("{at}  {:<16}  {object:<16}  {message}", self.kind)
    }
}

mod rfc3339 {
    use std::time::SystemTime;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&crate::status::rfc3339(*at))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_rfc3339(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
