//! One pool: who serves, with which weight, and who waits at weight 0.
//!
//! A real server is *available* unless it is drained or disabled. Of those available, the ones whose
//! checks pass are *up*; if fewer than `minimum_up` pass, the last ones of whom enough passed are up,
//! too (*panic*). The weights of those that are up decide on quorum, and quorum on the sorry server.
//!
//! The weight of a real server is what an operator ordered, or else what it asks for itself through
//! its checks, or else the configured one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use health::Health;
use ipvs::{Destination, DestinationKey};
use serde::{Deserialize, Serialize};

use super::slow_start::Ramp;
use super::{HealthTable, asked_weight, believed};
use crate::config::{OnFailure, RealServer, VirtualServer};
use crate::director_status::real_server_name;
use crate::overrides::{Out, Override, Overrides};

/// How long a sorry server that is not needed any more stays with weight 0, for the requests that
/// it has begun to answer.
pub(super) const SORRY_LINGERS: Duration = Duration::from_secs(60);

type Keys = BTreeSet<DestinationKey>;

/// How a pool stands. It is an input of the next judgement, too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolState {
    /// What stands behind the service.
    pub destinations: BTreeMap<DestinationKey, Destination>,
    /// The sum of the weights of those that are up, slow start left aside.
    pub weight: u64,
    /// Whether that is enough.
    pub quorum: bool,
    /// Whether the sorry server takes every new connection.
    pub sorry: bool,
    /// Those that fail their checks and stay, because too few pass.
    pub kept: Keys,
    /// When time alone changes this next.
    pub next_step: Option<Instant>,
    /// Those that passed when enough of them passed last.
    good: Keys,
    /// Those that get new connections.
    serving: Keys,
    /// Those whose checks have found nothing since the pool was judged first.
    unseen: Keys,
    /// Those that came into a pool that served already.
    ramps: BTreeMap<DestinationKey, Ramp>,
    /// When the sorry server goes that is not needed any more.
    sorry_until: Option<Instant>,
}

/// How a pool stands, for another process that goes on with it: real servers by their names, times as
/// ages. What stands behind the service follows from it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Carried {
    weight: u64,
    quorum: bool,
    sorry: bool,
    kept: Vec<String>,
    good: Vec<String>,
    serving: Vec<String>,
    unseen: Vec<String>,
    ramps: BTreeMap<String, (u32, Duration, Duration)>,
    sorry_for: Option<Duration>,
}

/// A real server, and what is known and ordered of it.
struct Standing<'a> {
    real: &'a RealServer,
    health: Health,
    out: Option<Out>,
    weight: u32,
    /// It fails its checks and stays, because too few pass.
    kept: bool,
}

impl<'a> Standing<'a> {
    fn new(
        server: &VirtualServer,
        real: &'a RealServer,
        health: &HealthTable,
        ordered: Override,
    ) -> Standing<'a> {
        let own = asked_weight(real, health).unwrap_or(real.destination.weight);
        Standing {
            real,
            health: believed(server, real, health),
            out: ordered.out,
            weight: ordered.weight.map_or(own, |weight| weight.ordered),
            kept: false,
        }
    }

    fn is_available(&self) -> bool {
        self.out.is_none()
    }

    fn passes(&self) -> bool {
        self.is_available() && self.health == Health::Up
    }

    fn is_up(&self) -> bool {
        self.passes() || self.kept
    }
}

impl PoolState {
    /// Whether fewer than `minimum_up` pass and others are kept for them.
    #[must_use]
    pub fn panic(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Whether anybody gets new connections, and be it the sorry server.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.destinations.values().any(|found| found.weight > 0)
    }

    /// Whether a real server has less than its weight because it has just come.
    #[must_use]
    pub fn slowly(&self, real: DestinationKey) -> bool {
        self.ramps.contains_key(&real)
    }

    /// How it stands, for another process.
    pub(crate) fn carried(&self, now: Instant) -> Carried {
        let names = |keys: &Keys| keys.iter().copied().map(real_server_name).collect();
        let ramps = self.ramps.iter().map(|(key, ramp)| {
            let (weight, since, over) = ramp.parts();
            let age = now.saturating_duration_since(since);
            (real_server_name(*key), (weight, age, over))
        });
        let until = self.sorry_until;
        Carried {
            weight: self.weight,
            quorum: self.quorum,
            sorry: self.sorry,
            kept: names(&self.kept),
            good: names(&self.good),
            serving: names(&self.serving),
            unseen: names(&self.unseen),
            ramps: ramps.collect(),
            sorry_for: until.map(|until| until.saturating_duration_since(now)),
        }
    }

    /// How it stood in another process; it is judged anew from there.
    pub(crate) fn gone_on(server: &VirtualServer, carried: &Carried, now: Instant) -> PoolState {
        let reals = server.real_servers.iter().map(|real| real.key);
        let known: BTreeMap<String, DestinationKey> =
            reals.map(|key| (real_server_name(key), key)).collect();
        let keys = |names: &[String]| -> Keys {
            let found = names.iter().filter_map(|name| known.get(name));
            found.copied().collect()
        };
        let ramps = carried
            .ramps
            .iter()
            .filter_map(|(name, (weight, age, over))| {
                let ramp = Ramp::new(*weight, now.checked_sub(*age)?, *over);
                Some((*known.get(name)?, ramp))
            });
        PoolState {
            destinations: BTreeMap::new(),
            weight: carried.weight,
            quorum: carried.quorum,
            sorry: carried.sorry,
            kept: keys(&carried.kept),
            next_step: None,
            good: keys(&carried.good),
            serving: keys(&carried.serving),
            unseen: keys(&carried.unseen),
            ramps: ramps.collect(),
            sorry_until: carried.sorry_for.map(|left| now + left),
        }
    }

