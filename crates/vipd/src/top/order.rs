//! What an operator can order from `vipctl top`.

use std::path::Path;

use crate::control::client;
use crate::control::real_servers;
use crate::overrides::Change;
use crate::status::{RealServerStatus, VirtualServerStatus, VrrpStatus};

/// An order that waits for a yes, or was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    whom: Whom,
    /// What exactly will be done, for the operator who is asked.
    words: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    Real {
        virtual_server: String,
        real_server: String,
        change: Change,
    },
    Router(String),
}

impl Order {
    /// A change of a real server; only drain, disable and enable come from here.
    pub(super) fn real_server(
        change: Change,
        server: &VirtualServerStatus,
        real: &RealServerStatus,
    ) -> Order {
        let (name, address) = (&server.name, &real.address);
        let active = real.connections.active;
        let words = match change {
            Change::Drain => format!(
                "drain {address} of {name}: it gets no new connections, the {active} it has go on; \
                 also after a restart, until it is enabled"
            ),
            Change::Disable => format!(
                "disable {address} of {name}: out of the pool at once, the {active} connections it \
                 has break; also after a restart, until it is enabled"
            ),
            Change::Enable => format!(
                "enable {address} of {name}: it gets new connections again while its checks pass"
            ),
            Change::Weight(weight) => format!("give {address} of {name} weight {weight}"),
            Change::Reset => format!("give {address} of {name} its configured weight"),
        };
        Order {
            whom: Whom::Real {
                virtual_server: name.clone(),
                real_server: address.clone(),
                change,
            },
            words,
        }
    }

    /// A handover to a peer.
    pub(super) fn switch_over(router: &VrrpStatus) -> Order {
        Order {
            words: format!(
                "switch {} over: its addresses ({}) go to a peer now",
                router.name,
                router.virtual_addresses.join(" ")
            ),
            whom: Whom::Router(router.name.clone()),
        }
    }

    /// What exactly will be done.
    #[must_use]
    pub fn words(&self) -> &str {
        &self.words
    }

    /// Gives it to the daemon; returns what came of it.
    ///
    /// # Errors
    ///
    /// Why it was not done.
    pub async fn carry_out(&self, socket: &Path) -> Result<String, String> {
        match &self.whom {
            Whom::Router(router) => client::switchover(socket, router).await,
            Whom::Real {
                virtual_server,
                real_server,
                change,
            } => {
                // What would leave nobody to serve is for `vipctl drain --force`.
                let order = real_servers::Order {
                    change: *change,
                    force: false,
                };
                client::real_server(socket, virtual_server, real_server, order).await
            }
        }
    }
}
