//! The advert path hands its virtual routers over to that of another process, and takes them in.
//!
//! The two threads talk to each other, over a pair of sockets of their own, so that nothing else stands
//! between the last advert of one and the next advert of the other. The old one chooses a moment after an
//! advert with room before the next deadline, writes what it knows, and waits for one byte, not for
//! long. Without it, it goes on as if nothing had been asked; adverts that both send meanwhile have the
//! same sender and hurt nobody. The new one is *parked* until then: it has its sockets, and drops what it
//! hears, for the old one hears that, too. One that could not do what the old one does (it got no socket,
//! its interface is gone) says so as soon as it knows what there is to do, and does not take over.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};
use vrrp::{Event, Family, Handover, RouterKey, StateName};

use super::advert_path::AdvertPath;
use super::station::Station;
use super::{Moment, Report};

/// Before the next deadline there should be so much time ...
const ROOM: Duration = Duration::from_millis(30);
/// ... but hundreds of routers leave no such room: after that time any moment will do.
const CHOOSE: Duration = Duration::from_secs(1);
/// How long the old thread waits for the new one's word: as long as the shortest interval of a master,
/// within these bounds.
const PATIENCE: [Duration; 2] = [Duration::from_millis(30), Duration::from_millis(150)];
/// The new one's word.
const TAKEN: &[u8] = b"T";
/// Room in the socket for all routers there may be, so that writing never waits.
const BUFFER: usize = 8 << 20;
const READ: usize = 64 * 1024;
/// The length of what follows.
const HEAD: usize = size_of::<u64>();

/// What is handed over.
#[derive(Serialize, Deserialize)]
struct Document {
    stamp: (Duration, u16),
    seats: Vec<SeatDocument>,
}

#[derive(Serialize, Deserialize)]
struct SeatDocument {
    interface: String,
    family: Family,
    vrid: u8,
    why: String,
    hold: bool,
    announce: u64,
    handover: Handover,
}

/// An order to hand over.
pub(super) struct Leaving {
    to: OwnedFd,
    moment: Moment,
    since: Instant,
}

/// A thread that has not taken over yet.
pub(super) struct Parked {
    pub(super) from: OwnedFd,
    /// It knows which routers there are.
    pub(super) configured: bool,
    heard: Vec<u8>,
}

impl Leaving {
    pub(super) fn new(to: OwnedFd, moment: Moment) -> Leaving {
        use rustix::net::sockopt::{
            set_socket_send_buffer_size, set_socket_send_buffer_size_force,
        };
        // What is too much for it is refused, and then nothing is handed over.
        let _ = set_socket_send_buffer_size_force(&to, BUFFER)
            .or_else(|_| set_socket_send_buffer_size(&to, BUFFER));
        let since = Instant::now();
        Leaving { to, moment, since }
    }
}

impl Parked {
    pub(super) fn new(from: OwnedFd) -> Parked {
        Parked {
            from,
            configured: false,
            heard: Vec::new(),
        }
    }

