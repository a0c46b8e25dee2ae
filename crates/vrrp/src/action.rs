//! What a virtual router wants done.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Fault;
use crate::packet::Advertisement;

/// What the caller must do now, in the order given: an advert comes before slow work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this to the group at once.
    SendAdvertisement(Advertisement),
    /// Make this host hold exactly the configured addresses, whatever it holds of them now.
    InstallAddresses,
    /// Make this host hold none of the addresses.
    RemoveAddresses,
    /// Tell the link who has the addresses: gratuitous ARP or unsolicited neighbour advertisement,
    /// for each of them, once they are there.
    Announce,
    /// Ask the link whether somebody else answers for the addresses, at once; an answer comes back
    /// as [`Event::Answered`](crate::Event::Answered).
    ProbeAddresses,
    /// Something worth knowing that is no change of state.
    Notice(Notice),
    /// The state is another one; for logs, metrics and scripts.
    StateChanged {
        /// The state before.
        from: StateName,
        /// The state now.
        to: StateName,
        /// What brought it about.
        why: Reason,
    },
}

/// The states as users know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateName {
    /// Not started, or stopped.
    Initialize,
    /// Listens to a master, or for one.
    Backup,
    /// Holds the addresses.
    Master,
    /// Started, but something is wrong.
    Fault,
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StateName::Initialize => "initialize",
            StateName::Backup => "backup",
            StateName::Master => "master",
            StateName::Fault => "fault",
        })
    }
}

/// What an operator wants to know beside the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Another master is heard while this one is master.
    Rival {
        /// Which.
        from: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// The other master is not heard any more; the addresses are announced again.
    RivalGone {
        /// Which.
        from: IpAddr,
    },
    /// No master is heard, but somebody answers for the addresses: it stays backup for now.
    Suspect {
        /// The Ethernet address that answers.
        by: [u8; 6],
    },
    /// It takes over although somebody answers for the addresses.
    TakesOverAnswered {
        /// The Ethernet address that answers.
        by: [u8; 6],
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Rival { from, priority } => {
                write!(f, "{from} (priority {priority}) is master, too")
            }
            Notice::RivalGone { from } => {
                write!(
                    f,
                    "the other master {from} is gone; announcing the addresses again"
                )
            }
            Notice::Suspect { by } => write!(
                f,
                "no master is heard, but {} answers for the addresses; waiting",
                Mac(by)
            ),
            Notice::TakesOverAnswered { by } => {
                write!(
                    f,
                    "takes over although {} answers for the addresses",
                    Mac(by)
                )
            }
        }
    }
}

struct Mac<'a>(&'a [u8; 6]);

impl fmt::Display for Mac<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What brought a change of state about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The startup.
    Started,
    /// The shutdown.
    Stopped,
    /// A fault was raised, or was there at the startup.
    Faulted(Fault),
    /// The last fault was cleared.
    FaultsCleared,
    /// No advert in time.
    MasterSilent {
        /// Whose, if one was ever heard, and its priority.
        master: Option<(IpAddr, u8)>,
    },
    /// The master said that it gives up (priority 0).
    MasterResigned {
        /// Which.
        master: IpAddr,
    },
    /// The living master has a lower priority.
    Preempts {
        /// Which.
        master: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Another master has a higher priority.
    HigherPriority {
        /// Which.
        master: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Another master has the same priority and a greater address.
    GreaterAddress {
        /// Which.
        master: IpAddr,
    },
    /// It was told to hand over.
    Yielded,
    /// It handed over, and nobody took over.
    NoSuccessor,
    /// Another member of its sync group is not master any more.
    SyncGroup,
    /// It did not run for so long that a peer may have taken over.
    Slept {
        /// How long its advert was overdue.
        late: Duration,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Started => f.write_str("started"),
            Reason::Stopped => f.write_str("stopped"),
            Reason::Faulted(fault) => fault.fmt(f),
            Reason::FaultsCleared => f.write_str("everything is well again"),
            Reason::MasterSilent { master: None } => f.write_str("no master was heard"),
            Reason::MasterSilent {
                master: Some((master, priority)),
            } => {
                write!(f, "the master {master} (priority {priority}) fell silent")
            }
            Reason::MasterResigned { master } => write!(f, "the master {master} gave up"),
            Reason::Preempts { master, priority } => {
                write!(
                    f,
                    "takes over from {master}, whose priority {priority} is lower"
                )
            }
            Reason::HigherPriority { master, priority } => {
                write!(f, "{master} has the higher priority {priority}")
            }
            Reason::GreaterAddress { master } => {
                write!(f, "{master} has the same priority and the greater address")
            }
            Reason::Yielded => f.write_str("hands over"),
            Reason::NoSuccessor => f.write_str("nobody took over"),
            Reason::SyncGroup => f.write_str("follows its sync group"),
            Reason::Slept { late } => write!(f, "did not run for {late:?}; looks who is master"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_reasons_read_as_sentences_for_the_operator() {
        let master = IpAddr::from([192, 0, 2, 2]);
        check(StateName::Initialize, "initialize");
        check(StateName::Backup, "backup");
        check(StateName::Master, "master");
        check(StateName::Fault, "fault");
        check(Reason::Started, "started");
        check(Reason::Stopped, "stopped");
        check(
            Reason::Faulted(Fault::InterfaceMissing),
            "the interface does not exist",
        );
        check(
            Reason::Faulted(Fault::InterfaceDown),
            "the interface is down",
        );
        check(
            Reason::Faulted(Fault::NoAddress),
            "the interface has no address to send adverts from",
        );
        check(
            Reason::Faulted(Fault::NoSocket),
            "there is no socket for adverts",
        );
        check(Reason::FaultsCleared, "everything is well again");
        check(Reason::MasterSilent { master: None }, "no master was heard");
        check(
            Reason::MasterSilent {
                master: Some((master, 150)),
            },
            "the master 192.0.2.2 (priority 150) fell silent",
        );
        check(
            Reason::MasterResigned { master },
            "the master 192.0.2.2 gave up",
        );
        check(
            Reason::Preempts {
                master,
                priority: 50,
            },
            "takes over from 192.0.2.2, whose priority 50 is lower",
        );
        check(
            Reason::HigherPriority {
                master,
                priority: 150,
            },
            "192.0.2.2 has the higher priority 150",
        );
        check(
            Reason::GreaterAddress { master },
            "192.0.2.2 has the same priority and the greater address",
        );
    }

    fn check(value: impl fmt::Display, text: &str) {
        assert_eq!(value.to_string(), text);
    }
}
