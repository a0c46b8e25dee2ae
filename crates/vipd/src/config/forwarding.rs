//! `forwarding` and `tunnel`, of a virtual server or a real server: how packets reach a real server.

use ipvs::{Forwarding, Tunnel, TunnelChecksum};

use super::Method;
use super::value::Value;

/// `forwarding`, the kind of the tunnel still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    DirectRouting,
    Nat,
    FullNat,
    Tunnel,
}

impl Kind {
    pub(super) fn read(v: &Value<'_>) -> Option<Kind> {
        v.choice(
            &[
                ("dr", Kind::DirectRouting),
                ("nat", Kind::Nat),
                ("tun", Kind::Tunnel),
                ("fullnat", Kind::FullNat),
            ],
            &[],
        )
    }

    /// The method, given the tunnel it would use.
    pub(super) fn method(self, tunnel: Option<Tunnel>) -> Option<Method> {
        Some(match self {
            Kind::DirectRouting => Method::plain(Forwarding::DirectRouting),
            Kind::Nat => Method::plain(Forwarding::Nat),
            Kind::FullNat => Method {
                forwarding: Forwarding::Nat,
                masquerade: true,
            },
            Kind::Tunnel => Method::plain(Forwarding::Tunnel(tunnel?)),
        })
    }
}

impl Method {
    /// A method that leaves the client's address as it is.
    #[must_use]
    pub fn plain(forwarding: Forwarding) -> Method {
        Method {
            forwarding,
            masquerade: false,
        }
    }
}

/// `tunnel`: the encapsulation.
pub(super) fn tunnel(v: &Value<'_>) -> Option<Tunnel> {
    #[derive(Clone, Copy)]
    enum Type {
        Ipip,
        Gue,
        Gre,
    }
    let mut s = v.section()?;
    let kind = s.or("type", Type::Ipip, |v| {
        let words = [("ipip", Type::Ipip), ("gue", Type::Gue), ("gre", Type::Gre)];
        v.choice(&words, &[])
    });
    let none = ("none", TunnelChecksum::None);
    let full = ("full", TunnelChecksum::Full);
    let remote = ("remote", TunnelChecksum::Remote);
    let tunnel = match kind {
        None => {
            s.get("port");
            s.get("checksum");
            None
        }
        Some(Type::Ipip) => {
            s.pointless(
                &["port", "checksum"],
                "a tunnel of type \"ipip\" has none",
                "remove it, or write type = \"gue\"",
            );
            Some(Tunnel::Ipip)
        }
        Some(Type::Gue) => {
            let port = s.need("port", "6080", |v| v.integer(1..=u16::MAX));
            let checksum = s.or("checksum", TunnelChecksum::None, |v| {
                v.choice(&[none, full, remote], &[])
            });
            port.zip(checksum)
                .map(|(port, checksum)| Tunnel::Gue { port, checksum })
        }
        Some(Type::Gre) => {
            s.pointless(
                &["port"],
                "a tunnel of type \"gre\" has none",
                "remove it, or write type = \"gue\"",
            );
            let checksum = s.or("checksum", TunnelChecksum::None, |v| {
                v.choice(&[none, full], &[])
            });
            checksum.map(|checksum| Tunnel::Gre { checksum })
        }
    };
    s.finish();
    tunnel
}