    /// Reads what there is. Returns the whole, once it is there.
    fn read(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut buffer = vec![0; READ];
        loop {
            match rustix::net::recv(&self.from, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err("the running daemon has given up".to_owned()),
                Ok((length, _)) => {
                    let read = buffer.get(..length).unwrap_or_default();
                    self.heard.extend_from_slice(read);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        let Some((head, body)) = self.heard.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = usize::try_from(u64::from_ne_bytes(*head)).unwrap_or(usize::MAX);
        Ok(body.get(..length).map(<[u8]>::to_vec))
    }
}

impl AdvertPath {
    /// Whether this is the moment to hand over.
    pub(super) fn may_leave(&self) -> bool {
        let Some(leaving) = &self.leaving else {
            return false;
        };
        let now = Instant::now();
        let due = self.routers.poll_timeout();
        due.is_none_or(|due| due.saturating_duration_since(now) >= ROOM)
            || now.saturating_duration_since(leaving.since) >= CHOOSE
    }

    /// Hands over; where that fails, everything is as before. `None`: it was called off.
    pub(super) fn leave(&mut self) -> Option<Result<(), String>> {
        let Leaving { to, moment, .. } = self.leaving.take()?;
        moment.seize().then(|| self.hand_over(&to))
    }

    fn hand_over(&self, to: &OwnedFd) -> Result<(), String> {
        let mut message = vec![0; HEAD];
        serde_json::to_writer(&mut message, &self.document()).map_err(|why| why.to_string())?;
        let length = u64::try_from(message.len() - HEAD).unwrap_or(0);
        for (to, from) in message.iter_mut().zip(length.to_ne_bytes()) {
            *to = from;
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut rest = &*message;
        while !rest.is_empty() {
            let sent = rustix::net::send(to, rest, flags);
            let sent = sent.map_err(|why| format!("the virtual routers cannot be told: {why}"))?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        let patience = self.patience();
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: patience.subsec_nanos().into(),
        };
        let _ = poll(&mut [PollFd::new(to, PollFlags::IN)], Some(&timeout));
        let mut word = [0; 1];
        match rustix::net::recv(to, &mut word, RecvFlags::DONTWAIT) {
            Ok((1, _)) => Ok(()),
            Ok(_) => Err("it ended when it was to take over".to_owned()),
            Err(_) => Err(format!("it did not take over within {patience:?}")),
        }
    }

    fn patience(&self) -> Duration {
        let masters = self.routers.iter().map(|(_, router)| router);
        let masters = masters.filter(|router| router.state_name() == StateName::Master);
        let shortest = masters.map(|router| router.parameters().interval()).min();
        let [least, most] = PATIENCE;
        shortest.unwrap_or(most).clamp(least, most)
    }

    fn document(&self) -> Document {
        let zero = zero();
        let seats = self.seats.iter().filter_map(|(key, seat)| {
            Some(SeatDocument {
                interface: self.interface(key.link)?,
                family: key.family,
                vrid: key.vrid,
                why: seat.why.clone(),
                hold: seat.hold,
                announce: seat.announce,
                handover: self.routers.hand_over(key, zero)?,
            })
        });
        Document {
            stamp: self.stamp,
            seats: seats.collect(),
        }
    }

    /// Takes over, if all that is needed has come. Returns whether this thread is of no use any more.
    pub(super) fn take_over(&mut self) -> bool {
        // Who is quick has asked before the order is read which routers there are.
        let Some(mut parked) = self.parked.take_if(|parked| parked.configured) else {
            return false;
        };
        let read = parked.read().and_then(|read| match read {
            Some(bytes) => serde_json::from_slice::<Document>(&bytes)
                .map(Some)
                .map_err(|why| format!("the virtual routers cannot be taken over: {why}")),
            None => Ok(None),
        });
        let document = match read {
            Ok(Some(document)) => document,
            Ok(None) => {
                self.parked = Some(parked);
                return false;
            }
            Err(why) => {
                self.outbox.send(Report::HandedOver(Err(why)));
                return true;
            }
        };
        let runs = |seat: &&SeatDocument| seat.handover.runs();
        let mut running = document.seats.iter().filter(runs);
        if let Some(why) = running.find_map(|seat| self.unfit_for(seat)) {
            self.outbox.send(Report::HandedOver(Err(why)));
            return true;
        }
        let new = self.resume(document);
        // What was due meanwhile leaves before anything else is looked at.
        self.time_out();
        let _ = rustix::net::send(&parked.from, TAKEN, SendFlags::NOSIGNAL);
        let now = Instant::now();
        for key in self.seats.keys().copied().collect::<Vec<_>>() {
            self.judge(key, now);
            self.touch(key, true);
        }
        for key in new {
            self.tell(now, &key, Event::Startup);
        }
        let actions = self.routers.settle(now);
        self.perform(actions);
        self.send_reports();
        self.outbox.send(Report::HandedOver(Ok(())));
        self.outbox.send(Report::Configured);
        false
    }

    /// The virtual routers that could not run here, and why.
    pub(super) fn unfit(&self) -> Vec<(String, String)> {
        let unfit = self.seats.iter().filter_map(|(key, seat)| {
            let fault = self.routers.get(key)?.faults().iter().next();
            let why = self.without_socket(key);
            let why = why.or_else(|| fault.map(ToString::to_string))?;
            Some((seat.name.clone(), why))
        });
        unfit.collect()
    }

    /// Why adverts of a virtual router could not leave, or not be heard, on one of its interfaces.
    fn without_socket(&self, key: &RouterKey) -> Option<String> {
        let seat = self.seats.get(key)?;
        let further = seat.heartbeats.iter().map(|(number, _)| *number);
        let numbers = std::iter::once(key.link).chain(seat.macvlan).chain(further);
        let mut stations = numbers.filter_map(|number| self.station(number));
        stations.find_map(Station::unfit)
    }

    /// The same for what another process hands over at this moment.
    fn unfit_for(&self, seat: &SeatDocument) -> Option<String> {
        let is_it = |key: &&RouterKey| {
            (key.family, key.vrid) == (seat.family, seat.vrid)
                && self.interface(key.link).as_ref() == Some(&seat.interface)
        };
        self.without_socket(self.seats.keys().find(is_it)?)
    }

    /// Makes the routers what they were there. Returns those that nothing is known of.
    fn resume(&mut self, document: Document) -> Vec<RouterKey> {
        let zero = zero();
        self.stamp = document.stamp;
        let place = |seat: SeatDocument| ((seat.interface.clone(), seat.family, seat.vrid), seat);
        let mut known: BTreeMap<_, _> = document.seats.into_iter().map(place).collect();
        let mut new = Vec::new();
        for key in self.seats.keys().copied().collect::<Vec<_>>() {
            let interface = self.interface(key.link).unwrap_or_default();
            let Some(seat) = known.remove(&(interface, key.family, key.vrid)) else {
                new.push(key);
                continue;
            };
            let SeatDocument {
                why,
                hold,
                announce,
                handover,
                ..
            } = seat;
            self.routers.resume(&key, zero, handover);
            if let Some(seat) = self.seats.get_mut(&key) {
                (seat.why, seat.hold, seat.announce) = (why, hold, announce);
            }
        }
        new
    }
}

/// The instant at which the monotonic clock was 0, for every process of this host the same.
fn zero() -> Instant {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Instant::now();
    let elapsed = Duration::new(
        u64::try_from(clock.tv_sec).unwrap_or(0),
        u32::try_from(clock.tv_nsec).unwrap_or(0),
    );
    now.checked_sub(elapsed).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::super::outbox::Outbox;
    use super::*;
    use crate::counters::LATENESS_BOUNDS;

    fn path_that_is_to_leave(moment: &Moment) -> (AdvertPath, OwnedFd) {
        let lateness = health::Histogram::new(&LATENESS_BOUNDS);
        let outbox = Outbox::start(drop).unwrap();
        let mut path = AdvertPath::new(outbox, lateness.into(), None);
        let (ours, theirs) = UnixStream::pair().unwrap();
        path.leaving = Some(Leaving::new(ours.into(), moment.clone()));
        (path, theirs.into())
    }

    #[test]
    fn a_handover_that_was_called_off_says_nothing_to_anybody() {
        let moment = Moment::default();
        let (mut path, other) = path_that_is_to_leave(&moment);
        assert!(path.may_leave());
        assert!(moment.seize(), "nothing has begun");
        assert!(path.leave().is_none());
        let heard = rustix::net::recv(&other, &mut [0; 1], RecvFlags::DONTWAIT);
        assert_eq!(heard.map(|(length, _)| length), Ok(0), "the end");
        // It serves as ever.
        assert!(!path.may_leave());
    }

    #[test]
    fn a_handover_that_has_begun_is_not_called_off() {
        let moment = Moment::default();
        let (mut path, other) = path_that_is_to_leave(&moment);
        rustix::net::send(&other, TAKEN, SendFlags::empty()).unwrap();
        assert_eq!(path.leave(), Some(Ok(())));
        assert!(!moment.seize());
    }
}