    pub(super) fn judge(
        server: &VirtualServer,
        health: &HealthTable,
        overrides: &Overrides,
        before: Option<&PoolState>,
        now: Instant,
    ) -> PoolState {
        let mut servers: Vec<Standing<'_>> = server
            .real_servers
            .iter()
            .map(|real| Standing::new(server, real, health, overrides.of(&server.name, real.key)))
            .collect();
        let available = servers.iter().filter(|one| one.is_available()).count();
        let passing = servers.iter().filter(|one| one.passes()).count();
        let enough = passing >= server.minimum_up.of(available);
        let good_before = before.filter(|_| !enough).map(|before| &before.good);
        if let Some(good) = good_before {
            for one in servers.iter_mut().filter(|one| one.is_available()) {
                one.kept = !one.passes() && good.contains(&one.real.key);
            }
        }
        let servers = servers;
        let keys = |wanted: &dyn Fn(&Standing<'_>) -> bool| -> Keys {
            let found = servers.iter().filter(|one| wanted(one));
            found.map(|one| one.real.key).collect()
        };
        let good = match good_before {
            Some(good) => good.clone(),
            None if enough => keys(&|one| one.passes()),
            None => Keys::new(),
        };
        let kept = keys(&|one| one.kept);

        let up = servers.iter().filter(|one| one.is_up());
        let sum = up.map(|one| u64::from(one.weight)).sum();
        let quorum = has_quorum(server, sum, before);
        let sorry = server.sorry_server.filter(|_| !quorum);

        let serves = |one: &Standing<'_>| sorry.is_none() && one.is_up();
        let serving = keys(&|one| serves(one) && one.weight > 0);
        let unseen = keys(&|one| {
            one.health == Health::Unknown
                && before.is_none_or(|before| before.unseen.contains(&one.real.key))
        });
        // Without slow start nobody is on the way to their weight.
        let slowly_after = before.filter(|_| !server.slow_start.is_zero());
        let ramp = |one: &Standing<'_>| {
            let since = slow_since(one.real.key, &serving, slowly_after?, now)?;
            let ramp = Ramp::new(one.weight, since, server.slow_start);
            ramp.next_change(now).map(|_| (one.real.key, ramp))
        };
        let ramps: BTreeMap<DestinationKey, Ramp> = servers
            .iter()
            .filter(|one| serves(one) && one.weight > 0)
            .filter_map(ramp)
            .collect();

        let mut next_step = None;
        let mut destinations = BTreeMap::new();
        for one in &servers {
            let real = one.real;
            // One that has not been found healthy since it was configured was never in the pool:
            // there are no connections for which it should stay.
            let never_was_in = one.health == Health::Unknown;
            let weight = match (one.out, server.on_failure) {
                (Some(Out::Disabled), _) => continue,
                // Whatever the checks say of it: it has no more to do than to finish.
                (Some(Out::Draining), _) => 0,
                (None, _) if serves(one) => match ramps.get(&real.key) {
                    Some(ramp) => {
                        next_step = earlier(next_step, ramp.next_change(now));
                        ramp.weight_at(now)
                    }
                    None => one.weight,
                },
                (None, OnFailure::ZeroWeight) if !never_was_in => 0,
                (None, OnFailure::ZeroWeight | OnFailure::Remove) => continue,
            };
            let destination = Destination {
                weight,
                ..real.destination
            };
            destinations.insert(real.key, destination);
        }
        let mut sorry_until = None;
        if let Some(standby) = server.sorry_server {
            if sorry.is_none() {
                sorry_until = match before {
                    Some(before) if before.sorry => Some(now + SORRY_LINGERS),
                    Some(before) => before.sorry_until.filter(|until| *until > now),
                    None => None,
                };
            }
            let weight = match (sorry, sorry_until) {
                (Some(sorry), _) => Some(sorry.destination.weight),
                (None, Some(_)) => Some(0),
                (None, None) => None,
            };
            if let Some(weight) = weight {
                let destination = Destination {
                    weight,
                    ..standby.destination
                };
                destinations.insert(standby.key, destination);
            }
        }
        PoolState {
            destinations,
            weight: sum,
            quorum,
            sorry: sorry.is_some(),
            kept,
            next_step: earlier(next_step, sorry_until),
            good,
            serving,
            unseen,
            ramps,
            sorry_until,
        }
    }
}

/// Quorum is gained when the weights of those that are up reach `quorum + hysteresis`, and lost when
/// they fall below `quorum - hysteresis` or to nothing. A virtual server that is new gains it at
/// `quorum`.
fn has_quorum(server: &VirtualServer, have: u64, before: Option<&PoolState>) -> bool {
    let needed = match before.map(|before| before.quorum) {
        None => server.quorum,
        Some(false) => server.quorum.saturating_add(server.hysteresis),
        Some(true) => server.quorum.saturating_sub(server.hysteresis),
    };
    have >= u64::from(needed.max(1))
}

/// Since when a real server starts slowly, if it does: whoever comes into a pool in which somebody
/// serves already and goes on serving. At the start of the daemon all come, one after the other, as
/// their checks pass for the first time: they are not slow.
fn slow_since(
    key: DestinationKey,
    serving: &Keys,
    before: &PoolState,
    now: Instant,
) -> Option<Instant> {
    if before.serving.contains(&key) {
        return before.ramps.get(&key).map(Ramp::since);
    }
    let somebody_stays = !before.serving.is_disjoint(serving);
    (somebody_stays && !before.unseen.contains(&key)).then_some(now)
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
