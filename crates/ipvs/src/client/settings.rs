//! What is not of one service: timeouts, sync daemons, and counters set to zero.

use rustix::io::Errno;

use super::{Client, Error, errno};
use crate::daemon::{Daemon, DaemonRole};
use crate::message::{self, Body, DecodeError};
use crate::table::ServiceKey;
use crate::timeouts::Timeouts;

impl Client {
    /// The sync daemons that run.
    ///
    /// # Errors
    ///
    /// The kernel gave no answer, or none that makes sense.
    pub fn daemons(&mut self) -> Result<Vec<Daemon>, Error> {
        let sequence = self.take_sequences(1);
        let request = message::get_daemons(self.family, sequence)?;
        let mut daemons = Vec::new();
        self.ask(&request, sequence, |answer| {
            daemons.push(message::daemon_from(answer)?);
            Ok(())
        })?;
        Ok(daemons)
    }

    /// Starts a sync daemon.
    ///
    /// # Errors
    ///
    /// The kernel refused ([`Error::Refused`] says why in words), or gave no answer.
    pub fn start_daemon(&mut self, daemon: &Daemon) -> Result<(), Error> {
        let sequence = self.take_sequences(1);
        let request = message::start_daemon(self.family, sequence, daemon)?;
        let object = || format!("sync daemon {} on {}", daemon.role, daemon.interface);
        self.ask(&request, sequence, |_| Ok(()))
            .map_err(|error| explained(error, object, not_started))
    }

    /// Stops the sync daemon of that role. It discards what it has not sent yet.
    ///
    /// # Errors
    ///
    /// The kernel refused ([`Error::Refused`], `ESRCH` where none runs), or gave no answer.
    pub fn stop_daemon(&mut self, role: DaemonRole) -> Result<(), Error> {
        let stop = self.take_sequences(2);
        let after = stop.wrapping_add(1);
        let mut request = message::stop_daemon(self.family, stop, role)?;
        // A daemon whose thread has not run yet is stopped without any answer: `kthread_stop` gives
        // EINTR, about which `netlink_rcv_skb` is silent. The next answer says that it is through.
        request.extend(message::get_info(self.family, after)?);
        let mut result = Ok(());
        self.exchange(&request, stop, after, |reply| {
            if let Body::Status(errno @ 1..) = reply.body
                && reply.sequence == stop
            {
                result = Err(Error::Kernel(std::io::Error::from_raw_os_error(errno)));
            }
        })?;
        let reason = |errno| match errno {
            Errno::SRCH => Some("none runs"),
            _ => None,
        };
        result.map_err(|error| explained(error, || format!("sync daemon {role}"), reason))
    }

    /// How long the kernel keeps connections on which nothing moves.
    ///
    /// # Errors
    ///
    /// The kernel gave no answer, or none that makes sense.
    pub fn timeouts(&mut self) -> Result<Timeouts, Error> {
        let sequence = self.take_sequences(1);
        let request = message::get_timeouts(self.family, sequence)?;
        let mut timeouts = None;
        self.ask(&request, sequence, |answer| {
            timeouts = Some(message::timeouts_from(answer)?);
            Ok(())
        })?;
        timeouts.ok_or(Error::Decode(DecodeError::Missing("the timeouts")))
    }

    /// Sets them; what is zero is kept.
    ///
    /// # Errors
    ///
    /// The kernel refused ([`Error::Refused`] says why in words), or gave no answer.
    pub fn set_timeouts(&mut self, timeouts: &Timeouts) -> Result<(), Error> {
        let sequence = self.take_sequences(1);
        let request = message::set_timeouts(self.family, sequence, timeouts)?;
        let reason = |errno| match errno {
            Errno::INVAL => Some("one is longer than the kernel can count"),
            _ => None,
        };
        self.ask(&request, sequence, |_| Ok(()))
            .map_err(|error| explained(error, || timeouts.to_string(), reason))
    }

    /// Sets the counters of a service and its destinations to zero, or those of all.
    ///
    /// # Errors
    ///
    /// The kernel refused ([`Error::Refused`], `ESRCH` where there is no such service), or gave no
    /// answer.
    pub fn zero(&mut self, service: Option<&ServiceKey>) -> Result<(), Error> {
        let sequence = self.take_sequences(1);
        let request = message::zero(self.family, sequence, service)?;
        let object = || match service {
            Some(key) => format!("counters of {key}"),
            None => "counters".to_owned(),
        };
        let reason = |errno| match errno {
            Errno::SRCH => Some("there is no such service"),
            _ => None,
        };
        self.ask(&request, sequence, |_| Ok(()))
            .map_err(|error| explained(error, object, reason))
    }
}

fn not_started(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::NODEV => Some("no such interface"),
        Errno::EXIST => Some("one of this role runs already"),
        Errno::INVAL => Some(
            "the kernel allows none beside a real server of the other address family than its \
             service (or finds the group, the id or the length invalid)",
        ),
        Errno::ADDRNOTAVAIL => Some("the interface has no address of the group's family"),
        Errno::AFNOSUPPORT => Some("the kernel's IPVS has no IPv6 (CONFIG_IP_VS_IPV6)"),
        Errno::NOMEM => Some("the kernel is out of memory"),
        _ => None,
    }
}

fn explained(
    error: Error,
    object: impl FnOnce() -> String,
    reason: impl FnOnce(Errno) -> Option<&'static str>,
) -> Error {
    let Some(errno) = errno(&error) else {
        return error;
    };
    let reason = match errno {
        Errno::PERM => Some("not permitted: CAP_NET_ADMIN is needed in this network namespace"),
        errno => reason(errno),
    };
    Error::Refused {
        object: object(),
        reason: reason.map_or_else(|| std::io::Error::from(errno).to_string(), str::to_owned),
        errno: errno.raw_os_error(),
    }
}
