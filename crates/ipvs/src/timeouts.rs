//! How long the kernel keeps connections on which nothing moves (`ipvsadm --set`).

use std::fmt;
use std::time::Duration;

/// The timeouts of all services, whole seconds. Zero in a request keeps what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// Of an established TCP connection; the kernel begins with 900 s.
    pub tcp: Duration,
    /// Of a TCP connection after a FIN; the kernel begins with 120 s.
    pub tcp_fin: Duration,
    /// Of UDP; the kernel begins with 300 s.
    pub udp: Duration,
}

impl Timeouts {
    /// What the kernel holds after it was asked for `self` on top of `found`.
    #[must_use]
    pub fn over(&self, found: &Timeouts) -> Timeouts {
        let pick = |wanted: Duration, found: Duration| match wanted.as_secs() {
            0 => found,
            seconds => Duration::from_secs(seconds),
        };
        Timeouts {
            tcp: pick(self.tcp, found.tcp),
            tcp_fin: pick(self.tcp_fin, found.tcp_fin),
            udp: pick(self.udp, found.udp),
        }
    }
}

impl fmt::Display for Timeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timeouts { tcp, tcp_fin, udp } = self;
        f.write_str("timeouts")?;
        for (separator, name, value) in [
            ("", "tcp", tcp),
            (",", "tcp fin", tcp_fin),
            (",", "udp", udp),
        ] {
            write!(f, "{separator} {name} {} s", value.as_secs())?;
        }
        Ok(())
    }
}
