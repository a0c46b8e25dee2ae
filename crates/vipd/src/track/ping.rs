//! Reference addresses: ICMP and ICMPv6 echo (RFC 792, RFC 4443 §4).
//!
//! Raw sockets, because those for unprivileged pings exist only where `net.ipv4.ping_group_range`
//! lets them. Each echo has a socket of its own for its time, connected to the address: the kernel then
//! leaves out what others send, and the route is that of the moment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pnet_packet::util::checksum;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Report, Reporter};
use crate::config::Reachable;

/// A shorter interval counts as this one, so that no mistake makes a busy loop.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// An echo: type, code, checksum, and twelve bytes by which the answer is known: identifier and
/// sequence number (RFC 792), and data.
const ECHO_LENGTH: usize = 16;
/// Room for the answer behind the longest IPv4 header; what is longer is not the answer.
const RECEIVE_MAX: usize = 128;

/// What came of asking every address once.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    Answered,
    Silent,
    /// This host could not ask (no file descriptors left): that says nothing about the others.
    NotAsked,
}

/// Asks the reference addresses of a virtual router over and over: one answer is enough, and `fall`
/// rounds without any are loss.
pub(super) async fn keep_asking(router: String, reachable: Reachable, report: Reporter) {
    let mut told = None;
    let mut silent = 0_u32;
    let mut beat = interval(reachable.interval.max(SHORTEST_INTERVAL));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let ok = match ask(&reachable.any_of, reachable.timeout).await {
            Round::Answered => {
                silent = 0;
                true
            }
            Round::Silent => {
                silent = silent.saturating_add(1);
                if silent < reachable.fall {
                    continue;
                }
                false
            }
            Round::NotAsked => continue,
        };
        if told != Some(ok) {
            told = Some(ok);
            let router = router.clone();
            report(Report::Reachable { router, ok });
        }
    }
}

/// All at once; ends with the first answer.
async fn ask(addresses: &[IpAddr], patience: Duration) -> Round {
    let mut echoes: FuturesUnordered<_> = addresses
        .iter()
        .map(|address| timeout(patience, echo(*address)))
        .collect();
    let mut round = Round::NotAsked;
    while let Some(result) = echoes.next().await {
        match result {
            Ok(Round::Answered) => return Round::Answered,
            Ok(Round::Silent) | Err(_) => round = Round::Silent,
            Ok(Round::NotAsked) => {}
        }
    }
    round
}

/// Sends an echo and waits for its answer, without end.
async fn echo(address: IpAddr) -> Round {
    let Ok(socket) = open(address) else {
        return Round::NotAsked;
    };
    let echo = Echo::new(address);
    // No route, or a neighbour that does not answer ARP, is no answer, at once or later.
    if socket
        .connect(&SocketAddr::new(address, 0).into())
        .and_then(|()| socket.send(&echo.request()))
        .is_err()
    {
        return Round::Silent;
    }
    // To the runtime it is a socket that is connected and has datagrams, as UDP's are.
    let Ok(socket) = UdpSocket::from_std(socket.into()) else {
        return Round::NotAsked;
    };
    let mut buffer = [0; RECEIVE_MAX];
    loop {
        // An error is what a router says (unreachable). It may be passing: the time is not over.
        let length = socket.recv(&mut buffer).await.unwrap_or(0);
        if echo.is_answered_by(buffer.get(..length).unwrap_or_default()) {
            return Round::Answered;
        }
    }
}

fn open(address: IpAddr) -> io::Result<Socket> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))
}

/// One echo: to whom, and by what its answer is known.
struct Echo {
    to: IpAddr,
    /// Identifier, sequence number and data: not to be guessed, and different each time.
    mark: [u8; 12],
}

impl Echo {
    fn new(to: IpAddr) -> Echo {
        // The keys of a hash table come from the kernel's random numbers.
        let random = || RandomState::new().build_hasher().finish().to_ne_bytes();
        let mut mark = [0; 12];
        for (to, from) in mark.iter_mut().zip(random().into_iter().chain(random())) {
            *to = from;
        }
        Echo { to, mark }
    }

    fn request(&self) -> [u8; ECHO_LENGTH] {
        match self.to {
            IpAddr::V4(_) => self.message(8, true),
            // The kernel fills the checksum in (RFC 3542 §3.1).
            IpAddr::V6(_) => self.message(128, false),
        }
    }

