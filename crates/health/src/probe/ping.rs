//! ICMP and ICMPv6 echo (RFC 792, RFC 4443 §4).
//!
//! Raw sockets, because those for unprivileged pings exist only where `net.ipv4.ping_group_range`
//! lets them. Each echo has a socket of its own for its time, connected to the address: the kernel
//! then leaves out what others send, and the route is that of the moment.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pnet_packet::util::checksum;

use super::datagram::{Carries, Datagrams, random};
use super::{Passed, progress};
use crate::check::{CheckSpec, Route};
use crate::failure::{Failure, Phase};

/// An echo: type, code, checksum, and twelve bytes by which the answer is known: identifier and
/// sequence number (RFC 792), and data.
const ECHO_LENGTH: usize = 16;
/// Room for the answer behind the longest IPv4 header; what is longer is not the answer.
const RECEIVE_MAX: usize = 128;

#[derive(Debug)]
pub(super) struct PingProbe {
    target: IpAddr,
    route: Route,
    timeout: Duration,
}

impl PingProbe {
    pub(super) fn new(spec: &CheckSpec) -> PingProbe {
        PingProbe {
            target: spec.target.ip(),
            route: spec.route.clone(),
            timeout: spec.timeout,
        }
    }

    pub(super) async fn run(&self) -> Result<Passed, Failure> {
        let asked = async {
            let echo = Echo::send(self.target, &self.route).await?;
            echo.answered().await
        };
        let phase = Phase::Asked { others: 0 };
        progress::within(self.timeout, phase, asked).await?;
        Ok(Passed::default())
    }
}

/// An echo that is on its way.
#[derive(Debug)]
pub struct Echo {
    socket: Datagrams,
    message: Message,
}

impl Echo {
    /// Sends an echo to `address`.
    ///
    /// # Errors
    ///
    /// [`Failure::Resource`] where this host cannot ask; otherwise why nothing leads there.
    pub async fn send(address: IpAddr, route: &Route) -> Result<Echo, Failure> {
        // A raw socket has no ports.
        let target = SocketAddr::new(address, 0);
        let socket = Datagrams::connect(Carries::Icmp, target, route)?;
        let message = Message::new(address);
        socket.send(&message.request()).await?;
        Ok(Echo { socket, message })
    }

    /// Waits for the answer, without end.
    ///
    /// # Errors
    ///
    /// What somebody says against the echo: a router, the address itself, or this host where no
    /// neighbour answers. The answer may come all the same, and can be waited for again.
    pub async fn answered(&self) -> Result<(), Failure> {
        let mut buffer = [0; RECEIVE_MAX];
        loop {
            let length = self.socket.receive(&mut buffer).await?;
            let packet = buffer.get(..length).unwrap_or_default();
            if self.message.is_answered_by(packet) {
                return Ok(());
            }
        }
    }
}

/// The bytes of an echo: to whom, and by what its answer is known.
#[derive(Debug)]
struct Message {
    to: IpAddr,
    /// Identifier, sequence number and data: not to be guessed, and different each time.
    mark: [u8; 12],
}

impl Message {
    fn new(to: IpAddr) -> Message {
        let mut mark = [0; 12];
        for (to, from) in mark.iter_mut().zip(random().into_iter().chain(random())) {
            *to = from;
        }
        Message { to, mark }
    }

    fn request(&self) -> [u8; ECHO_LENGTH] {
        match self.to {
            IpAddr::V4(_) => self.bytes(8, true),
            // The kernel fills the checksum in (RFC 3542 §3.1).
            IpAddr::V6(_) => self.bytes(128, false),
        }
    }

    fn bytes(&self, kind: u8, with_checksum: bool) -> [u8; ECHO_LENGTH] {
        let mut bytes = [0; ECHO_LENGTH];
        let head = [kind, 0, 0, 0].into_iter();
        for (to, from) in bytes.iter_mut().zip(head.chain(self.mark)) {
            *to = from;
        }
        if with_checksum {
            let [high, low] = checksum(&bytes, 1).to_be_bytes();
            let [_, _, first, second, ..] = &mut bytes;
            (*first, *second) = (high, low);
        }
        bytes
    }

    /// Whether a packet, as a raw socket gives it, is the answer.
    fn is_answered_by(&self, packet: &[u8]) -> bool {
        match self.to {
            IpAddr::V4(to) => {
                // raw(7): with the IPv4 header, whose length is in its first byte.
                let Some(header_length) = packet.first().map(|first| usize::from(first & 15) * 4)
                else {
                    return false;
                };
                packet.get(12..16) == Some(&to.octets())
                    && packet.get(header_length..) == Some(&self.bytes(0, true))
            }
            // Without header; the kernel has compared the source and the checksum.
            IpAddr::V6(_) => {
                let expected = self.bytes(129, false);
                packet.len() == ECHO_LENGTH
                    && packet.get(..2) == expected.get(..2)
                    && packet.get(4..) == expected.get(4..)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_answer_is_one() {
        let echo = Message::new("10.99.0.2".parse().unwrap());
        let packet = |source: [u8; 4], message: &[u8]| {
            let mut packet = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 1, 0, 0];
            packet.extend(source);
            packet.extend([10, 99, 0, 1]);
            packet.extend(message);
            packet
        };
        let answer = packet([10, 99, 0, 2], &echo.bytes(0, true));
        assert!(echo.is_answered_by(&answer));
        let others = [
            packet([10, 99, 0, 2], &echo.request()),
            packet([10, 99, 0, 3], &echo.bytes(0, true)),
            packet([10, 99, 0, 2], &echo.bytes(0, false)),
            packet([10, 99, 0, 2], &Message::new(echo.to).bytes(0, true)),
            [answer.as_slice(), &[0]].concat(),
            vec![0x4f; 40],
            Vec::new(),
        ];
        for other in others {
            assert!(!echo.is_answered_by(&other), "{other:?}");
        }
        for length in 0..answer.len() {
            assert!(!echo.is_answered_by(&answer[..length]), "{length} bytes");
        }
    }
}
