//! A change that the kernel refused, in words.

use std::fmt;

use rustix::io::Errno;

use crate::diff::Change;
use crate::table::{Family, Forwarding, Service, Tunnel};

/// A change that was not made, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The change. Boxed, because most results are not refusals and should be small.
    pub change: Box<Change>,
    /// The errno. `ENOBUFS` and `ETIMEDOUT`: the kernel's answer was lost, and it is not known
    /// whether the change was made.
    pub errno: i32,
    /// What the errno means for this change.
    pub reason: String,
}

impl Refused {
    /// A refusal by the kernel, explained.
    pub(crate) fn by_kernel(change: &Change, errno: i32) -> Refused {
        let reason = reason(change, errno);
        Refused {
            change: Box::new(change.clone()),
            errno,
            reason,
        }
    }
}

impl Refused {
    /// Whether the table is not what the change was made for, or may not be: somebody else changed
    /// it, or the answer was lost. A new dump tells.
    #[must_use]
    pub fn is_surprise(&self) -> bool {
        let no_module = matches!(
            *self.change,
            Change::AddService(..) | Change::SetService(..)
        );
        match Errno::from_raw_os_error(self.errno) {
            Errno::EXIST | Errno::SRCH => true,
            Errno::NOENT => !no_module,
            _ => self.is_unknown(),
        }
    }

    /// Whether the answer was lost, so that it is not known whether the change was made.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        let errno = Errno::from_raw_os_error(self.errno);
        [Errno::NOBUFS, Errno::TIMEDOUT, Errno::BADMSG, Errno::IO].contains(&errno)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.change, self.reason)
    }
}

impl std::error::Error for Refused {}

fn reason(change: &Change, errno: i32) -> String {
    let known = match Errno::from_raw_os_error(errno) {
        Errno::EXIST => match change {
            Change::AddDestination(..) => "the real server is in the service already",
            Change::AddService(..)
            | Change::SetService(..)
            | Change::RemoveService(_)
            | Change::SetDestination(..)
            | Change::RemoveDestination(..) => "the service is there already",
        },
        Errno::SRCH => "there is no such service",
        Errno::NOENT => match change {
            Change::AddService(_, service) | Change::SetService(_, service) => {
                return no_module(service);
            }
            Change::SetDestination(..) | Change::RemoveDestination(..) => {
                "there is no such real server in the service"
            }
            Change::RemoveService(_) | Change::AddDestination(..) => {
                "the kernel's IPVS is gone (was the module ip_vs unloaded?)"
            }
        },
        Errno::RANGE => match change {
            Change::AddDestination(..) | Change::SetDestination(..) => {
                "the weight is at most 2147483647, and the lower threshold at most the upper one"
            }
            Change::AddService(..)
            | Change::SetService(..)
            | Change::RemoveService(_)
            | Change::RemoveDestination(..) => "a name is longer than the kernel allows",
        },
        Errno::INVAL => invalid(change),
        Errno::PERM => "not permitted: CAP_NET_ADMIN is needed in this network namespace",
        Errno::AFNOSUPPORT => "the kernel's IPVS has no IPv6 (CONFIG_IP_VS_IPV6)",
        Errno::NOMEM => "the kernel is out of memory",
        errno => return std::io::Error::from(errno).to_string(),
    };
    known.to_owned()
}

fn no_module(service: &Service) -> String {
    let scheduler = service.scheduler.as_str();
    let mut reason =
        format!("the kernel has no scheduler `{scheduler}` (module ip_vs_{scheduler})");
    if let Some(engine) = service
        .persistence
        .as_ref()
        .and_then(|p| p.engine.as_deref())
    {
        reason += &format!(", or no persistence engine `{engine}` (module ip_vs_pe_{engine})");
    }
    reason
}

fn invalid(change: &Change) -> &'static str {
    let (Change::AddDestination(key, server, destination)
    | Change::SetDestination(key, server, destination)) = change
    else {
        return "the kernel finds the settings invalid";
    };
    let other_family = Family::of(server.0.ip()) != key.family();
    match destination.forwarding {
        Forwarding::Tunnel(Tunnel::Gue { port: 0, .. }) => "GUE needs a port",
        Forwarding::Tunnel(_) if other_family => {
            "a real server of the other address family excludes a connection sync daemon"
        }
        Forwarding::Nat
        | Forwarding::DirectRouting
        | Forwarding::LocalNode
        | Forwarding::Bypass
            if other_family =>
        {
            "a real server of the other address family is reached by tunnel only"
        }
        Forwarding::Nat
        | Forwarding::DirectRouting
        | Forwarding::Tunnel(_)
        | Forwarding::LocalNode
        | Forwarding::Bypass => {
            "a real server's address is that of one host (in a network namespace where no interface \
             is up the kernel takes none)"
        }
    }
}