    fn message(&self, kind: u8, with_checksum: bool) -> [u8; ECHO_LENGTH] {
        let mut message = [0; ECHO_LENGTH];
        let head = [kind, 0, 0, 0].into_iter();
        for (to, from) in message.iter_mut().zip(head.chain(self.mark)) {
            *to = from;
        }
        if with_checksum {
            let [high, low] = checksum(&message, 1).to_be_bytes();
            let [_, _, first, second, ..] = &mut message;
            (*first, *second) = (high, low);
        }
        message
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
                    && packet.get(header_length..) == Some(&self.message(0, true))
            }
            // Without header; the kernel has compared the source and the checksum.
            IpAddr::V6(_) => {
                let expected = self.message(129, false);
                packet.len() == ECHO_LENGTH
                    && packet.get(..2) == expected.get(..2)
                    && packet.get(4..) == expected.get(4..)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::sync::Arc;

    use rustix::thread::UnshareFlags;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    #[test]
    fn one_answer_is_enough_and_only_rounds_without_any_are_loss() {
        in_namespace(async |peer| {
            let reachable = Reachable {
                any_of: ["192.0.2.77", "10.99.0.3", "10.99.0.2", "2001:db8:99::2"]
                    .map(|address| address.parse().unwrap())
                    .to_vec(),
                interval: Duration::from_millis(50),
                timeout: Duration::from_millis(40),
                fall: 3,
            };
            let (sender, mut reports) = unbounded_channel();
            let asking = tokio::spawn(keep_asking(
                "web".to_owned(),
                reachable,
                Arc::new(move |report| drop(sender.send(report))),
            ));
            assert!(next(&mut reports).await);
            peer.ignores_echo(4, true);
            let other = timeout(Duration::from_millis(300), reports.recv()).await;
            assert!(other.is_err(), "IPv6 answers still: {other:?}");
            let silenced = tokio::time::Instant::now();
            peer.ignores_echo(6, true);
            assert!(!next(&mut reports).await);
            assert!(silenced.elapsed() >= Duration::from_millis(90), "3 rounds");
            peer.ignores_echo(4, false);
            assert!(next(&mut reports).await);
            asking.abort();
        });
    }

    #[test]
    fn each_family_is_asked() {
        in_namespace(async |peer| {
            let ask = async |address: &str| {
                ask(&[address.parse().unwrap()], Duration::from_millis(200)).await
            };
            assert_eq!(ask("10.99.0.2").await, Round::Answered);
            assert_eq!(ask("2001:db8:99::2").await, Round::Answered);
            peer.ignores_echo(4, true);
            peer.ignores_echo(6, true);
            assert_eq!(ask("10.99.0.2").await, Round::Silent);
            assert_eq!(ask("2001:db8:99::2").await, Round::Silent);
            assert_eq!(ask("192.0.2.77").await, Round::Silent, "no route");
        });
    }

    #[test]
    fn only_the_exact_answer_is_one() {
        let echo = Echo::new("10.99.0.2".parse().unwrap());
        let packet = |source: [u8; 4], message: &[u8]| {
            let mut packet = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 1, 0, 0];
            packet.extend(source);
            packet.extend([10, 99, 0, 1]);
            packet.extend(message);
            packet
        };
        let answer = packet([10, 99, 0, 2], &echo.message(0, true));
        assert!(echo.is_answered_by(&answer));
        let others = [
            packet([10, 99, 0, 2], &echo.request()),
            packet([10, 99, 0, 3], &echo.message(0, true)),
            packet([10, 99, 0, 2], &echo.message(0, false)),
            packet([10, 99, 0, 2], &Echo::new(echo.to).message(0, true)),
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

    async fn next(reports: &mut UnboundedReceiver<Report>) -> bool {
        match timeout(Duration::from_secs(10), reports.recv()).await {
            Ok(Some(Report::Reachable { ok, .. })) => ok,
            other => panic!("{other:?}"),
        }
    }

    /// A neighbour at the other end of a cable: 10.99.0.2 and 2001:db8:99::2. Its namespace lives as
    /// long as the process in it.
    struct Peer(Child);

    impl Peer {
        fn new() -> Peer {
            let mut sleep = Command::new("unshare");
            let peer = Peer(sleep.args(["--net", "sleep", "60"]).spawn().unwrap());
            let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
            let link = format!("/proc/{}/ns/net", peer.0.id());
            while std::fs::read_link(&link).unwrap() == own {
                std::thread::yield_now();
            }
            run(&format!(
                "ip link add e0 type veth peer name e0 netns {}",
                peer.0.id()
            ));
            for command in addressing(1) {
                run(&command);
            }
            for command in addressing(2) {
                peer.run(&command);
            }
            peer
        }

        fn run(&self, command: &str) {
            run(&format!("nsenter --net --target {} {command}", self.0.id()));
        }

        fn ignores_echo(&self, family: u8, ignores: bool) {
            let name = if family == 4 {
                "net.ipv4.icmp_echo_ignore_all"
            } else {
                "net.ipv6.icmp.echo_ignore_all"
            };
            self.run(&format!("sysctl -qw {name}={}", u8::from(ignores)));
        }
    }

    impl Drop for Peer {
        fn drop(&mut self) {
            let _gone = self.0.kill();
            let _reaped = self.0.wait();
        }
    }

    fn addressing(host: u8) -> [String; 3] {
        [
            format!("ip address add 10.99.0.{host}/24 dev e0"),
            format!("ip address add 2001:db8:99::{host}/64 dev e0 nodad"),
            "ip link set e0 up".to_owned(),
        ]
    }

    fn run(command: &str) {
        let mut words = command.split(' ');
        let mut program = Command::new(words.next().unwrap());
        let output = program.args(words).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {errors}");
    }

    /// Runs a test on a thread of its own in a network namespace of its own, with a neighbour.
    fn in_namespace(test: impl AsyncFnOnce(&Peer) + Send + 'static) {
        let thread = std::thread::spawn(|| {
            #[allow(
                deprecated,
                reason = "deprecated for UnshareFlags::FILES, which is not used here"
            )]
            let unshared = rustix::thread::unshare(UnshareFlags::NEWNET);
            unshared.expect("these tests need to be run by root");
            let peer = Peer::new();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                // For a moment after the link is up, IPv6 does not work yet.
                let patience = Duration::from_millis(100);
                for family in ["10.99.0.2", "2001:db8:99::2"] {
                    let address = [family.parse().unwrap()];
                    let mut tries = 0;
                    while ask(&address, patience).await != Round::Answered {
                        tries += 1;
                        assert!(tries < 100, "{family} never answers");
                    }
                }
                test(&peer).await;
            });
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
